"""What each step of a query does to the device column.

A reader follows one column from every source to the result and stops at the first
step whose rows may depend on records of two devices. What it does not know, it
does not let pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from qakhunt.kql.functions import (
    AGGREGATES,
    CLOCK,
    DETERMINISTIC,
    OUTSIDE,
    UNREPEATABLE,
    WINDOW,
    WINDOW_RESTART,
)
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.syntax import (
    Call,
    Comparison,
    Declaration,
    Directive,
    Function,
    Group,
    Index,
    Let,
    Name,
    Named,
    Node,
    Operator,
    Ordered,
    Path,
    Pipeline,
    Script,
    Unparsed,
    Wildcard,
    bare,
    column,
    conjuncts,
    find,
    stages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WATCHLIST = "_GetWatchlist"
_CONSTANTS = frozenset(["datatable", "print", "range", _WATCHLIST])
_CALLABLE = DETERMINISTIC | CLOCK | {"typeof", "toscalar", _WATCHLIST}
# Each row of the left by itself; innerunique keeps one row of several with the same key.
_ROW_BY_ROW = frozenset(["inner", "leftouter", "leftanti", "leftantisemi", "anti", "leftsemi"])
_LEFT_JOINS = _ROW_BY_ROW | {"innerunique"}
_RIGHT_JOINS = frozenset(["rightsemi", "rightanti", "rightantisemi"])

# What an expression may hold beyond the row's own values.
_NOTHING: frozenset[str] = frozenset()
_AGGREGATES = frozenset(["aggregates"])
_ITEMS = frozenset(["aggregates", "queries"])
_PREVIOUS = frozenset(["previous row"])


class Dependent(ValueError):
    """A row may depend on records of two devices; the text says why."""


@dataclass(frozen=True)
class Flow:
    """What is known of the rows at one point of a pipeline.

    ``device`` is the column that holds the device as its source gave it, None once
    it is gone; ``first`` is the first column's name where that is known.
    ``constant`` rows come from no table; ``grouped`` rows stand device by device.
    """

    device: str | None
    first: str | None = None
    constant: bool = False
    grouped: bool = False


class FlowReader:
    """Follows the device through all statements of a query.

    ``sources`` collects the names by which tables are read in a way that is
    understood, by their start. Raises Dependent at the first step that is not.
    """

    def __init__(self, product: str, device: str) -> None:
        self.product, self.device = product, device
        self.tables = tables(product)
        self.sources: dict[int, Name] = {}
        self.flows: dict[str, Flow] = {}
        self.functions: set[str] = set()
        self.steps: dict[str, Callable[[Operator, Flow], Flow]] = {
            "where": self._where, "filter": self._where, "extend": self._extend,
            "serialize": self._extend, "project": self._project, "project-away": self._away,
            "project-keep": self._keep, "project-rename": self._rename,
            "project-reorder": _reorder, "summarize": self._summarize,
            "distinct": self._distinct, "sort": self._sort, "order": self._sort,
            "join": self._join, "lookup": self._join, "union": self._union,
            "parse": self._parse, "parse-where": self._parse, "parse-kv": self._parse,
            "mv-expand": self._expand, "mv-apply": self._expand,
            "render": _unchanged, "as": _unchanged,
        }  # fmt: skip

    def read(self, script: Script) -> Flow:
        """Follow every statement; the last one's flow is the result's."""
        if any(find(script, Unparsed)) or any(find(script, Directive)):
            raise Dependent("part of the query is not understood")
        flow = Flow(None)
        for statement in script.statements:
            if not isinstance(statement, Let):
                flow = self.pipeline(statement)
            elif isinstance(statement.value, Function):
                self._check(statement.value.body, None, frozenset(["queries"]))
                self.functions.add(statement.name)
            elif self._is_tabular(statement.value):
                self.flows[statement.name] = self.pipeline(statement.value)
            else:
                self._check(statement.value, None, _ITEMS)
        return flow

    def _is_tabular(self, node: Node) -> bool:
        node = bare(node)
        if isinstance(node, Name):
            return node.name in self.flows or node.name in self.tables
        if isinstance(node, Call):
            return node.name in (_WATCHLIST, "materialize")
        return isinstance(node, (Pipeline, Operator))

    def pipeline(self, node: Node) -> Flow:
        """The flow at the end of one tabular expression."""
        source, operators = stages(node)
        flow = self._head(source)
        for operator in operators:
            step = self.steps.get(operator.name)
            if flow.constant and operator.name not in ("join", "lookup", "union"):
                self._check_all(operator, flow)
                flow = replace(flow, first=None)
                continue
            if step is None:
                raise Dependent(f"the operator {operator.name!r} looks at all devices at once")
            flow = step(operator, flow)
        return flow

    def _head(self, node: Node) -> Flow:
        if isinstance(node, (Pipeline, Group)):
            inner = bare(node)
            if inner is not node or isinstance(node, Pipeline):
                return self.pipeline(inner)
        name = getattr(node, "name", "")
        if isinstance(node, Name) and name in self.flows:
            return self.flows[name]
        if isinstance(node, Name) and name in self.tables:
            if self.device not in columns(self.product, name):
                raise Dependent(f"{name} has no column {self.device}")
            self.sources[node.start] = node
            return Flow(self.device)
        if isinstance(node, Call) and name == "materialize" and len(node.arguments) == 1:
            return self.pipeline(node.arguments[0])
        if isinstance(node, Operator) and name == "union":
            return self._branches(node.arguments, None)
        if isinstance(node, (Call, Operator)) and name in _CONSTANTS:
            self._check_all(node, Flow(None))
            return Flow(None, constant=True)
        word = node.tokens[0].text if node.parts else "an empty source"
        raise Dependent(f"{word!r} is not a table that is known")

    # Expressions: worked out row by row, or looking at other rows

    def _check_all(
        self, node: Operator | Call, flow: Flow, allowed: frozenset[str] = _NOTHING
    ) -> None:
        clauses = node.clauses if isinstance(node, Operator) else ()
        for one in (*node.arguments, *clauses):
            self._check(one, flow, allowed)

    def _check(self, node: Node, flow: Flow | None, allowed: frozenset[str] = _NOTHING) -> None:
        """Refuse what looks beyond the row, or beyond the device's own rows.

        Without a ``flow`` it is a definition, whose queries may read no table.
        """
        if isinstance(node, Name):
            of_table = node.name in self.tables
            if of_table or not self.flows.get(node.name, Flow(None, constant=True)).constant:
                raise Dependent(f"{node.name} is read inside an expression")
        elif isinstance(node, (Pipeline, Operator)) and "queries" not in allowed:
            if isinstance(node, Operator) and node.name in _CONSTANTS:
                return
            raise Dependent("a query inside an expression is not understood")
        elif isinstance(node, Call):
            self._check_call(node, flow, allowed)
        elif isinstance(node, Comparison) and flow and self._is_membership(node):
            self._check_membership(node, flow)
        elif isinstance(node, Named):
            self._check(node.value, flow, allowed)
        elif isinstance(node, Path):
            values = [s.value if isinstance(s, Index) else s for s in node.steps]
            for one in (node.base, *(v for v in values if not isinstance(v, Name))):
                self._check(one, flow, allowed)
        elif not isinstance(node, Declaration):
            for child in node.children:
                self._check(child, flow, allowed)

    def _check_call(self, call: Call, flow: Flow | None, allowed: frozenset[str]) -> None:
        name = call.name
        if name in WINDOW_RESTART and flow:
            self._check_window(call, flow)
            return
        if name in UNREPEATABLE or name in OUTSIDE - {_WATCHLIST}:
            raise Dependent(f"{name}() gives something else each time, or reads from elsewhere")
        if name == "prev" and "previous row" in allowed:
            if len(call.arguments) != 1:
                raise Dependent("prev() with an offset looks further back than one row")
        elif name in WINDOW:
            raise Dependent(f"{name}() looks at the rows beside, whatever their device")
        elif not (
            name in _CALLABLE
            or name in self.functions
            or ("aggregates" in allowed and name in AGGREGATES)
        ):
            raise Dependent(f"what {name}() does is not known")
        for argument in call.arguments:
            self._check(argument, flow, allowed)

    def _is_membership(self, node: Comparison) -> bool:
        """Whether it is an ``in`` that looks into a query."""
        return node.positive in ("in", "in~") and any(
            isinstance(one, (Pipeline, Operator))
            or (isinstance(one, Name) and (one.name in self.tables or one.name in self.flows))
            for one in node.right.walk()
        )

    def _check_membership(self, node: Comparison, flow: Flow) -> None:
        """``Device in (table)``: whether a device is among those of its own part.

        Any column may be looked for in rows that come from no table.
        """
        found = self.pipeline(node.right)
        is_device = flow.device is not None and column(node.left) == flow.device
        own = node.positive == "in" and is_device and found.device and found.first == found.device
        if not (found.constant or own):
            raise Dependent("an 'in' looks for values among the records of all devices")
        self._check(node.left, flow)

    def _check_window(self, call: Call, flow: Flow) -> None:
        """A window function that starts anew at each device, over rows that stand so."""
        place = WINDOW_RESTART[call.name]
        if not flow.grouped or len(call.arguments) != place + 1:
            raise Dependent(f"{call.name}() runs on from one device to the next")
        terms = conjuncts(call.arguments[place], "or")
        sides = {flow.device, f"prev({flow.device})"}
        if not any(
            isinstance(term, Comparison)
            and term.operator == "!="
            and {_text(term.left), _text(term.right)} == sides
            for term in terms
        ):
            raise Dependent(f"{call.name}() does not start anew when {flow.device} changes")
        for term in terms:
            self._check(term, flow, _PREVIOUS)
        for argument in call.arguments[:place]:
            self._check(argument, flow)

    # Operators

    def _where(self, operator: Operator, flow: Flow) -> Flow:
        self._check_all(operator, flow)
        return flow

    def _extend(self, operator: Operator, flow: Flow) -> Flow:
        for item in operator.arguments:
            targets, value = _assignment(item)
            self._check(value, flow)
            if flow.device in targets:
                flow = replace(flow, device=None, grouped=False)
        return flow

    def _project(self, operator: Operator, flow: Flow) -> Flow:
        kept, first = self._chosen(operator.arguments, flow)
        return replace(flow, device=kept, first=first, grouped=flow.grouped and kept is not None)

    def _chosen(self, items: Sequence[Node], flow: Flow) -> tuple[str | None, str | None]:
        """The device's name among chosen columns, and the first column's."""
        kept = first = None
        for number, item in enumerate(items):
            targets, value = _assignment(item)
            self._check(value, flow)
            name = targets[0] if targets else column(item)
            if flow.device and column(value) == flow.device and kept is None:
                kept = name
            if number == 0:
                first = name
        return kept, first

    def _away(self, operator: Operator, flow: Flow) -> Flow:
        gone = _matches(operator.arguments, flow.device)
        return _without(flow) if gone else replace(flow, first=None)

    def _keep(self, operator: Operator, flow: Flow) -> Flow:
        kept = _matches(operator.arguments, flow.device)
        return replace(flow, first=None) if kept else _without(flow)

    @staticmethod
    def _rename(operator: Operator, flow: Flow) -> Flow:
        for item in operator.arguments:
            targets, value = _assignment(item)
            if flow.device and column(value) == flow.device and targets:
                return replace(flow, device=targets[0], first=None)
        return replace(flow, first=None)

    def _summarize(self, operator: Operator, flow: Flow) -> Flow:
        for aggregate in operator.arguments:
            self._check(aggregate, flow, _AGGREGATES)
        return self._by_device(operator.clause("by") or (), flow, "the summarize")

    def _distinct(self, operator: Operator, flow: Flow) -> Flow:
        if [_text(one) for one in operator.arguments] == ["*"]:
            _require_device(flow, "the distinct")
            return replace(flow, first=None)
        return self._by_device(operator.arguments, flow, "the distinct")

    def _by_device(self, keys: Sequence[Node], flow: Flow, what: str) -> Flow:
        _require_device(flow, what)
        device, first = self._chosen(keys, flow)
        if device is None:
            raise Dependent(f"{what} does not group by {flow.device}")
        return Flow(device, first)

    def _sort(self, operator: Operator, flow: Flow) -> Flow:
        self._check_all(operator, flow)
        key = (operator.clause("by") or (operator,))[0]
        leading = column(key.value if isinstance(key, Ordered) else key)
        return replace(flow, grouped=leading is not None and leading == flow.device)

    def _join(self, operator: Operator, flow: Flow) -> Flow:
        default = "leftouter" if operator.name == "lookup" else "innerunique"
        kind = operator.option("kind") or default
        if len(operator.arguments) != 1:
            raise Dependent("a join without a right side")
        condition = operator.clause("on")
        if condition is None or len(operator.clauses) != 1:
            raise Dependent("a join whose condition is not understood")
        right = self._head(operator.arguments[0])
        if not (right.constant and kind in _ROW_BY_ROW):
            _check_condition(condition, flow, right, operator.name)
        result = Flow(flow.device, constant=flow.constant and right.constant)
        if kind in _RIGHT_JOINS:
            return replace(result, device=right.device)
        if kind in _LEFT_JOINS and not flow.constant:
            return result
        return replace(result, device=None)

    def _union(self, operator: Operator, flow: Flow) -> Flow:
        return self._branches(operator.arguments, flow)

    def _branches(self, items: Sequence[Node], first: Flow | None) -> Flow:
        flows = [] if first is None else [first]
        for item in items:
            if isinstance(item, Wildcard):
                raise Dependent("the union reads tables that it does not name")
            flows.append(self._head(item))
        devices = {flow.device for flow in flows}
        if any(flow.constant for flow in flows) and not all(flow.constant for flow in flows):
            raise Dependent("the union adds rows of no device, once for every part")
        device = devices.pop() if len(devices) == 1 else None
        return Flow(device, constant=all(flow.constant for flow in flows))

    def _parse(self, operator: Operator, flow: Flow) -> Flow:
        for argument in operator.arguments:
            self._check(argument, flow)
        made = {token.text for clause in operator.clauses for token in clause.tokens}
        return _without(flow) if flow.device in made else flow

    def _expand(self, operator: Operator, flow: Flow) -> Flow:
        """Row by row, whatever is done to a row's own items."""
        self._check_all(operator, flow, _ITEMS)
        made = {name for one in find(operator, Named) for name in one.names}
        made |= {one.tokens[0].text for one in operator.arguments}
        made |= {operator.option("with_itemindex")}
        if flow.device in made:
            return _without(flow)
        return replace(flow, first=None, grouped=False)


