"""``evaluate``: bag_unpack, pivot, narrow and ipv4_lookup, each as a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.networks import ipv4_range, renamed
from qakhunt.backends.engine.rewriting.plan import (
    Planner,
    argument,
    foreign_names,
    names_in,
    no_column,
    refusal,
    rewrites,
)
from qakhunt.backends.engine.rewriting.spelling import quoted, twin
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier, literal
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
    bare,
)

if TYPE_CHECKING:
    from qakhunt.backends.engine.rewriting.plan import Stage
    from qakhunt.kql.schema import Columns

MOST_COLUMNS = 1000
"""Columns that one plugin may make of the records."""

_JSON_TYPES = {
    "BIGINT": "long", "UBIGINT": "long", "DOUBLE": "real", "VARCHAR": "string", "BOOLEAN": "bool",
}  # fmt: skip
_ZERO = frozenset(["count", "countif", "sum", "sumif", "dcount", "dcountif"])


def evaluate(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """A plugin as a stage; those that are not known are refused by name."""
    call: Node = operator.arguments[0] if operator.arguments else operator
    plugin = PLUGINS.get(call.name) if isinstance(call, Call) else None
    if plugin is None or not isinstance(call, Call):
        name = f"{call.name}()" if isinstance(call, Call) else "without a name"
        raise refusal(
            f"the plugin {name} of 'evaluate'", call,
            f"it knows {', '.join(sorted(PLUGINS))}; run the query with --backend log-analytics "
            "or defender",
        )  # fmt: skip
    known = planner.columns_before(pipeline, operator)
    planner.becomes(pipeline, operator, plugin(planner, pipeline, operator, call, known))


def _column(call: Call, known: Columns) -> str:
    first = call.arguments[0] if call.arguments else call
    if not isinstance(first, Name):
        raise Unreadable(f"{call.name}() needs the name of a column", first.start)
    if first.name not in known:
        raise no_column(first.name, first.start, known)
    return first.name


def _schema(operator: Operator, known: Columns) -> Columns | None:
    """The columns that ``: (name: type, *)`` promises."""
    clause = operator.clause(":")
    if not clause:
        return None
    found: Columns = {}
    for item in clause[0].items if isinstance(clause[0], Group) else ():
        if isinstance(item, Declaration):
            kind = "".join(token.text for token in item.type.tokens)
            found[item.name] = {"double": "real", "date": "datetime"}.get(kind, kind)
        else:
            found.update(known)
    return found


def bag_unpack(
    planner: Planner, pipeline: Pipeline, operator: Operator, call: Call, known: Columns
) -> Stage:
    """A column for each property of a bag, in the order of their names."""
    bag = _column(call, known)
    prefix, conflict, ignored = _bag_options(call)
    before = planner.stage_before(pipeline, operator)
    rest = {name: kind for name, kind in known.items() if name != bag}
    promised = _schema(operator, rest)
    if promised is None:
        slots = {prefix + name: (name, kind) for name, kind in _slots(planner, before, bag).items()}
        if not slots and _is_empty(planner, before):
            names = [name for name in foreign_names(planner, known) if name.startswith(prefix)]
            slots = {name: (name.removeprefix(prefix), "dynamic") for name in names}
    else:
        slots = {
            name: (name.removeprefix(prefix), kind)
            for name, kind in promised.items()
            if name not in rest
        }
    slots = {name: slot for name, slot in slots.items() if slot[0] not in ignored}
    clashing = [name for name in slots if name in rest]
    if clashing and conflict == "error":
        raise Unreadable(
            f"bag_unpack() gives the column {clashing[0]!r} that is there already", call.start,
            hint="choose with columnsConflict='replace_source' or 'keep_source', or give a prefix",
        )  # fmt: skip
    kept = [name for name in rest if promised is None or name in promised]
    made = []
    if conflict == "keep_source":
        slots = {name: slot for name, slot in slots.items() if name not in rest}
    kept = [name for name in kept if name not in slots]
    marked = _apart(planner, call, kept, list(slots))
    for name, (slot, kind) in slots.items():
        made.append(f"{_property(identifier(bag), slot, kind)} AS {identifier(marked[name])}")
    listing = ", ".join([*map(identifier, kept), *made])
    if not listing:
        raise Unreadable("bag_unpack() leaves no column", call.start)
    return planner.stage(f"SELECT {listing} FROM {identifier(before.name)}", ordered=before.ordered)


def _apart(planner: Planner, call: Call, own: list[str], made: list[str]) -> dict[str, str]:
    """Columns from records under names that DuckDB keeps apart from others in another case.

    A name that the query mentions keeps its spelling.
    """
    mentioned = names_in(planner.script)
    taken = {name.casefold(): name for name in own}
    found: dict[str, str] = {}
    for name in sorted(made, key=lambda one: one not in mentioned):
        first = taken.setdefault(name.casefold(), name)
        if first != name and name in mentioned:
            raise Unreadable(
                f"{call.name}() gives the column {name!r} beside {first!r}: "
                "they differ in case only", call.start, hint="leave one of them out",
            )  # fmt: skip
        number = sum(one.casefold() == name.casefold() for one in found) + 1
        found[name] = name if first == name else twin(name, number)
    return found


def _bag_options(call: Call) -> tuple[str, str, frozenset[str]]:
    prefix, conflict, ignored = "", "error", frozenset[str]()
    for number, item in enumerate(call.arguments[1:]):
        value = argument(item)
        if not isinstance(value, Literal):
            raise Unreadable("bag_unpack() needs literals behind the column", item.start)
        names = item.names if isinstance(item, Named) else ()
        if value.type == "dynamic":
            ignored = frozenset(value.strings)
        elif "columnsConflict" in names or value.text in ("replace_source", "keep_source", "error"):
            conflict = value.text
        elif number == 0 or "OutputColumnPrefix" in names:
            prefix = value.text
    return prefix, conflict, ignored


def _slots(planner: Planner, before: Stage, bag: str) -> Columns:
    """The properties of all bags and their types, dynamic where they differ."""
    column = identifier(bag)
    value = "json_extract(j, '/' || replace(replace(k, '~', '~0'), '/', '~1'))"
    rows = planner.rows(
        f"SELECT k, list(DISTINCT json_type({value})) FROM (SELECT j, unnest(json_keys(j)) AS k "
        f"FROM (SELECT to_json({column}) AS j FROM {identifier(before.name)}) "
        f"WHERE json_type(j) = 'OBJECT') GROUP BY k ORDER BY k LIMIT {MOST_COLUMNS + 1}"
    )
    if len(rows) > MOST_COLUMNS:
        raise Unreadable(f"bag_unpack() would make more than {MOST_COLUMNS:,} columns", None)
    found = {}
    for name, types in rows:
        kinds = {_JSON_TYPES.get(one, "dynamic") for one in types if one not in (None, "NULL")}
        found[name] = kinds.pop() if len(kinds) == 1 else "dynamic"
    return found


def _property(bag: str, slot: str, kind: str) -> str:
    pointer = literal("/" + slot.replace("~", "~0").replace("/", "~1"))
    value = f"json_extract(to_json({bag}), {pointer})"
    if kind == "dynamic":
        return f"CASE WHEN json_type({value}) = 'NULL' THEN NULL ELSE {value} END"
    text = f"({value} ->> '$')"
    if kind == "string":
        return f"coalesce({text}, '')"
    return f"TRY_CAST({text} AS {SQL_TYPES.get(kind, 'VARCHAR')})"


def pivot(
    planner: Planner, pipeline: Pipeline, operator: Operator, call: Call, known: Columns
) -> Stage:
    """A column for each value of a column, in the order of the values."""
    turned = _column(call, known)
    rest = list(call.arguments[1:])
    first = rest[0] if rest else None
    aggregate = first if isinstance(first, Call) else None
    rest = rest[1:] if aggregate is not None else rest
    groups = []
    for one in rest:
        if not isinstance(one, Name):
            raise Unreadable("pivot() groups by columns alone", one.start)
        if one.name not in known:
            raise no_column(one.name, one.start, known)
        groups.append(one.name)
    used = names_in(aggregate) if aggregate is not None else set()
    groups = groups or [name for name in known if name != turned and name not in used]
    words = "count()" if aggregate is None else planner.words(aggregate)
    name = "count" if aggregate is None else aggregate.name
    span = planner.before(pipeline, operator)
    keys = ", ".join([*map(quoted, groups), f"_turned = tostring({quoted(turned)})"])
    sql = planner.sql(span, f" | summarize _value = {words} by {keys}")
    before = planner.stage(sql)
    values = _values(planner, operator, before, set(groups), known)
    kind = before.columns["_value"]
    empty = "0" if name in _ZERO else {"string": "''"}.get(kind, "NULL")
    marked = _apart(planner, call, groups, values)
    cells = [
        f"coalesce(any_value(_value) FILTER (WHERE _turned = {literal(value)}), {empty}) "
        f"AS {identifier(marked[value])}"
        for value in values
    ]
    listing = ", ".join([*map(identifier, groups), *cells])
    if not listing:
        raise Unreadable("pivot() leaves no column", call.start)
    by = f" GROUP BY {', '.join(map(identifier, groups))}" if groups else ""
    return planner.stage(f"SELECT {listing} FROM {identifier(before.name)}{by}")


def _values(
    planner: Planner, operator: Operator, before: Stage, groups: set[str], known: Columns
) -> list[str]:
    promised = _schema(operator, known)
    if promised is not None:
        return [name for name in promised if name not in groups]
    rows = planner.rows(
        f"SELECT DISTINCT _turned FROM {identifier(before.name)} WHERE _turned <> '' "
        f"ORDER BY 1 LIMIT {MOST_COLUMNS + 1}"
    )
    if len(rows) > MOST_COLUMNS:
        raise Unreadable(f"pivot() would make more than {MOST_COLUMNS:,} columns", operator.start)
    if not rows and _is_empty(planner, before):
        return foreign_names(planner, known)
    return [str(row[0]) for row in rows]


def _is_empty(planner: Planner, before: Stage) -> bool:
    """No records, so that what the query calls their columns may be anything."""
    return not planner.rows(f"SELECT 1 FROM {identifier(before.name)} LIMIT 1")


def narrow(
    planner: Planner, pipeline: Pipeline, operator: Operator, call: Call, known: Columns
) -> Stage:
    """A row for each cell: Row, Column, Value."""
    if call.arguments:
        raise Unreadable("narrow() takes no arguments", call.arguments[0].start)
    texts = ", ".join(f"{quoted(name)} = tostring({quoted(name)})" for name in known)
    before = planner.stage(planner.sql(planner.before(pipeline, operator), f" | project {texts}"))
    cells = ", ".join(
        f"struct_pack(c := {literal(name)}, v := {identifier(name)})" for name in before.columns
    )
    return planner.stage(
        'SELECT r - 1 AS "Row", cell.c AS "Column", coalesce(cell.v, \'\') AS "Value" FROM ('
        f"SELECT row_number() OVER () AS r, unnest([{cells}]) AS cell "
        f"FROM (SELECT * FROM {identifier(before.name)}))",
    )


def ipv4_lookup(
    planner: Planner, pipeline: Pipeline, operator: Operator, call: Call, known: Columns
) -> Stage:
    """Every network of another table that the address is in: ranges that overlap."""
    unnamed = [one for one in call.arguments if not isinstance(one, Named)]
    options = {one.names[0]: one.value for one in call.arguments if isinstance(one, Named)}
    if len(unnamed) > 3 and isinstance(unnamed[-1], Literal):
        options["return_unmatched"] = unnamed.pop()
    if len(unnamed) != 3 or set(options) - {"return_unmatched"}:
        raise refusal("ipv4_lookup() with further keys", call, "join by them behind it")
    wanted = options.get("return_unmatched")
    table, address, network = bare(unnamed[0]), *unnamed[1:]
    right = planner.stage(planner.sql((table.start, table.end)))
    left = planner.stage_before(pipeline, operator)
    for key, columns in ((address, known), (network, right.columns)):
        if not isinstance(key, Name) or key.name not in columns:
            raise no_column(getattr(key, "name", ""), key.start, columns)
    ranges = [
        f"(SELECT *, {renamed(ipv4_range(identifier(key.name)))} AS _range "  # type: ignore[attr-defined]
        f"FROM {identifier(stage.name)})"
        for stage, key in ((left, address), (right, network))
    ]
    cells = [f"l.{identifier(name)}" for name in known]
    for name, kind in right.columns.items():
        cell = f"r.{identifier(name)}"
        cell = f"coalesce({cell}, '')" if kind == "string" else cell
        cells.append(f"{cell} AS {identifier(f'{name}1' if name in known else name)}")
    kept = isinstance(wanted, Literal) and wanted.value
    return planner.stage(
        f"SELECT {', '.join(cells)} FROM {ranges[0]} l {'LEFT' if kept else 'INNER'} JOIN "
        f"{ranges[1]} r ON l._range.a <= r._range.z AND l._range.z >= r._range.a"
    )


PLUGINS = {
    "bag_unpack": bag_unpack, "pivot": pivot, "narrow": narrow, "ipv4_lookup": ipv4_lookup,
}  # fmt: skip
rewrites(evaluate, "evaluate")
