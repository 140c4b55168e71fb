"""Rewriting that the text alone decides: the same query in words that the translator knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.rewriting import functions
from qakhunt.kql.edits import Edit, apply, original_offset
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import (
    Call,
    Clause,
    Comparison,
    Declaration,
    Directive,
    Function,
    Group,
    Index,
    Let,
    Literal,
    Name,
    Named,
    Node,
    Operator,
    Ordered,
    Path,
    Pipeline,
    Script,
    find,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from qakhunt.kql.schema import Columns

_MOST_ROUNDS = 200
_TWIN = "__case"
_TABULAR = ("toscalar", "materialize")
_NO_MEANING = frozenset([
    "notruncation", "truncationmaxsize", "truncationmaxrecords", "norequesttimeout",
    "servertimeout", "maxmemoryconsumptionperiterator",
    "max_memory_consumption_per_query_per_node", "query_force_row_level_security",
    "query_datascope", "query_results_cache_max_age", "query_distribution_nodes_span",
    "query_fanout_nodes_percent", "query_fanout_threads_percent",
])  # fmt: skip
# Their result is named after the first argument, as Microsoft's parser names it.
_NAMED_BY_FIRST = frozenset([
    "split", "todynamic", "parse_json", "parse_xml", "parse_csv", "tostring", "tolower",
    "toupper", "todatetime", "toint", "tolong", "todouble", "toreal", "tobool",
])  # fmt: skip


class Respelled:
    """A text after some rounds of edits, and the way back to the first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._rounds: list[list[Edit]] = []

    def edit(self, edits: Iterable[Edit]) -> bool:
        """Make those edits that do not overlap an earlier one; whether there was any."""
        kept: list[Edit] = []
        for edit in sorted(edits, key=lambda one: (one.start, one.end)):
            if not kept or edit.start >= kept[-1].end:
                kept.append(edit)
        self._rounds += [kept] if kept else []
        self.text = apply(self.text, kept)
        return bool(kept)

    def origin(self, offset: int) -> int:
        """Where an offset of the text stood at first."""
        for edits in reversed(self._rounds):
            offset = original_offset(edits, offset)
        return offset


def respell_operators(text: str, time_column: str) -> Respelled:
    """Brackets, functions with tables, ``top`` of several keys and the like, until none is left."""
    found = Respelled(text)
    for _ in range(_MOST_ROUNDS):
        script = parse(found.text)
        edits = [*_simple(found.text, script, time_column)]
        if not found.edit(edits or functions.expand(found.text, script)):
            break
    return found


def _simple(text: str, script: Script, time_column: str) -> Iterator[Edit]:
    used = _names_used(script)
    yield from _brackets(script)
    for one in script.statements:
        if isinstance(one, Directive) and one.keyword == "set":
            yield from _directive(text, one, script.query)
    for call in find(script, Call):
        if call.name == "ingestion_time" and not call.arguments:
            yield Edit(call.start, call.end, time_column)
        elif call.name == "table" and call.arguments:
            yield from _named_table(call)
        elif call.name in ("makelist", "makeset") and call.arguments:
            # The former names, whose default size is 128.
            behind = call.arguments[-1].end
            yield Edit(call.start, call.start + 4, "make_")
            if len(call.arguments) == 1:
                yield Edit(behind, behind, ", 128")
    for pipeline in find(script, Pipeline):
        for operator in pipeline.operators:
            if operator.name == "top":
                yield from _top(text, operator)
            elif operator.name in ("sample", "sample-distinct"):
                yield from _any_rows(text, operator)
            elif operator.name in ("mv-expand", "mvexpand", "mv-apply", "mvapply"):
                yield from _name_expressions(operator)
            elif operator.name == "as" and operator is pipeline.operators[-1]:
                names = [one.name for one in operator.arguments if isinstance(one, Name)]
                if names and used.count(names[0]) == 1:
                    yield Edit(operator.start, operator.end, "")


