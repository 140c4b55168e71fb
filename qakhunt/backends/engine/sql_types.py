"""KQL's types in DuckDB, and the SQL spellings that need care."""

from __future__ import annotations

SQL_TYPES = {
    "bool": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "real": "DOUBLE",
    "decimal": "DECIMAL(38,17)", "string": "VARCHAR", "datetime": "TIMESTAMP",
    "timespan": "INTERVAL", "guid": "UUID", "dynamic": "JSON",
}  # fmt: skip
"""KQL type -> DuckDB type. Datetimes are naive UTC at microseconds."""

_KQL_TYPES = {
    "BOOLEAN": "bool",
    "TINYINT": "int", "SMALLINT": "int", "INTEGER": "int", "UTINYINT": "int", "USMALLINT": "int",
    "BIGINT": "long", "HUGEINT": "long", "UINTEGER": "long", "UBIGINT": "long", "UHUGEINT": "long",
    "FLOAT": "real", "DOUBLE": "real",
    "VARCHAR": "string", "UUID": "guid", "INTERVAL": "timespan", "JSON": "dynamic",
    "TIME": "timespan", "DATE": "datetime", '"NULL"': "string",
}  # fmt: skip


def kql_type(sql_type: str) -> str:
    """The KQL type of a DuckDB result column."""
    name = sql_type.upper()
    if name.startswith("TIMESTAMP"):
        return "datetime"
    if name.startswith("DECIMAL"):
        return "decimal"
    return _KQL_TYPES.get(name, "dynamic")


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def typed(name: str, sql_type: str) -> str:
    """SQL that reads a text or JSON column as ``sql_type``; NULL where it cannot."""
    column = identifier(name)
    if sql_type == "TIMESTAMP":
        return f"TRY_CAST({column} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
    if sql_type == "JSON":
        return json_value(column)
    if sql_type == "VARCHAR":
        return column
    return f"TRY_CAST({column} AS {sql_type})"


def json_value(column: str) -> str:
    """A dynamic cell: an object or array that arrived as text becomes a value."""
    text = f"CAST({column} AS VARCHAR)"
    inner = f"(TRY_CAST({column} AS JSON) ->> '$')"
    return (
        f"CASE WHEN {column} IS NULL OR {text} = '' THEN NULL "
        f"WHEN TRY_CAST({column} AS JSON) IS NULL THEN to_json({text}) "
        f"WHEN json_type(TRY_CAST({column} AS JSON)) = 'VARCHAR' "
        f"AND regexp_matches({inner}, '^\\s*[\\[{{]') "
        f"THEN coalesce(TRY_CAST({inner} AS JSON), TRY_CAST({column} AS JSON)) "
        f"ELSE TRY_CAST({column} AS JSON) END"
    )