def _unchanged(_operator: Operator, flow: Flow) -> Flow:
    return flow


def _reorder(_operator: Operator, flow: Flow) -> Flow:
    return replace(flow, first=None)


def _without(flow: Flow) -> Flow:
    return replace(flow, device=None, first=None, grouped=False)


def _require_device(flow: Flow, what: str) -> None:
    if flow.device is None:
        raise Dependent(f"{what} comes after the device column is gone")


def _check_condition(condition: Sequence[Node], left: Flow, right: Flow, what: str) -> None:
    """Refuse a join that matches records of two devices."""
    sides = {f"$left.{left.device}", f"$right.{right.device}"}
    for item in (one for part in condition for one in conjuncts(part)):
        if column(item) == left.device == right.device:
            return
        is_equal = isinstance(item, Comparison) and item.operator == "=="
        if is_equal and {_text(item.left), _text(item.right)} == sides:  # type: ignore[attr-defined]
            return
    raise Dependent(f"the {what} does not match by {left.device or 'the device'}")


def _text(node: Node) -> str:
    return "".join(token.text for token in node.tokens)


def _assignment(node: Node) -> tuple[tuple[str, ...], Node]:
    """The names on the left of ``=``, and the value."""
    return (node.names, node.value) if isinstance(node, Named) else ((), node)


def _matches(items: Sequence[Node], device: str | None) -> bool:
    """Whether a list of columns, with wildcards, names the device."""
    patterns = (getattr(item, "pattern", column(item) or "") for item in items)
    return device is not None and any(fnmatchcase(device, pattern) for pattern in patterns)
