"""What a query reads from outside the records: given as a file or a table, else unknown.

Unknown columns are null, and the plan says which: an answer that rests on them is
no whole answer.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from qakhunt.backends.engine import external
from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.rewriting.plan import (
    HEADS,
    Planner,
    argument,
    foreign_names,
    names_in,
    no_column,
    refusal,
    rewrites,
)
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier
from qakhunt.core.errors import EventsError
from qakhunt.kql.syntax import (
    Call,
    Declaration,
    Group,
    Literal,
    Name,
    Named,
    Node,
    Operator,
    Pipeline,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qakhunt.kql.schema import Columns

_PROFILE: Columns = {
    "SHA1": "string", "SHA256": "string", "MD5": "string", "FileSize": "long",
    "GlobalPrevalence": "int", "GlobalFirstSeen": "datetime", "GlobalLastSeen": "datetime",
    "Signer": "string", "Issuer": "string", "SignerHash": "string", "IsCertificateValid": "bool",
    "IsRootSignerMicrosoft": "bool", "SignatureState": "string", "IsExecutable": "bool",
    "ThreatName": "string", "Publisher": "string", "SoftwareName": "string",
    "ProfileAvailability": "string",
}  # fmt: skip
"""What FileProfile() adds: learn.microsoft.com, advanced-hunting-fileprofile-function."""
_LIST: Columns = {
    "_DTItemId": "string", "LastUpdatedTimeUTC": "datetime", "SearchKey": "string",
    "WatchlistItem": "dynamic",
}  # fmt: skip
"""What every watchlist has: learn.microsoft.com, sentinel/watchlists-queries."""
_GEO = "geo_info_from_ip_address"
_ELSEWHERE = ("workspace", "cluster", "database", "app", "resource", "adx", "arg")
_GEO_STAGE = "_networks"
_IP_NUMBER = (
    "list_reduce(list_transform(string_split({0}, '.'), lambda p: TRY_CAST(p AS BIGINT)), "
    "lambda a, b: a * 256 + b)"
)


def external_data(planner: Planner, operator: Node) -> None:
    """``externaldata (columns) [addresses] with (...)``, from the files given for them."""
    if not isinstance(operator, Operator) or len(operator.arguments) != 2:
        raise refusal("this form of 'externaldata'", operator)
    declared, listed = operator.arguments
    columns: Columns = {}
    for one in declared.items if isinstance(declared, Group) else ():
        if isinstance(one, Declaration):
            kind = "".join(token.text for token in one.type.tokens)
            columns[one.name] = {"double": "real", "boolean": "bool", "date": "datetime"}.get(
                kind, kind
            )
    if not columns or not set(columns.values()) <= set(SQL_TYPES):
        raise refusal("these columns of 'externaldata'", declared)
    kind, skip = _properties(operator)
    found: list[list[str | None]] = []
    for address in listed.items if isinstance(listed, Group) else ():
        if not isinstance(address, Literal):
            raise Unreadable("externaldata needs its addresses as literals", address.start)
        found += _records(planner, address, kind, columns)[skip:]
    relation = planner.host.keep(columns, found)
    stage = planner.stage(f"SELECT * FROM {identifier(relation)}")
    planner.read(operator.start, operator.end, stage)


def _properties(operator: Operator) -> tuple[str, int]:
    """The format, if it is said, and how many records to leave out at the start."""
    kind, skip = "", 0
    items: Iterable[Node] = operator.clause("with") or ()
    for one in [
        inner for item in items for inner in (item.items if isinstance(item, Group) else [item])
    ]:
        name = one.names[0] if isinstance(one, Named) and one.names else ""
        value = argument(one)
        words = "".join(token.text for token in value.tokens).strip("'\"h@").lower()
        if name.lower() == "format":
            kind = words
        elif name.lower() == "ignorefirstrecord":
            skip = int(words in ("true", "1"))
        elif "mapping" in name.lower():
            raise refusal(f"the property {name!r} of 'externaldata'", one)
    if kind and kind not in external.FORMATS:
        raise refusal(f"the format {kind!r} of 'externaldata'", operator)
    return kind, skip


def _records(
    planner: Planner, address: Literal, kind: str, columns: Columns
) -> list[list[str | None]]:
    name = external.shown(address.text)
    path = planner.host.external.find(address.text)
    if path is None:
        raise Unreadable(
            f"externaldata reads {name}, and no file was given for it", address.start,
            hint=f"--external {name}=PATH, or --external FOLDER that holds it as host/path",
        )  # fmt: skip
    try:
        data = external.read_bytes(path)
        return external.rows(data, kind or external.format_of(address.text), list(columns))
    except (EventsError, ValueError) as problem:
        raise Unreadable(f"externaldata {name}: {path}: {problem}", address.start) from None


def invoke(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``invoke FileProfile(column)`` as a join with the table of that name."""
    call = operator.arguments[0] if operator.arguments else operator
    if not isinstance(call, Call) or call.name != "FileProfile":
        name = f"{call.name}()" if isinstance(call, Call) else "this use of 'invoke'"
        raise refusal(f"the function {name} behind 'invoke'", call)
    known = planner.columns_before(pipeline, operator)
    first = call.arguments[0] if call.arguments else None
    key = (
        first.text
        if isinstance(first, Literal)
        else first.name
        if isinstance(first, Name)
        else "SHA1"
    )
    if key not in known:
        raise no_column(key, (first or call).start, known)
    taken = {name.casefold() for name in known}
    added = {name: kind for name, kind in _PROFILE.items() if name.casefold() not in taken}
    before = identifier(planner.stage_before(pipeline, operator).name)
    given = planner.host.tables["FileProfile"] if "FileProfile" in planner.host.loaded else None
    hash_name = "SHA256" if "SHA256" in key else "SHA1"
    if given is None or hash_name not in given:
        cells = [f"{_unknown_cell(kind)} AS {identifier(name)}" for name, kind in added.items()]
        stage = planner.stage(f"SELECT s.*, {', '.join(cells)} FROM {before} s")
        used = names_in(planner.script) & set(added)
        _note(planner, "FileProfile()", used or set(added), "FileProfile")
    else:
        cells = []
        for name, kind in added.items():
            if name in given:
                cells.append(f"{_cell(f'p.{identifier(name)}', kind)} AS {identifier(name)}")
            elif name == "ProfileAvailability":
                cells.append("CASE WHEN p._found THEN 'Available' ELSE 'Missing' END AS " + name)
            else:
                cells.append(f"{_unknown_cell(kind)} AS {identifier(name)}")
        stage = planner.stage(
            f"SELECT s.*, {', '.join(cells)} FROM {before} s LEFT JOIN (SELECT *, true AS _found "
            f'FROM "FileProfile" '
            f"QUALIFY row_number() OVER (PARTITION BY lower({hash_name})) = 1) p "
            f"ON lower(s.{identifier(key)}) = lower(p.{hash_name}) AND s.{identifier(key)} <> ''"
        )
        missing = (names_in(planner.script) & set(added)) - set(given) - {"ProfileAvailability"}
        if missing:
            _note(planner, "FileProfile()", missing, "FileProfile")
    planner.becomes(pipeline, operator, stage)


