"""Hostile text made harmless, one function per place where it is shown.

What an attacker wrote must never act: not on a terminal, not in a spreadsheet, not
in Markdown or HTML. Nothing is dropped: what cannot be shown is shown escaped.
"""

from __future__ import annotations

import re

# C0 and C1 controls, DEL, line separators, bidirectional marks, invisible and tag
# characters, and lone surrogates: whatever moves a cursor or hides text.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_CONTROL_BUT_NEWLINE = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~&$@:=^\"'/%])")
# What a CSV cell may hold as it is: TAB, LF and CRLF. A lone CR moves a cursor.
_CONTROL_IN_CSV = re.compile(
    _CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b\x0c\x0e-\x1f") + "|\r(?!\n)"
)
# Spreadsheets trim blanks and drop invisible characters before they look for a formula.
_FORMULA = re.compile(f"['\t\r\n]|(?:\\s|{_CONTROL.pattern})*[=+\\-@\uff1d\uff0b\uff0d\uff20]")


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def for_terminal(text: str) -> str:
    """One line of text that moves no cursor, changes no colour and hides nothing."""
    return _CONTROL.sub(_visible, text)


def lines_for_terminal(text: str) -> str:
    """As ``for_terminal``, but line breaks stay: for a whole file shown on a terminal."""
    return _CONTROL_BUT_NEWLINE.sub(_visible, text)


def for_json(text: str) -> str:
    r"""Serialised JSON with every control and invisible character as ``\uXXXX``.

    The value is unchanged; only its spelling is plain.
    """

    def escaped(match: re.Match[str]) -> str:
        code = ord(match[0])
        if code < 0x10000:
            return f"\\u{code:04x}"
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"

    return _CONTROL_BUT_NEWLINE.sub(escaped, text)


def for_markdown(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table cell."""
    return _MARKDOWN.sub(r"\\\1", for_terminal(text))


def for_spreadsheet(text: str) -> str:
    """Text that no spreadsheet takes for a formula.

    A cell that begins with ``= + - @`` or their full-width forms, also behind blanks and
    invisible characters, with TAB, CR, LF or an apostrophe gets one apostrophe in front;
    taking one away gives the text back.
    """
    return "'" + text if _FORMULA.match(text) else text


def for_csv(text: str) -> str:
    r"""Text for a CSV cell: control and invisible characters become visible (``\x1b``).

    TAB, LF and CRLF stay: inside quotes they are CSV's own.
    """
    return _CONTROL_IN_CSV.sub(_visible, text)