def _named_table(call: Call) -> Iterator[Edit]:
    """``table("T")`` as ``T``."""
    name = call.arguments[0]
    if isinstance(name, Literal) and name.type == "string":
        plain = name.text.isidentifier()
        yield Edit(call.start, call.end, name.text if plain else quoted(name.text))


def _directive(text: str, directive: Directive, query: Node | None) -> Iterator[Edit]:
    """``set notruncation`` bounds the service's work, not the answer; a number of records does."""
    named = directive.arguments[0] if directive.arguments else None
    target = named.target if isinstance(named, Named) else named
    name = target.name if isinstance(target, Name) else ""
    if name in _NO_MEANING:
        yield Edit(directive.start, functions.behind(text, directive.end), "")
    elif name == "query_take_max_records" and isinstance(named, Named) and query is not None:
        yield Edit(directive.start, functions.behind(text, directive.end), "")
        yield Edit(query.end, query.end, f" | take {text[named.value.start : named.value.end]}")
    elif name != "query_now":
        raise Unreadable(
            f"the embedded engine does not support the option {name!r} of 'set'", directive.start,
            hint="leave the line out, or run it with --backend log-analytics or defender",
        )  # fmt: skip


def _names_used(script: Script) -> list[str]:
    return [node.name for node in find(script, Name)]


def is_tabular(node: Node) -> bool:
    """Whether it is a query by its form."""
    return isinstance(node, (Pipeline, Operator))


def _brackets(script: Script) -> Iterator[Edit]:
    """Brackets around a source, a whole query or the argument of ``toscalar``."""
    around: list[Node] = []
    for node in script.walk():
        if isinstance(node, Pipeline):
            around.append(node.source)
        elif isinstance(node, Script) and node.query is not None:
            around += [node.query] if _holds_query(node.query) else []
        elif isinstance(node, Call) and node.name in _TABULAR:
            around += node.arguments[:1]
        elif isinstance(node, (Group, Comparison)):
            inner = node.items if isinstance(node, Group) else (node.right,)
            if isinstance(node, Group) and len(inner) == 1 and _holds_query(inner[0]):
                around.append(inner[0])
        elif isinstance(node, Let) and isinstance(node.value, Group):
            inner_items = node.value.items
            around += [i for i in inner_items if len(inner_items) == 1 and _holds_query(i)]
    seen: set[int] = set()
    for node in around:
        if isinstance(node, Group) and len(node.items) == 1 and id(node) not in seen:
            seen.add(id(node))
            opened, closed = node.parts[0], node.parts[-1]
            if getattr(opened, "text", "") == "(":
                yield Edit(opened.start, opened.end, " ")
                yield Edit(closed.start, closed.end, " ")


def _holds_query(node: Node) -> bool:
    while isinstance(node, Group) and len(node.items) == 1:
        node = node.items[0]
        if is_tabular(node):
            return True
    return False


def _top(text: str, operator: Operator) -> Iterator[Edit]:
    keys = operator.clause("by") or ()
    if len(keys) < 2 or len(operator.arguments) != 1:
        return
    count = operator.arguments[0]
    listed = text[keys[0].start : keys[-1].end]
    new = f"| sort by {listed} | take {text[count.start : count.end]}"
    yield Edit(operator.start, operator.end, new)


def _any_rows(text: str, operator: Operator) -> Iterator[Edit]:
    """``sample``: any rows are a sample."""
    words = [text[one.start : one.end] for one in operator.arguments]
    of = operator.clause("of") or ()
    if operator.name == "sample" and len(words) == 1:
        yield Edit(operator.start, operator.end, f"| take {words[0]}")
    elif operator.name == "sample-distinct" and len(words) == 1 and len(of) == 1:
        column = text[of[0].start : of[0].end]
        yield Edit(operator.start, operator.end, f"| distinct {column} | take {words[0]}")


def _name_expressions(operator: Operator) -> Iterator[Edit]:
    """``mv-expand split(a, ',')`` as ``mv-expand a = split(a, ',')``."""
    unnamed = 0
    for item in operator.arguments:
        value = item.value if isinstance(item, Ordered) else item
        if isinstance(value, (Named, Name, Declaration)):
            continue
        name = column_name(value)
        if name is None:
            unnamed += 1
            name = f"Column{unnamed}"
        yield Edit(value.start, value.start, f"{quoted(name)} = ")


