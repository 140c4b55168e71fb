"""``search``, ``find`` and ``* has``: predicates over any column, and over several tables.

Also unions whose branches give one column two types, which Kusto splits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.rewriting.columns import matches
from qakhunt.backends.engine.rewriting.plan import HEADS, Planner, names_in, refusal, rewrites
from qakhunt.backends.engine.rewriting.spelling import quoted, twin
from qakhunt.backends.engine.sql_types import identifier
from qakhunt.kql.literal import encode
from qakhunt.kql.syntax import (
    Call,
    Chain,
    Comparison,
    Declaration,
    Group,
    Literal,
    Name,
    Node,
    Operator,
    Path,
    Pipeline,
    Wildcard,
    bare,
    find,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qakhunt.kql.schema import Columns

_ALL = "_any_column"
_MOST_TABLES = 30
_GUESSED = 10
"""Tables that an unscoped search covers where nothing is loaded: it is only checked then."""
_TERM = frozenset([
    "has", "has_cs", "hasprefix", "hasprefix_cs", "hassuffix", "hassuffix_cs", "contains",
    "contains_cs",
])  # fmt: skip


@dataclass(frozen=True)
class _Arm:
    """One table, or a query in brackets, that is searched."""

    name: str
    source: str | tuple[int, int]
    columns: Columns


def _searchable(planner: Planner, *query: str | tuple[int, int]) -> str:
    """A stage of the query with all columns as one text, each on a line of its own."""
    plain = planner.stage(planner.sql(*query))
    texts = ", ".join(_text(identifier(name), kind) for name, kind in plain.columns.items())
    stage = planner.stage(
        f"SELECT *, concat_ws(chr(10), {texts}) AS {_ALL} FROM {identifier(plain.name)}",
        ordered=plain.ordered,
    )
    return stage.name


def _text(column: str, kind: str) -> str:
    if kind == "datetime":
        return f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%f') || '0Z'"
    if kind == "dynamic":
        text = f"CAST({column} AS VARCHAR)"
        return f"CASE json_type({column}) WHEN 'VARCHAR' THEN {column} ->> '$' ELSE {text} END"
    return column if kind == "string" else f"CAST({column} AS VARCHAR)"


class _Predicate:
    """A predicate of ``search`` or ``find`` for one table."""

    def __init__(self, planner: Planner, known: Columns, *, sensitive: bool) -> None:
        self.planner, self.known = planner, known
        self.ending = "_cs" if sensitive else ""

    def words(self, node: Node) -> str:
        """It as KQL; what names a column that the table lacks is false."""
        if isinstance(node, Chain) and node.operators[0] in ("and", "or"):
            return f" {node.operators[0]} ".join(f"({self.words(one)})" for one in node.operands)
        if isinstance(node, Group) and len(node.items) == 1:
            return f"({self.words(node.items[0])})"
        if isinstance(node, Call) and node.name == "not" and len(node.arguments) == 1:
            return f"not({self.words(node.arguments[0])})"
        if isinstance(node, Literal) and node.type == "string":
            return self._term(_ALL, node.text)
        if isinstance(node, Wildcard):
            return "true"
        if isinstance(node, Comparison):
            return self._comparison(node)
        return self._own(node)

    def _comparison(self, node: Comparison) -> str:
        if isinstance(node.left, Wildcard):
            if node.operator.lstrip("!") in _TERM:
                return f"{_ALL} {node.operator} {self.planner.words(node.right)}"
            right = self.planner.words(node.right)
            each = [
                f"tostring({quoted(name)}) {node.operator} tostring({right})" for name in self.known
            ]
            return " or ".join(each)
        if node.operator == ":":
            column = node.left.name if isinstance(node.left, Name) else ""
            if column not in self.known or not isinstance(node.right, Literal):
                return "false"
            return self._term(f"tostring({quoted(column)})", node.right.text)
        return self._own(node)

    def _own(self, node: Node) -> str:
        missing = columns_in(node) - set(self.known)
        return "false" if missing & self._elsewhere() else self.planner.words(node)

    def _elsewhere(self) -> set[str]:
        """Names that are columns of some table, and not declared by the query."""
        found = {name for table in self.planner.host.tables.values() for name in table}
        return found - self.planner.declared

    def _term(self, value: str, text: str) -> str:
        first, last = text.startswith("*"), text.endswith("*") and len(text) > 1
        inner = text[first : len(text) - last]
        if "*" in inner:
            import re

            pattern = r"\b" + ".*".join(map(re.escape, inner.split("*"))) + r"\b"
            flags = "" if self.ending else "(?i)"
            return f"{value} matches regex {encode(flags + pattern, 'string')}"
        operator = {
            (False, False): "has", (True, False): "hassuffix", (False, True): "hasprefix",
            (True, True): "contains",
        }[first, last]  # fmt: skip
        return f"{value} {operator}{self.ending} {encode(inner, 'string')}"


def columns_in(node: Node) -> set[str]:
    """Names that may be columns: members of a path are none."""
    members = {step.start for path in find(node, Path) for step in path.steps}
    return {name.name for name in find(node, Name) if name.start not in members}


def where(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``* has "x"`` in a filter."""
    stars = [one for one in find(operator, Comparison) if isinstance(one.left, Wildcard)]
    if not stars:
        return
    known = planner.columns_before(pipeline, operator)
    predicate = _Predicate(planner, known, sensitive=False)
    for one in stars:
        planner.edit(one.start, one.end, f"({predicate.words(one)})")
    span = operator.start, operator.end
    words, _ = planner.written(span)
    name = _searchable(planner, planner.before(pipeline, operator))
    planner.edit(pipeline.start, operator.end, f"{name} {words} | project-away {_ALL}")


