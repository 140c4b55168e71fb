"""Plain values as TOML: tables, texts, numbers, booleans and lists of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_toml(values: Mapping[str, Any]) -> str:
    """A TOML text that reads back as ``values``."""
    lines: list[str] = []
    _table((), values, lines)
    return "\n".join(lines) + "\n"


def _table(path: tuple[str, ...], values: Mapping[str, Any], lines: list[str]) -> None:
    if path:
        lines.append(f"\n[{'.'.join(map(_text, path))}]")
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines += [f"{_text(k)} = {_value(v)}" for k, v in values.items() if k not in tables]
    for key, value in tables.items():
        _table((*path, key), value, lines)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    return _text(str(value))


def _text(value: str) -> str:
    """A JSON string is a TOML basic string, as long as nothing is written in two escapes."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
