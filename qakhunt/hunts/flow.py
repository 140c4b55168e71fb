"""What each step of a query does to the device column.

A reader follows one column from every source to the result and stops at the first
step whose rows may depend on records of two devices. What it does not know, it
does not let pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING

from qakhunt.hunts.flow_scalars import Dependent, ScalarReader
from qakhunt.kql.pipeline import bracketed, by_split, closing, pipeline, split
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.tokens import Kind, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.kql.pipeline import Stage, Statement

    Tokens = Sequence[Token]

_CONSTANT_HEADS = frozenset(["datatable", "print", "range", "_GetWatchlist"])
# Each row of the left by itself; innerunique keeps one row of several with the same key.
_ROW_BY_ROW = frozenset(["inner", "leftouter", "leftanti", "leftantisemi", "anti", "leftsemi"])
_LEFT_JOINS = _ROW_BY_ROW | {"innerunique"}
_RIGHT_JOINS = frozenset(["rightsemi", "rightanti", "rightantisemi"])


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

    ``sources`` collects the places where a table is read in a way that is
    understood. Raises Dependent at the first step that is not.
    """

    def __init__(self, product: str, column: str) -> None:
        self.product, self.column = product, column
        self.sources: set[int] = set()
        self.flows: dict[str, Flow] = {}
        self.scalars = ScalarReader(frozenset(tables(product)), self.flows, self.pipeline)
        self.steps: dict[str, Callable[[Stage, Flow], Flow]] = {
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

    def read(self, parts: Sequence[Statement]) -> Flow:
        """Follow every statement; the last one's flow is the result's."""
        flow = Flow(None)
        for part in parts:
            if part.name is None:
                flow = self.pipeline(part.value)
            elif self._is_tabular(part.value):
                self.flows[part.name] = self.pipeline(part.value)
            else:
                self.scalars.define(part.name, part.value)
        return flow

    def _is_tabular(self, tokens: Tokens) -> bool:
        source, *stages = pipeline(tokens)
        head = source.tokens
        if stages:
            return True
        if bracketed(head):
            return self._is_tabular(head[1:-1])
        if not head or head[-1].text == "}":
            return False
        name = head[0].text
        if len(head) == 1:
            return name in self.flows or name in tables(self.product)
        return name in _CONSTANT_HEADS or name in ("union", "materialize", "externaldata")

    def pipeline(self, tokens: Sequence[Token]) -> Flow:
        """The flow at the end of one tabular expression."""
        source, *stages = pipeline(tokens)
        flow = self._head(source.tokens)
        for stage in stages:
            step = self.steps.get(stage.operator)
            if flow.constant and stage.operator not in ("join", "lookup", "union"):
                self.scalars.check(stage.tokens, flow)
                flow = replace(flow, first=None)
                continue
            if step is None:
                raise Dependent(f"the operator {stage.operator!r} looks at all devices at once")
            flow = step(stage, flow)
        return flow

    def _head(self, head: Tokens) -> Flow:
        if bracketed(head):
            return self.pipeline(head[1:-1])
        name = head[0].text if head else ""
        if len(head) == 1 and name in self.flows:
            return self.flows[name]
        if len(head) == 1 and name in tables(self.product):
            if self.column not in columns(self.product, name):
                raise Dependent(f"{name} has no column {self.column}")
            self.sources.add(head[0].start)
            return Flow(self.column)
        if name == "materialize" and bracketed(head[1:]):
            return self.pipeline(head[2:-1])
        if name == "union":
            return self._branches(head[1:], None)
        if name in _CONSTANT_HEADS:
            self.scalars.check(head[1:], Flow(None))
            return Flow(None, constant=True)
        raise Dependent(f"{name or 'an empty source'!r} is not a table that is known")

    def _where(self, stage: Stage, flow: Flow) -> Flow:
        self.scalars.check(stage.tokens, flow)
        return flow

    def _extend(self, stage: Stage, flow: Flow) -> Flow:
        for item in split(stage.tokens, ","):
            targets, value = _assignment(item)
            self.scalars.check(value, flow)
            if flow.device in targets:
                flow = replace(flow, device=None, grouped=False)
        return flow

    def _project(self, stage: Stage, flow: Flow) -> Flow:
        kept: str | None = None
        first: str | None = None
        for number, item in enumerate(split(stage.tokens, ",")):
            targets, value = _assignment(item)
            self.scalars.check(value, flow)
            name = targets[0] if targets else _bare(item)
            if flow.device and _bare(value) == flow.device and kept is None:
                kept = name
            if number == 0:
                first = name
        return replace(flow, device=kept, first=first, grouped=flow.grouped and kept is not None)

    def _away(self, stage: Stage, flow: Flow) -> Flow:
        gone = _matches(stage.tokens, flow.device)
        return self._without(flow) if gone else _unnamed(flow)

    def _keep(self, stage: Stage, flow: Flow) -> Flow:
        kept = _matches(stage.tokens, flow.device)
        return _unnamed(flow) if kept else self._without(flow)

    @staticmethod
    def _without(flow: Flow) -> Flow:
        return replace(flow, device=None, first=None, grouped=False)

    @staticmethod
    def _rename(stage: Stage, flow: Flow) -> Flow:
        for item in split(stage.tokens, ","):
            targets, value = _assignment(item)
            if flow.device and _bare(value) == flow.device and targets:
                return replace(flow, device=targets[0], first=None)
        return _unnamed(flow)

    def _summarize(self, stage: Stage, flow: Flow) -> Flow:
        aggregates, keys = by_split(stage.tokens)
        self.scalars.check(aggregates, flow, aggregates=True)
        return self._by_device(list(split(keys, ",")) if keys else [], flow, "the summarize")

    def _distinct(self, stage: Stage, flow: Flow) -> Flow:
        if [token.text for token in stage.tokens] == ["*"]:
            self._require_device(flow, "the distinct")
            return _unnamed(flow)
        return self._by_device(list(split(stage.tokens, ",")), flow, "the distinct")

    def _by_device(self, keys: Sequence[Tokens], flow: Flow, what: str) -> Flow:
        self._require_device(flow, what)
        device = first = None
        for number, key in enumerate(keys):
            targets, value = _assignment(key)
            self.scalars.check(value, flow)
            name = targets[0] if targets else _bare(key)
            if _bare(value) == flow.device:
                device = device or name
            if number == 0:
                first = name
        if device is None:
            raise Dependent(f"{what} does not group by {flow.device}")
        return Flow(device, first)

    @staticmethod
    def _require_device(flow: Flow, what: str) -> None:
        if flow.device is None:
            raise Dependent(f"{what} comes after the device column is gone")

    def _sort(self, stage: Stage, flow: Flow) -> Flow:
        self.scalars.check(stage.tokens, flow)
        keys = by_split(stage.tokens)[1]
        leading = keys[0].text if keys else ""
        plain = len(keys) < 2 or keys[1].text in (",", "asc", "desc", "nulls")
        return replace(flow, grouped=plain and leading == flow.device)

    def _join(self, stage: Stage, flow: Flow) -> Flow:
        options, right_tokens, condition = _join_parts(stage.tokens)
        default = "leftouter" if stage.operator == "lookup" else "innerunique"
        kind = options.get("kind", default)
        right = self._head(right_tokens)
        if not (right.constant and kind in _ROW_BY_ROW):
            self._check_condition(condition, flow, right, stage.operator)
        result = Flow(flow.device, constant=flow.constant and right.constant)
        if kind in _RIGHT_JOINS:
            return replace(result, device=right.device)
        if kind in _LEFT_JOINS and not flow.constant:
            return result
        return replace(result, device=None)

    def _check_condition(self, condition: Tokens, left: Flow, right: Flow, what: str) -> None:
        for item in split(condition, ",", "and"):
            words = [token.text for token in item]
            sides = {"".join(words[:3]), "".join(words[4:])} if "==" in words else set()
            same = words == [left.device] and left.device == right.device
            if same or sides == {f"$left.{left.device}", f"$right.{right.device}"}:
                return
        raise Dependent(f"the {what} does not match by {left.device or 'the device'}")

    def _union(self, stage: Stage, flow: Flow) -> Flow:
        return self._branches(stage.tokens, flow)

    def _branches(self, tokens: Tokens, first: Flow | None) -> Flow:
        flows = [] if first is None else [first]
        for item in split(_without_options(tokens), ","):
            if any(token.text == "*" for token in item[:2]):
                raise Dependent("the union reads tables that it does not name")
            flows.append(self._head(item))
        devices = {flow.device for flow in flows}
        if any(flow.constant for flow in flows) and not all(flow.constant for flow in flows):
            raise Dependent("the union adds rows of no device, once for every part")
        device = devices.pop() if len(devices) == 1 else None
        return Flow(device, constant=all(flow.constant for flow in flows))

    def _parse(self, stage: Stage, flow: Flow) -> Flow:
        parts = list(split(stage.tokens, "with", "as"))
        self.scalars.check(parts[0], flow)
        made = {token.text for part in parts[1:] for token in part}
        return self._without(flow) if flow.device in made else flow

    def _expand(self, stage: Stage, flow: Flow) -> Flow:
        """Row by row, whatever is done to a row's own items."""
        self.scalars.check(stage.tokens, flow, aggregates=True, inner=True)
        items = next(split(stage.tokens, "on"))
        touched = {item[0].text for item in split(items, ",") if item}
        assigned = {token.text for token, after in pairwise(stage.tokens) if after.text == "="}
        if flow.device in touched | assigned:
            return self._without(flow)
        return replace(flow, first=None, grouped=False)


def _unchanged(_stage: Stage, flow: Flow) -> Flow:
    return flow


def _reorder(_stage: Stage, flow: Flow) -> Flow:
    return _unnamed(flow)


def _unnamed(flow: Flow) -> Flow:
    return replace(flow, first=None)


def _bare(tokens: Sequence[Token]) -> str | None:
    """The name that is all there is."""
    return tokens[0].text if len(tokens) == 1 and tokens[0].kind is Kind.IDENTIFIER else None


def _assignment(tokens: Tokens) -> tuple[list[str], Tokens]:
    """The names on the left of ``=``, and the value."""
    parts = list(split(tokens, "="))
    if len(parts) < 2:
        return [], tokens
    names = [token.text for token in parts[0] if token.kind is Kind.IDENTIFIER]
    return names, tokens[len(parts[0]) + 1 :]


def _matches(tokens: Tokens, device: str | None) -> bool:
    """Whether a list of columns, with wildcards, names the device."""
    patterns = ("".join(token.text for token in item) for item in split(tokens, ","))
    return device is not None and any(fnmatchcase(device, pattern) for pattern in patterns)


def _without_options(tokens: Tokens) -> Tokens:
    """Less the leading ``kind=``, ``withsource=`` and hints."""
    return tokens[_options(tokens)[1] :]


def _options(tokens: Tokens) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    at = 0
    while at + 2 < len(tokens):
        equals = 3 if tokens[at + 1].text == "." else 1
        if at + equals + 1 >= len(tokens) or tokens[at + equals].text != "=":
            break
        found[tokens[at].text] = tokens[at + equals + 1].text
        at += equals + 2
    return found, at


def _join_parts(tokens: Tokens) -> tuple[dict[str, str], Tokens, Tokens]:
    """Options, the right side and the condition."""
    options, at = _options(tokens)
    rest = tokens[at:]
    if not rest:
        raise Dependent("a join without a right side")
    end = closing(rest, 0) + 1 if rest[0].text == "(" else 1
    condition = rest[end:]
    if not condition or condition[0].text != "on":
        raise Dependent("a join whose condition is not understood")
    return options, rest[:end], condition[1:]
