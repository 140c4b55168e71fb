"""Bursts found as events are lost: an SVG for a page, bars for a terminal."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from qakhunt.proving.evidence import percent, recall_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.proving.statistics import Share

_WIDTH, _PLOT, _LEFT, _TOP, _GAP = 760, 150, 44, 46, 74
_COLOURS = (
    "#1b6ca8", "#c8553d", "#3c8d40", "#7b4fa3", "#b8860b", "#2a9d8f", "#8d6e63", "#d81b60",
    "#546e7a",
)  # fmt: skip


def losses_of(hunt: dict[str, Any]) -> list[int]:
    """The shares of loss that were measured, with none at all first."""
    return [0, *sorted({entry["percent"] for entry in hunt["loss"]})]


def curves_of(hunt: dict[str, Any]) -> dict[str, list[Share]]:
    """Rendering -> bursts found at each share of loss."""
    tables = [recall_of(hunt, loss=loss) for loss in losses_of(hunt)]
    return {name: [table[name] for table in tables if name in table] for name in tables[0]}


def terminal_lines(hunts: Sequence[dict[str, Any]], width: int, bar: str) -> list[str]:
    """Bars of the bursts found by rendering and loss."""
    lines: list[str] = []
    room = max(10, min(40, width - 34))
    for hunt in hunts:
        curves = curves_of(hunt)
        if not curves:
            continue
        lines += ["", f"{hunt['name']}: bursts found, by rendering and events lost"]
        for name, shares in curves.items():
            for loss, share in zip(losses_of(hunt), shares, strict=False):
                label = f"{name if loss == 0 else '':<12}{loss:>3} % lost "
                filled = round((share.value or 0) * room)
                lines.append(f"  {label}{bar * filled:<{room}} {percent(share):>7}")
    return lines


def svg(hunts: Sequence[dict[str, Any]], date: str) -> str:
    """A panel for each hunt: bursts found against events lost, a line for each rendering."""
    shown = [hunt for hunt in hunts if curves_of(hunt)]
    height = _TOP + len(shown) * (_PLOT + _GAP)
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH} {height}",
            "width": str(_WIDTH), "height": str(height), "role": "img",
            "font-family": "system-ui, sans-serif", "font-size": "12",
        },
    )  # fmt: skip
    ET.SubElement(root, "title").text = f"Bursts found as events are lost, measured {date}"
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    _text(root, _LEFT, 22, f"Bursts found as events are lost (qakhunt evaluate, {date})", size=14)
    for number, hunt in enumerate(shown):
        _panel(root, hunt, _TOP + number * (_PLOT + _GAP))
    return ET.tostring(root, encoding="unicode") + "\n"


def _panel(root: ET.Element, hunt: dict[str, Any], top: float) -> None:
    losses = losses_of(hunt)
    right = _WIDTH - 190
    span = max(losses) or 1

    def x(loss: float) -> float:
        return round(_LEFT + loss / span * (right - _LEFT), 1)

    def y(share: float) -> float:
        return round(top + 16 + (1 - share) * _PLOT, 1)

    _text(root, _LEFT, top + 6, hunt["name"], weight="600")
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        _line(root, [(_LEFT, y(level)), (right, y(level))], "#dddddd", 1)
        _text(root, _LEFT - 6, y(level) + 4, f"{level * 100:g} %", anchor="end")
    for loss in losses:
        _text(root, x(loss), y(0) + 16, f"{loss} %", anchor="middle")
    _text(root, (_LEFT + right) / 2, y(0) + 32, "events lost", anchor="middle")
    for number, (name, shares) in enumerate(curves_of(hunt).items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [
            (x(loss), y(share.value or 0.0)) for loss, share in zip(losses, shares, strict=False)
        ]
        _line(root, points, colour, 2)
        at = top + 20 + number * 16
        _line(root, [(right + 16, at), (right + 34, at)], colour, 3)
        _text(root, right + 40, at + 4, f"{name} ({shares[0].tried} bursts)")


def _line(root: ET.Element, points: list[tuple[float, float]], colour: str, width: int) -> None:
    told = " ".join(f"{x},{y}" for x, y in points)
    ET.SubElement(
        root, "polyline",
        {"points": told, "fill": "none", "stroke": colour, "stroke-width": str(width)},
    )  # fmt: skip


def _text(
    root: ET.Element, x: float, y: float, text: str, *, anchor: str = "start", size: int = 12,
    weight: str = "400",
) -> None:  # fmt: skip
    made = ET.SubElement(
        root, "text",
        {
            "x": str(x), "y": str(y), "text-anchor": anchor, "font-size": str(size),
            "font-weight": weight, "fill": "#222222",
        },
    )  # fmt: skip
    made.text = text
