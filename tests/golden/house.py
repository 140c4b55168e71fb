"""The picture of the house: its rooms as pyproject's import contract lists them, and their doors.

A room's line of text is its package's docstring, so that neither can be out of date.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "assets" / "house.svg"
PAGE = ROOT / "docs" / "contributing" / "architecture.md"

_WIDTH, _FLOOR, _GAP, _LEFT = 860, 74, 14, 20
_BLOCK = re.compile(r"(<!-- rooms -->\n).*?(<!-- /rooms -->)", re.DOTALL)


def floors() -> list[list[str]]:
    """The rooms by floor, top down, as the contract "rooms" of pyproject.toml has them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contract = text.partition('name = "rooms"')[2]
    layers = re.search(r"layers = \[\n(.*?)\n\]", contract, re.DOTALL)
    assert layers
    return [re.findall(r"qakhunt\.(\w+)", line) for line in layers[1].splitlines()]


@cache
def about(room: str) -> str:
    """The first line of the room's docstring."""
    source = (ROOT / "qakhunt" / room / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


@cache
def doors() -> dict[str, set[str]]:
    """Room -> the rooms that it imports from."""
    rooms = {room for floor in floors() for room in floor}
    found: dict[str, set[str]] = {}
    for path in (ROOT / "qakhunt").glob("*/**/*.py"):
        room = path.relative_to(ROOT / "qakhunt").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = name.split(".")
                if parts[0] == "qakhunt" and len(parts) > 1 and parts[1] in rooms - {room}:
                    found.setdefault(room, set()).add(parts[1])
    return found


def picture() -> str:
    """An SVG with one row per floor; a room imports only from rows below its own."""
    rows = floors()
    height = len(rows) * (_FLOOR + _GAP) + 2 * _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif">',
        "<title>The rooms of qakhunt, top down: each imports only from rooms below it</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#f4f6f8"/>',
    ]
    for floor, rooms in enumerate(rows):
        width = (_WIDTH - 2 * _LEFT - (len(rooms) - 1) * _GAP) / len(rooms)
        y = _GAP + floor * (_FLOOR + _GAP) + _GAP / 2
        for at, room in enumerate(rooms):
            x = _LEFT + at * (width + _GAP)
            parts += [
                f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{_FLOOR}" rx="6" '
                'fill="#ffffff" stroke="#3b5b7a"/>',
                f'<text x="{x + 14:g}" y="{y + 27:g}" font-size="17" font-weight="600" '
                f'fill="#12283d">{escape(room)}/</text>',
            ]
            lines = _wrapped(about(room), int(width / 6.6))
            parts += [
                f'<text x="{x + 14:g}" y="{y + 46 + 16 * n:g}" font-size="12" '
                f'fill="#33475b">{escape(line)}</text>'
                for n, line in enumerate(lines[:2])
            ]
    return "\n".join([*parts, "</svg>\n"])


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, max_lines=2, placeholder=" …") or [""]


def with_rooms(text: str) -> str:
    """The page's text with its table of rooms as the source has them."""
    rows = ["| Room | Holds | Imports from |", "|---|---|---|"]
    for floor in floors():
        for room in floor:
            below = ", ".join(f"`{name}`" for name in sorted(doors().get(room, ()))) or "-"
            rows.append(f"| `{room}/` | {about(room)} | {below} |")
    block = "\n".join(rows)
    return _BLOCK.sub(lambda match: f"{match[1]}\n{block}\n\n{match[2]}", text)
