"""Expressions that are worked out row by row, and those that look at other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qakhunt.kql.functions import (
    AGGREGATES,
    CLOCK,
    DETERMINISTIC,
    OUTSIDE,
    UNREPEATABLE,
    WINDOW,
    WINDOW_RESTART,
    WORDS,
)
from qakhunt.kql.pipeline import closing, split
from qakhunt.kql.tokens import Kind, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

_CALLABLE = DETERMINISTIC | CLOCK | WORDS | {"typeof", "toscalar", "datatable", "datetime"}
_STARTS = frozenset(["and", "or", "(", ","])


class Dependent(ValueError):
    """A row may depend on records of two devices; the text says why."""


class FlowLike(Protocol):
    """What is known of the rows that an expression stands in."""

    @property
    def device(self) -> str | None: ...
    @property
    def first(self) -> str | None: ...
    @property
    def constant(self) -> bool: ...
    @property
    def grouped(self) -> bool: ...


class ScalarReader:
    """Checks expressions; ``flows`` are the tabular names defined so far."""

    def __init__(
        self,
        tables: Collection[str],
        flows: Mapping[str, FlowLike],
        pipeline: Callable[[Sequence[Token]], FlowLike],
    ) -> None:
        self.tables, self.flows, self.pipeline = tables, flows, pipeline
        self.functions: set[str] = set()

    def define(self, name: str, tokens: Sequence[Token]) -> None:
        """A ``let`` that is no table: a value, or a function of values."""
        if tokens and tokens[-1].text == "}":
            body = next((at for at, token in enumerate(tokens) if token.text == "{"), 0)
            self._check_known(tokens[body:], aggregates=False)
            self.functions.add(name)
            return
        self._check_known(tokens, aggregates=True)

    def _check_known(self, tokens: Sequence[Token], *, aggregates: bool) -> None:
        for at in range(len(tokens)):
            self._check_word(tokens, at, None, aggregates=aggregates)

    def check(
        self,
        tokens: Sequence[Token],
        flow: FlowLike,
        *,
        aggregates: bool = False,
        inner: bool = False,
    ) -> None:
        """Refuse what looks beyond the row, or beyond the device's own rows.

        ``inner`` allows a pipeline over the row's own items, as mv-apply has it.
        """
        at = 0
        while at < len(tokens):
            end = self._membership_end(tokens, at, flow) or self._window_end(tokens, at, flow)
            if end:
                at = end
                continue
            if tokens[at].text == "|" and not inner:
                raise Dependent("a query inside an expression is not understood")
            self._check_word(tokens, at, flow, aggregates=aggregates)
            at += 1

    def _check_word(
        self, tokens: Sequence[Token], at: int, flow: FlowLike | None, *, aggregates: bool
    ) -> None:
        token = tokens[at]
        if token.kind is not Kind.IDENTIFIER or (at and tokens[at - 1].text == "."):
            return
        name = token.text
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        if name in self.tables or (name in self.flows and not self.flows[name].constant):
            raise Dependent(f"{name} is read inside an expression")
        if after != "(":
            return
        if name in UNREPEATABLE or name in OUTSIDE - {"_GetWatchlist"}:
            raise Dependent(f"{name}() gives something else each time, or reads from elsewhere")
        if name in WINDOW:
            raise Dependent(f"{name}() looks at the rows beside, whatever their device")
        allowed = name in _CALLABLE or name in self.functions or name == "_GetWatchlist"
        if not (allowed or (aggregates and name in AGGREGATES)):
            raise Dependent(f"what {name}() does is not known")

    def _membership_end(self, tokens: Sequence[Token], at: int, flow: FlowLike) -> int | None:
        """``Device in (table)``: whether a device is among those of its own part.

        Gives where it ends, None where nothing of the kind stands at ``at``. Any
        column may be looked for in rows that come from no table.
        """
        if tokens[at].text != "in" or at + 1 >= len(tokens):
            return None
        opening = at + 1 + (tokens[at + 1].text == "~")
        if opening >= len(tokens) or tokens[opening].text != "(":
            return None
        close = closing(tokens, opening)
        inside = tokens[opening + 1 : close]
        if not any(t.text in self.tables or t.text in self.flows or t.text == "|" for t in inside):
            return None
        found = self.pipeline(inside)
        exact = opening == at + 1
        negated = at > 0 and tokens[at - 1].text == "!"
        subject = at - 1 - negated
        is_device = (
            subject >= 0
            and tokens[subject].text == flow.device
            and (subject == 0 or tokens[subject - 1].text in _STARTS)
        )
        own = exact and is_device and found.device is not None and found.first == found.device
        if not (found.constant or own):
            raise Dependent("an 'in' looks for values among the records of all devices")
        return close + 1

    def _window_end(self, tokens: Sequence[Token], at: int, flow: FlowLike) -> int | None:
        """A window function that starts anew at each device, over rows that stand so."""
        name = tokens[at].text
        if name not in WINDOW_RESTART or at + 1 >= len(tokens) or tokens[at + 1].text != "(":
            return None
        close = closing(tokens, at + 1)
        arguments = list(split(tokens[at + 2 : close], ","))
        place = WINDOW_RESTART[name]
        if not flow.grouped or len(arguments) != place + 1:
            raise Dependent(f"{name}() runs on from one device to the next")
        terms = [[token.text for token in term] for term in split(arguments[place], "or")]
        device = str(flow.device)
        previous = ["prev", "(", device, ")"]
        if [device, "!=", *previous] not in terms and [*previous, "!=", device] not in terms:
            raise Dependent(f"{name}() does not start anew when {device} changes")
        for term in split(arguments[place], "or"):
            self._check_restart(term)
        for argument in arguments[:place]:
            self.check(argument, flow)
        return close + 1

    def _check_restart(self, term: Sequence[Token]) -> None:
        """Another reason to start anew may compare with the row before, no further."""
        for at, token in enumerate(term):
            if token.text == "prev" and at + 1 < len(term) and term[at + 1].text == "(":
                if len(list(split(term[at + 2 : closing(term, at + 1)], ","))) == 1:
                    continue
                raise Dependent("prev() with an offset looks further back than one row")
            self._check_word(term, at, None, aggregates=False)