def _cell(sql: str, kind: str) -> str:
    if kind == "string":
        return f"coalesce(CAST({sql} AS VARCHAR), '')"
    return f"TRY_CAST(CAST({sql} AS VARCHAR) AS {SQL_TYPES[kind]})"


def _unknown_cell(kind: str) -> str:
    return "''" if kind == "string" else f"CAST(NULL AS {SQL_TYPES[kind]})"


def _note(planner: Planner, what: str, names: Iterable[str], table: str) -> None:
    listed = ", ".join(sorted(names))
    planner.unknown.append(
        f"{what} is answered by the service alone: {listed} could not be known "
        f"(--events {table}=PATH gives its records)"
    )


def watchlist(planner: Planner, call: Node) -> None:
    """``_GetWatchlist('alias')`` as the table ``Watchlist_alias``."""
    alias = call.arguments[0] if isinstance(call, Call) and call.arguments else None
    if not isinstance(alias, Literal) or alias.type != "string":
        raise Unreadable("_GetWatchlist() needs the alias as a literal", call.start)
    table = "Watchlist_" + re.sub(r"\W", "_", alias.text)
    own = planner.host.tables.get(table) if table in planner.host.loaded else None
    if own is None:
        columns = {**_LIST, **dict.fromkeys(foreign_names(planner, _LIST), "string")}
        cells = [f"{_unknown_cell(kind)} AS {identifier(name)}" for name, kind in columns.items()]
        sql = f"SELECT {', '.join(cells)} WHERE false"
        _note(planner, f"the watchlist {alias.text!r}", ["its items"], table)
    else:
        taken = {name.casefold() for name in own}
        lacking = {n: kind for n, kind in _LIST.items() if n.casefold() not in taken}
        cells = [f"{_unknown_cell(kind)} AS {identifier(name)}" for name, kind in lacking.items()]
        sql = f"SELECT {', '.join(['*', *cells])} FROM {identifier(table)}"
        used = names_in(planner.script) & set(lacking)
        if used:
            _note(planner, f"the watchlist {alias.text!r}", used, table)
    stage = planner.stage(sql)
    planner.read(call.start, call.end, stage)


