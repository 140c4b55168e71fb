"""JSON templates: values are put into the parsed template, so no value changes its shape.

``"${device}"`` as a whole text keeps the value's type; inside other text it becomes
text. Names reach inward with dots: ``${hunt.title}``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from qakhunt.documents import read_text
from qakhunt.errors import ConfigError, SourceLocation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_NAME = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


def load_template(path: Path) -> Any:
    """A JSON template. Raises ConfigError with the line."""
    text = read_text(path, ConfigError)
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise ConfigError(
            f"the template is not JSON: {problem.msg}",
            location=SourceLocation(str(path), problem.lineno, problem.colno),
        ) from None


def fill(template: Any, values: dict[str, Any], shown: Callable[[str, str], str]) -> Any:
    """The template with its names replaced.

    ``shown(kind, text)`` makes a value's text harmless; ``kind`` is the ``type`` of the
    object that the text stands in, such as TextBlock.
    """
    return _fill(template, values, shown, "")


def fill_text(text: str, values: dict[str, Any], shown: Callable[[str], str]) -> str:
    """One line of text with its names replaced."""
    return str(_fill(text + " ", values, lambda _kind, value: shown(value), "")).rstrip()


def names_in(template: Any) -> set[str]:
    """Every name that a template uses."""
    return set(_NAME.findall(json.dumps(template)))


def check_names(template: Any, known: Collection[str], where: str) -> None:
    """Refuse, before any run, a name that no document has."""
    for name in sorted(names_in(template)):
        if name.partition(".")[0] not in known:
            raise ConfigError(
                f"{where}: the template uses ${{{name}}}, which no finding has",
                hint=f"names: {', '.join(known)}",
            )


def _fill(part: Any, values: dict[str, Any], shown: Callable[[str, str], str], kind: str) -> Any:
    if isinstance(part, dict):
        own = part.get("type")
        kind = own if isinstance(own, str) else kind
        return {key: _fill(value, values, shown, kind) for key, value in part.items()}
    if isinstance(part, list):
        return [_fill(item, values, shown, kind) for item in part]
    if not isinstance(part, str):
        return part
    whole = _NAME.fullmatch(part)
    if whole:
        value = _lookup(values, whole[1])
        return shown(kind, value) if isinstance(value, str) else value
    return _NAME.sub(lambda match: shown(kind, _text(_lookup(values, match[1]))), part)


def _lookup(values: Any, name: str) -> Any:
    for step in name.split("."):
        values = values.get(step) if isinstance(values, dict) else None
    return values


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
