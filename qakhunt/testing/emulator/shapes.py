"""Whole answers of the wrong shape: what is done to the JSON of a true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.cells import encode_body

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[["Body"], None]

_NUMBERS = ("int", "long", "Int32", "Int64")


@dataclass
class Body:
    """A true answer of any service; ``value`` is all of it."""

    value: Any

    @property
    def is_graph(self) -> bool:
        """Whether Graph answered, whose rows are objects."""
        return "results" in self.value

    @property
    def is_kusto(self) -> bool:
        """Whether Kusto answered, in frames."""
        return isinstance(self.value, list)

    @property
    def tables(self) -> list[dict[str, Any]]:
        """The tables of results of Log Analytics or Kusto."""
        if self.is_kusto:
            return [one for one in self.value if one.get("TableKind") == "PrimaryResult"]
        found: list[dict[str, Any]] = self.value["tables"]
        return found

    @tables.setter
    def tables(self, tables: list[dict[str, Any]]) -> None:
        if self.is_kusto:
            at = self.value.index(self.result)
            self.value[at : at + 1] = tables
        else:
            self.value["tables"] = tables

    @property
    def result(self) -> dict[str, Any]:
        """What holds columns and rows: the first table, or Graph's whole body."""
        found: dict[str, Any] = self.value if self.is_graph else self.tables[0]
        return found

    @property
    def beside(self) -> dict[str, Any]:
        """What holds members beside the rows: the body, or Kusto's last frame."""
        found: dict[str, Any] = self.value[-1] if self.is_kusto else self.value
        return found

    def key(self, name: str) -> str:
        """The service's own key of a table's or column's ``name``, ``type``, ``columns`` ..."""
        if not self.is_kusto:
            own = {"columns": "schema", "rows": "results"} if self.is_graph else {"table": "name"}
            return own.get(name, name)
        return {
            "name": "ColumnName", "type": "ColumnType", "columns": "Columns", "rows": "Rows",
            "table": "TableName",
        }[name]  # fmt: skip

    @property
    def columns(self) -> list[dict[str, str]]:
        """The columns; see ``key`` for what each has."""
        found: list[dict[str, str]] = self.result[self.key("columns")]
        return found

    @property
    def rows(self) -> Any:
        """The rows."""
        return self.result[self.key("rows")]

    @rows.setter
    def rows(self, rows: Any) -> None:
        self.result[self.key("rows")] = rows


def changed(body: bytes, change: Change) -> bytes:
    """The bytes of an answer after a change of its values."""
    value = msgspec.json.decode(body)
    change(Body(value))
    return encode_body(value)


def beside(**members: Any) -> Change:
    """More members; ``at_`` in a name stands for ``@odata.``."""
    named = {name.replace("at_", "@odata."): item for name, item in members.items()}
    return lambda body: body.beside.update(named)


def rows_are(rows: Any) -> Change:
    """Something else in place of the rows."""

    def change(body: Body) -> None:
        body.rows = rows

    return change


def second_table(body: Body) -> None:
    """The rows stand in a second table, and the first has none."""
    first = body.result
    body.tables = [{**first, body.key("rows"): []}, {**first, body.key("table"): "SecondaryResult"}]


def same_table_twice(body: Body) -> None:
    """Two tables of one name."""
    body.tables = body.tables * 2


def no_table(body: Body) -> None:
    """No table among the answer's."""
    body.tables = []


def without_frame(kind: str) -> Change:
    """Kusto's frames without those of a kind."""

    def change(body: Body) -> None:
        body.value[:] = [one for one in body.value if one["FrameType"] != kind]

    return change


def no_columns(body: Body) -> None:
    """Columns and rows without any."""
    body.columns.clear()
    body.rows = []


def other_columns(body: Body) -> None:
    """Another query's columns."""
    for number, column in enumerate(body.columns):
        if body.is_graph:
            for row in body.rows:
                row[f"Other{number}"] = row.pop(column["name"], None)
        column[body.key("name")] = f"Other{number}"


def twin_columns(body: Body) -> None:
    """Two columns of one name."""
    name = body.key("name")
    body.columns[1][name] = body.columns[0][name]


def short_rows(body: Body) -> None:
    """A cell less than there are columns."""
    body.rows = [row[:-1] for row in body.rows]


def long_rows(body: Body) -> None:
    """A cell more than there are columns."""
    body.rows = [{**r, "Extra": 1} if body.is_graph else [*r, 1] for r in body.rows]


def numbers_are(number: Any) -> Change:
    """Something else in place of each number."""

    def change(body: Body) -> None:
        for position, column in enumerate(body.columns):
            if column[body.key("type")] in _NUMBERS:
                for row in body.rows:
                    row[column["name"] if body.is_graph else position] = number

    return change