def geography(planner: Planner, call: Node) -> None:
    """``geo_info_from_ip_address(x)`` by the table of that name: its narrowest network."""
    given = planner.host.tables[_GEO] if _GEO in planner.host.loaded else {}
    network = next((name for name in ("network", "ip") if name in given), None)
    if network is not None and isinstance(call, Call):
        if not any(stage.name == _GEO_STAGE for stage in planner.stages):
            planner.stage(_networks(network, given), name=_GEO_STAGE)
        _install_geography()
        arguments = ", ".join(map(planner.words, call.arguments))
        planner.edit(call.start, call.end, f"_geo_info({arguments})")
        return
    _note(planner, f"{_GEO}()", ["country, state, city, latitude, longitude"], _GEO)
    planner.edit(call.start, call.end, "dynamic(null)")


def _networks(network: str, given: Columns) -> str:
    """IPv4 networks as ranges of numbers, with what is known of each."""
    text = f"CAST({identifier(network)} AS VARCHAR)"
    number = _IP_NUMBER.format(f"split_part({text}, '/', 1)")
    bits = f"coalesce(TRY_CAST(split_part({text}, '/', 2) AS INTEGER), 32)"
    facts = ", ".join(
        f"{name} := {identifier(name)}"
        for name in ("country", "state", "city", "latitude", "longitude")
        if name in given
    )
    info = f"to_json(struct_pack({facts}))" if facts else "CAST('{}' AS JSON)"
    return (
        "SELECT number - number % size AS low, number - number % size + size - 1 AS high, info "
        f"FROM (SELECT {number} AS number, CAST(pow(2, 32 - {bits}) AS BIGINT) AS size, "
        f'{info} AS info FROM "{_GEO}") WHERE number IS NOT NULL'
    )


@cache
def _install_geography() -> None:
    from duckdb_kql.translate import functions

    template = (
        f"(SELECT arg_min(g.info, g.high - g.low) FROM {_GEO_STAGE} g "
        f"WHERE {_IP_NUMBER} BETWEEN g.low AND g.high)"
    )
    functions.SCALAR_FUNCTIONS["_geo_info"] = functions.FunctionSpec(
        "_geo_info", "template", template, (1,)
    )


def elsewhere(_: Planner, call: Node) -> None:
    """``workspace('w').T``: another workspace's records are not here."""
    raise refusal(
        f"{call.tokens[0].text}()", call,
        "name the table alone, and give that place's records with --events TABLE=PATH",
    )  # fmt: skip


rewrites(invoke, "invoke")
HEADS.update({
    "externaldata": external_data, "external_data": external_data, "_GetWatchlist": watchlist,
    _GEO: geography,
    **dict.fromkeys(_ELSEWHERE, elsewhere),
})  # fmt: skip