def search_behind(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``T | search "x"``."""
    known = planner.columns_before(pipeline, operator)
    source = pipeline.source
    name = source.name if isinstance(source, Name) else "search_arg0"
    words = _searched(planner, operator, _Arm(name, planner.before(pipeline, operator), known))
    planner.edit(pipeline.start, operator.end, words)


def _searched(planner: Planner, operator: Operator, arm: _Arm) -> str:
    sensitive = operator.option("kind") == "case_sensitive"
    predicate = _Predicate(planner, arm.columns, sensitive=sensitive)
    words = " and ".join(f"({predicate.words(one)})" for one in operator.arguments) or "true"
    listed = ", ".join(map(quoted, arm.columns))
    return (
        f"{_searchable(planner, arm.source)} | where {words} "
        f"| project ['$table'] = {encode(arm.name, 'string')}, {listed}"
    )


def search(planner: Planner, operator: Node) -> None:
    """``search in (A, B) "x"`` as a source."""
    if not isinstance(operator, Operator) or operator.has_bar:
        return
    arms = _arms(planner, operator)
    queries = [_searched(planner, operator, arm) for arm in arms]
    renames = _split([arm.columns for arm in arms])
    planner.edit(operator.start, operator.end, _union(queries, renames))


def _union(queries: Sequence[str], renames: Sequence[Mapping[str, str]]) -> str:
    full = [query + _renamed(names) for query, names in zip(queries, renames, strict=True)]
    return full[0] if len(full) == 1 else f"union {', '.join(f'({query})' for query in full)}"


def _renamed(names: Mapping[str, str]) -> str:
    if not names:
        return ""
    listed = ", ".join(f"{quoted(new)} = {quoted(old)}" for old, new in names.items())
    return f" | project-rename {listed}"


def _arms(planner: Planner, operator: Operator) -> list[_Arm]:
    clause = operator.clause("in")
    group = clause[0] if clause else None
    items = group.items if isinstance(group, Group) else ()
    arms: list[_Arm] = []
    for item in items:
        node = bare(item)
        if isinstance(node, Wildcard):
            known = planner.host.tables
            arms += [_Arm(name, name, known[name]) for name in _matching(planner, node.pattern)]
        else:
            name = node.name if isinstance(node, Name) else f"union_arg{len(arms)}"
            span = node.start, node.end
            arms.append(_Arm(name, span, planner.columns(span)))
    if not items:
        known = planner.host.tables
        names = [*planner.host.loaded] or _likely(planner)
        arms = [_Arm(name, name, known[name]) for name in names if name in known]
    if not arms:
        raise Unreadable(
            f"{operator.name} finds no table to look into", operator.start,
            hint=f"name the tables: {operator.name} in (DeviceProcessEvents) ...",
        )  # fmt: skip
    return arms


def _matching(planner: Planner, pattern: str) -> list[str]:
    """Tables that a pattern names: all where they are few, else those that are loaded."""
    known = [name for name in planner.host.tables if matches(pattern, name)]
    loaded = [name for name in planner.host.loaded if name in known]
    return known if len(known) <= _MOST_TABLES else loaded or known[:_GUESSED]


def _likely(planner: Planner) -> list[str]:
    used = names_in(planner.script)
    shared = Counter({
        name: len(used & set(kinds)) for name, kinds in planner.host.tables.items() if kinds
    })  # fmt: skip
    return [name for name, _ in shared.most_common(_GUESSED)]


def _split(arms: Sequence[Columns]) -> list[dict[str, str]]:
    """For each branch, the columns that Kusto renames: two types make two columns."""
    kinds: dict[str, set[str]] = {}
    for columns in arms:
        for name, kind in columns.items():
            kinds.setdefault(name, set()).add(kind.replace("int", "long"))
    clashing = {name for name, found in kinds.items() if len(found) > 1}
    taken = set(kinds) - clashing
    new: dict[tuple[str, str], str] = {}
    for name in kinds:
        for kind in sorted(kinds[name]) if name in clashing else ():
            own, number = f"{name}_{kind}", 0
            while own in taken:
                number += 1
                own = f"{name}_{kind}{number}"
            taken.add(own)
            new[name, kind] = own
    renames = [
        {name: new[name, kind.replace("int", "long")] for name, kind in columns.items()
         if name in clashing}
        for columns in arms
    ]  # fmt: skip
    spelled: dict[str, list[str]] = {}
    for columns, names in zip(arms, renames, strict=True):
        for name in columns:
            several = spelled.setdefault(name.casefold(), [])
            if name not in several:
                several.append(name)
            if several.index(name):
                names[name] = twin(names.get(name, name), several.index(name))
    return renames


def union(planner: Planner, operator: Node, pipeline: Pipeline | None = None) -> None:
    """A union with patterns spread, without tables that need not be there, types parted."""
    if not isinstance(operator, Operator) or not operator.arguments:
        return
    fuzzy = operator.option("isfuzzy") == "true"
    branches: list[tuple[str, str | tuple[int, int], bool]] = []
    for argument in operator.arguments:
        node = bare(argument)
        if isinstance(node, Wildcard):
            if "." in node.pattern:
                return
            branches += [(name, name, True) for name in _spread(planner, node, fuzzy=fuzzy)]
        elif fuzzy and _is_missing(planner, node):
            name = planner.text[node.start : node.end].split()[0]
            planner.unknown.append(
                f"the union (isfuzzy) leaves {name} out, of which there are no records "
                f"(--events {name}=PATH)"
            )
        else:
            branches.append(
                (planner.words(argument), (node.start, node.end), isinstance(node, Name))
            )
    if not branches and pipeline is None:
        raise Unreadable("no table of the union is here", operator.start)
    words = [text for text, _, _ in branches]
    if planner.split_unions:
        words = _parted(planner, operator, pipeline, branches)
    before = [planner.words(argument) for argument in operator.arguments]
    if words != before:
        start, end = operator.arguments[0].start, operator.arguments[-1].end
        if words:
            planner.edit(start, end, ", ".join(words))
        else:
            planner.edit(operator.start, end, "")


def _parted(
    planner: Planner, operator: Operator, pipeline: Pipeline | None,
    branches: Sequence[tuple[str, str | tuple[int, int], bool]],
) -> list[str]:  # fmt: skip
    """The branches with names of their own for a column of two types."""
    queries = [query for _, query, _ in branches]
    sources = [text if named else "" for text, _, named in branches]
    if pipeline:
        queries.insert(0, planner.before(pipeline, operator))
        sources.insert(0, pipeline.source.name if isinstance(pipeline.source, Name) else "")
    shapes = [planner.columns(query) for query in queries]
    renames = _split(shapes)
    column = operator.option("withsource") or operator.option("with_source")
    endings = []
    for number, (shape, names) in enumerate(zip(shapes, renames, strict=True)):
        ending = _renamed(names)
        if column:
            source = encode(sources[number] or f"union_arg{number}", "string")
            listed = ", ".join(quoted(names.get(name, name)) for name in shape)
            ending += f" | project {quoted(column)} = {source}, {listed}"
        endings.append(ending)
    for option in operator.options:
        if column and option.name.startswith("with"):
            planner.edit(option.start, option.end, "")
    if pipeline and endings[0]:
        planner.edit(operator.start, operator.start, endings.pop(0) + " ")
    elif pipeline:
        endings.pop(0)
    found = []
    for (text, query, _), ending in zip(branches, endings, strict=True):
        inner = query if isinstance(query, str) else planner.written(query)[0]
        found.append(f"({inner}{ending})" if ending else text)
    return found


def _is_missing(planner: Planner, node: Node) -> bool:
    """Whether the table that a branch starts with is not known."""
    source = node.source if isinstance(node, Pipeline) else node
    stages = {stage.name for stage in planner.stages}
    known = {*planner.host.tables, *planner.declared, *stages}
    return isinstance(source, Name) and source.name not in known


def _spread(planner: Planner, pattern: Wildcard, *, fuzzy: bool) -> list[str]:
    """``union Device*`` as the tables that it names; those of ``view`` functions, too."""
    own = [name for name in planner.declared if matches(pattern.pattern, name)]
    names = sorted(own) + _matching(planner, pattern.pattern)
    if not names and not fuzzy:
        raise Unreadable(f"no table named {pattern.pattern!r}", pattern.start)
    return names


def look(planner: Planner, operator: Node) -> None:
    """``find``: the rows of several tables that a predicate holds for."""
    if not isinstance(operator, Operator) or operator.has_bar:
        return
    conditions = [*operator.arguments, *(operator.clause("where") or ())]
    if not conditions or operator.clause("project-away") is not None:
        raise refusal("this form of the operator 'find'", operator)
    used = {name for one in conditions for name in columns_in(one)}
    arms = _arms(planner, operator)
    any_term = any(
        isinstance(one, (Wildcard, Literal)) and _stands_alone(conditions, one)
        for condition in conditions
        for one in condition.walk()
    )
    known = {name for arm in arms for name in arm.columns}
    used &= known
    if used and not any_term:
        arms = [arm for arm in arms if used & set(arm.columns)]
    asked = operator.clause("project")
    source = operator.option("withsource") or "source_"
    shown, packed = _shown(arms, used) if asked is None else _asked(planner, arms, asked)
    queries = []
    for arm in arms:
        predicate = _Predicate(planner, arm.columns, sensitive=False)
        words = " and ".join(f"({predicate.words(one)})" for one in conditions)
        cells = [f"{quoted(name)} = {_cell(arm, name, kind)}" for name, kind in shown.items()]
        rest = [name for name in arm.columns if name not in shown]
        if packed:
            pairs = ", ".join(f"{encode(name, 'string')}, {quoted(name)}" for name in rest)
            cells.append(f"pack_ = {f'bag_pack({pairs})' if pairs else 'dynamic({})'}")
        listed = ", ".join([f"{quoted(source)} = {encode(arm.name, 'string')}", *cells])
        queries.append(f"{_searchable(planner, arm.source)} | where {words} | project {listed}")
    planner.edit(operator.start, operator.end, _union(queries, [{} for _ in queries]))


def _stands_alone(conditions: Iterable[Node], term: Node) -> bool:
    """Whether it is a term of its own, and no side of a comparison with a column."""
    for condition in conditions:
        for one in condition.walk():
            if isinstance(one, Comparison) and one.start <= term.start and term.end <= one.end:
                return isinstance(one.left, Wildcard)
            if isinstance(one, Call) and one.start < term.start < one.end and one.name != "not":
                return False
    return True


def _shown(arms: Sequence[_Arm], used: set[str]) -> tuple[Columns, bool]:
    """``project-smart``: the predicate's columns and those that all tables have."""
    common = set.intersection(*(set(arm.columns) for arm in arms)) if arms else set()
    shown: Columns = {}
    for arm in arms:
        for name, kind in arm.columns.items():
            if (name in common or name in used) and shown.setdefault(name, kind) != kind:
                raise Unreadable(
                    f"find sees the column {name!r} with two types, {shown[name]} and {kind}", None,
                    hint=f"say which columns: project {name}: {kind}",
                )  # fmt: skip
    return shown, any(set(arm.columns) - set(shown) for arm in arms)


def _asked(planner: Planner, arms: Sequence[_Arm], items: Iterable[Node]) -> tuple[Columns, bool]:
    """``project a, b: type, pack(*)``."""
    shown: Columns = {}
    packed = False
    for item in items:
        if isinstance(item, Call):
            packed = True
        elif isinstance(item, Declaration):
            shown[item.name] = planner.words(item.type)
        elif isinstance(item, Name):
            kinds = [arm.columns[item.name] for arm in arms if item.name in arm.columns]
            if not kinds:
                raise Unreadable(f"no table of find has a column {item.name!r}", item.start)
            shown[item.name] = kinds[0]
    return shown, packed


def _cell(arm: _Arm, name: str, kind: str) -> str:
    if name not in arm.columns:
        return "''" if kind == "string" else f"{kind}(null)"
    return quoted(name) if arm.columns[name] == kind else f"to{kind}({quoted(name)})"


rewrites(search_behind, "search")
rewrites(where, "where", "filter")
rewrites(lambda planner, pipeline, operator: union(planner, operator, pipeline), "union")
HEADS.update({"search": search, "find": look, "union": union})
