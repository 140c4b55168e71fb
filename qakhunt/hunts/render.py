"""A hunt with its parameters, window and product, as KQL to paste.

Rendering replaces spans and nothing else: comments, layout and every other byte
of the query stay. All values go through ``kql.literal.encode``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import NotAvailableError, SourceLocation
from qakhunt.hunts.model import LOG_ANALYTICS
from qakhunt.hunts.parameters import bind, parameters_of, place_of, script_of
from qakhunt.hunts.product import product_edits
from qakhunt.hunts.time_filters import NotEvaluable, evaluate
from qakhunt.hunts.window import (
    PUBLISHED,
    account,
    bound_lets,
    published,
    resolve,
)
from qakhunt.kql.edits import Edit, apply, original_offset
from qakhunt.kql.literal import encode
from qakhunt.kql.syntax import Call
from qakhunt.kql.tokens import LineIndex
from qakhunt.kql.visitors import tables_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Node
    from qakhunt.kql.values import Instant, Window


@dataclass(frozen=True)
class RenderedQuery:
    """The text to send, and what it was made from.

    ``hunt_hash`` covers the query and its parameters without the window,
    ``query_hash`` the text as sent; both are SHA-256 in hex. ``notes`` say how the
    window came about and what it bounds; ``partial`` why no answer can be complete.
    """

    hunt: Hunt
    product: str
    text: str
    window: Window
    now: Instant
    parameters: dict[str, Any]
    hunt_hash: str
    query_hash: str
    warnings: tuple[str, ...]
    edits: tuple[Edit, ...]
    notes: tuple[str, ...] = ()
    partial: str = ""

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables of the product's schema that the text names."""
        return tuple(tables_of(self.text, self.product))

    def locate(self, line: int, column: int) -> SourceLocation:
        """The place in the hunt's file of a line and column of ``text``, from 1."""
        offset = LineIndex(self.text).offset(line, column)
        return place_of(self.hunt, original_offset(self.edits, offset))


def render(
    hunt: Hunt,
    *,
    now: Instant,
    product: str = LOG_ANALYTICS,
    parameters: Mapping[str, Any] | None = None,
    window: str | Window = PUBLISHED,
    zone: dt.tzinfo | None = None,
) -> RenderedQuery:
    """Render a hunt for one product.

    Raises UsageError for a value that does not fit, HuntError for a hunt that
    cannot be rendered, NotAvailableError for a product that it cannot serve.
    """
    check_product(hunt, product)
    script = script_of(hunt)
    values = bind(hunt, parameters or {})
    notes = []
    if window == PUBLISHED:
        window, reason = published(hunt, now, values)
        notes.append(f"window {window}: {reason}")
    elif isinstance(window, str):
        window = resolve(window, hunt, now, values, zone)
    edits = _parameter_edits(hunt, values)
    hunt_hash = _sha256(apply(hunt.query, edits))
    bounds = _window_edits(hunt, window)
    edits += bounds.values()
    names = {**values, **dict(zip(bounds, (window.start, window.end), strict=False))}
    looked_at = account(script, window, now, names, product)
    clock_edits = _clock_edits(script, edits, now)
    edits += clock_edits
    edits += product_edits(hunt, script, edits, product)
    edits.sort(key=lambda edit: edit.start)
    text = apply(hunt.query, edits)
    warnings = [f"{hunt.name}: {warning}" for warning in (*hunt.remarks, *looked_at.warnings)]
    if clock_edits:
        notes.append(f"its now() and ago() are rendered as of {now}")
    if window.end > now:
        warnings.append(f"the window ends at {window.end}, after now ({now}): it is not over yet")
    return RenderedQuery(
        hunt, product, text, window, now, values, hunt_hash, _sha256(text), tuple(warnings),
        tuple(edits), (*notes, *looked_at.notes), looked_at.partial,
    )  # fmt: skip


def render_living(
    hunt: Hunt,
    bounds: tuple[str, str],
    *,
    product: str = LOG_ANALYTICS,
    parameters: Mapping[str, Any] | None = None,
) -> str:
    """The query of a rule, which looks back from whenever it runs.

    ``bounds`` are the expressions of its window lets, such as ``ago(7d)`` and ``now()``; nothing
    is rendered as an instant. Raises what ``render`` raises.
    """
    check_product(hunt, product)
    script = script_of(hunt)
    edits = _parameter_edits(hunt, bind(hunt, parameters or {}))
    if hunt.notes.window is not None:
        lets = bound_lets(hunt, hunt.notes.window)
        edits += [
            Edit(let.value.start, let.value.end, text)
            for let, text in zip(lets, bounds, strict=True)
        ]
    return apply(hunt.query, [*edits, *product_edits(hunt, script, edits, product)])


def check_product(hunt: Hunt, product: str) -> None:
    """Raises NotAvailableError for a product that the hunt is not written for."""
    if product not in hunt.products:
        raise NotAvailableError(
            f"{hunt.name} is not available for {product}",
            hint=f"it is written for {', '.join(hunt.products)}",
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parameter_edits(hunt: Hunt, values: Mapping[str, Any]) -> list[Edit]:
    """One edit per value that differs from the query's own."""
    return [
        Edit(parameter.start, parameter.end, encode(values[name], parameter.kql_type))
        for name, parameter in parameters_of(hunt).items()
        if not _same(values[name], parameter.default)
    ]


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _window_edits(hunt: Hunt, window: Window) -> dict[str, Edit]:
    """The edit of each let that holds a bound, start first."""
    notes = hunt.notes.window
    if notes is None:
        return {}
    last = window.last_tick if notes.inclusive_end else window.end
    lets = bound_lets(hunt, notes)
    return {
        let.name: Edit(let.value.start, let.value.end, encode(instant, "datetime"))
        for let, instant in zip(lets, (window.start, last), strict=True)
    }


def _clock_edits(script: Node, others: Sequence[Edit], now: Instant) -> list[Edit]:
    """``now(..)`` and ``ago(..)`` as fixed instants, wherever they stand."""
    edits = []
    waiting = [script]
    while waiting:
        node = waiting.pop()
        if any(edit.start <= node.start and node.end <= edit.end for edit in others):
            continue
        if isinstance(node, Call) and node.name in ("now", "ago"):
            try:
                # Names keep their meaning: a let's may be another one inside a function.
                text = encode(evaluate(node, now, {}), "datetime")
                edits.append(Edit(node.start, node.end, text))
                continue
            except NotEvaluable:
                moment = encode(now, "datetime")
                sign = "-" if node.name == "ago" else "+"
                name, opened, *_, closed = node.parts
                edits.append(Edit(name.start, name.end, f"({moment} {sign} "))
                edits.append(Edit(opened.start, opened.end, "("))
                edits.append(Edit(closed.start, closed.end, "))"))
        waiting += reversed(node.children)
    return edits