def column_name(node: Node) -> str | None:
    """The name that Kusto gives to the column of an expression; None where it numbers it."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Group) and len(node.items) == 1:
        return column_name(node.items[0])
    if isinstance(node, Call):
        first = node.arguments[0] if node.arguments else None
        if node.name in _NAMED_BY_FIRST and first is not None:
            return column_name(first)
        own = column_name(first) if first is not None and node.name == "array_sort_asc" else None
        return f"{own}_sorted" if own else None
    if isinstance(node, Path):
        base = column_name(node.base)
        if base is None:
            last = node.steps[-1]
            return last.name if isinstance(last, Name) else None
        steps = [_step(step) for step in node.steps]
        return None if None in steps else "_".join([base, *map(str, steps)])
    return None


def _step(step: Node) -> str | None:
    if isinstance(step, Name):
        return step.name
    value = step.value if isinstance(step, Index) else None
    if isinstance(value, Literal):
        return value.text if value.type == "string" else value.tokens[0].text
    return None


def quoted(name: str) -> str:
    """A name as KQL, in brackets and quotes."""
    inner = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{inner}']"


def part_twins(text: str, tables: Mapping[str, Columns]) -> list[Edit]:
    """Edits that give names that differ from others in case only a mark of their own.

    DuckDB folds case. Columns of the tables keep theirs; ``without_mark`` takes it off
    the result's names again.
    """
    script = parse(text)
    names = list(find(script, Name))
    mentioned = {node.name for node in names}
    spellings: dict[str, dict[str, None]] = {}
    for table in tables:
        for column in tables[table] if table in mentioned else ():
            spellings.setdefault(column.casefold(), {})[column] = None
    steps, functions_ = _members(script), _callable(script)
    for name in made_names(script):
        if name not in functions_:
            spellings.setdefault(name.casefold(), {})[name] = None
    marks = {
        name: twin(name, number)
        for several in spellings.values()
        for number, name in enumerate(several)
        if number
    }
    if not marks:
        return []
    edits = []
    known = {name for several in spellings.values() for name in several}
    for node in names:
        if node.start in steps:
            continue
        new = marks.get(node.name)
        if new is None and node.name not in known:
            # An aggregate's own name, such as max_accountname.
            _, _, behind = node.name.partition("_")
            new = f"{node.name}{marks[behind][len(behind) :]}" if behind in marks else None
        if new is not None:
            edits.append(
                Edit(node.start, node.end, quoted(new) if "[" in text[node.start] else new)
            )
    return edits


def twin(name: str, number: int) -> str:
    """A name with the mark of the ``number``-th that differs from others in case only."""
    return f"{name}{_TWIN}{number}__"


def without_mark(name: str) -> str:
    """A result column's name without the mark of a twin."""
    before, mark, behind = name.rpartition(_TWIN)
    number, _, rest = behind.partition("__")
    return before + rest if mark and number.isdigit() else name


def _members(script: Script) -> set[int]:
    """Where members of bags stand: ``$left.x`` is a column."""
    return {
        step.start
        for path in find(script, Path)
        if not (isinstance(path.base, Name) and path.base.name in ("$left", "$right"))
        for step in path.steps
    }


def _callable(script: Script) -> set[str]:
    return {let.name for let in find(script, Let) if isinstance(let.value, Function)}


def made_names(script: Script) -> dict[str, None]:
    """Names that the query itself gives to columns and values."""
    found: dict[str, None] = {}
    for node in script.walk():
        if isinstance(node, Named):
            found.update(dict.fromkeys(node.names))
        elif isinstance(node, (Let, Declaration)):
            found[node.name] = None
        elif isinstance(node, Clause) and node.keyword == "with":
            found.update(dict.fromkeys(one.name for one in node.arguments if isinstance(one, Name)))
    return found
