"""``parse_xml()``: XML as a dynamic value.

Source: https://learn.microsoft.com/kusto/query/parse-xml-function. DuckDB reads no XML:
this is Python's expat, which expands nothing that a document declares.
"""

from __future__ import annotations

import json
from typing import Any
from xml.parsers import expat

_MOST_CHARACTERS = 1 << 20
_DEEPEST = 100


class _Refused(Exception):
    """The document is not one that is read."""


class _Reader:
    """Elements, attributes and texts; all else is passed over."""

    def __init__(self) -> None:
        self.open: list[tuple[str, dict[str, Any]]] = [("", {})]
        self.text = ""
        self.skipping = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.flush()
        if len(self.open) > _DEEPEST:
            raise _Refused
        self.open.append((name, {f"@{key}": value for key, value in attributes.items()}))

    def end(self, name: str) -> None:
        self.flush()
        _, found = self.open.pop()
        value: Any = found or None
        if list(found) == ["#text"] and isinstance(found["#text"], str):
            value = found["#text"]
        _put(self.open[-1][1], name, value)

    def characters(self, text: str) -> None:
        if not self.skipping:
            self.text += text

    def flush(self) -> None:
        """Keep the text that has ended, unless it is only space."""
        if text := self.text.strip():
            _put(self.open[-1][1], "#text", text)
        self.text = ""

    def cdata(self) -> None:
        self.flush()
        self.skipping = True

    def cdata_ends(self) -> None:
        self.skipping = False

    def doctype(self, name: str, system: Any, public: Any, has_subset: bool) -> None:
        del name, system, public
        if has_subset:
            raise _Refused


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    if name not in found:
        found[name] = value
    elif isinstance(found[name], list):
        found[name].append(value)
    else:
        found[name] = [found[name], value]


def parse_xml(text: str | None) -> str | None:
    """The document as JSON; None where it is no XML, is too long or nested too deeply."""
    if text is None or not text.strip() or len(text) > _MOST_CHARACTERS:
        return None
    reader, parser = _Reader(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartCdataSectionHandler = reader.cdata
    parser.EndCdataSectionHandler = reader.cdata_ends
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(text.strip(), True)
    except (expat.ExpatError, UnicodeEncodeError, _Refused):
        return None
    return json.dumps(reader.open[0][1])
