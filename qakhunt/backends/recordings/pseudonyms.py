"""Stable pseudonyms under a key: equal stays equal, and kinds keep their shape.

A pseudonym says nothing of its name without the key. It has no vowels, so that it is
no word, and keeps upper and lower case apart as the name did.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import uuid
from hashlib import sha256
from typing import TYPE_CHECKING

from qakhunt.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_LETTERS = "bcdfghjklmnpqrstvwxz"
_LENGTH = 12
_DIGITS = 10
_KEY_BYTES = 32
_HINT = "name another with --key"

_WELL_KNOWN_SID = re.compile(r"S-1-(?:[0-4]-.*|5-(?:\d{1,2}|32-\d+|80-0))", re.IGNORECASE)


class Pseudonyms:
    """Names into pseudonyms under ``key``."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def key_id(self) -> str:
        """Tells whether two recordings were made under one key; not the key."""
        return self._digest("key", "").hex()[:16]

    def _digest(self, kind: str, name: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{name}".encode("utf-8", "surrogatepass"), "sha256")

    def _number(self, kind: str, name: str) -> int:
        return int.from_bytes(self._digest(kind, name), "big")

    def word(self, name: str) -> str:
        """For a word: letters for one with letters, digits for a number."""
        folded = name.casefold()
        if folded.isdecimal():
            least = 10 ** (_DIGITS - 1)
            return str(least + self._number("number", folded) % (9 * least))
        number, letters = self._number("word", folded), []
        for _ in range(_LENGTH):
            number, rest = divmod(number, len(_LETTERS))
            letters.append(_LETTERS[rest])
        return self._in_case_of(name, "".join(letters))

    def _in_case_of(self, name: str, pseudonym: str) -> str:
        if name == name.lower():
            return pseudonym
        if name == name.upper():
            return pseudonym.upper()
        if name == name.capitalize():
            return pseudonym.capitalize()
        bits = self._number("case", name)
        mixed = [c.upper() if bits >> at & 1 else c for at, c in enumerate(pseudonym)]
        return mixed[0].lower() + mixed[1].upper() + "".join(mixed[2:])

    def address(self, text: str) -> str:
        """For an IP address: private stays private, the rest becomes reserved; loopback stays."""
        address = ipaddress.ip_address(text)
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            return text
        number = self._number("address", address.compressed)
        if address.version == 4:
            start, size = (10 << 24, 1 << 24) if address.is_private else (240 << 24, (1 << 28) - 1)
            return str(ipaddress.IPv4Address(start + number % size))
        prefix = (0xFD << 120) if address.is_private else (0x20010DB8 << 96)
        bits = 120 if address.is_private else 96
        return str(ipaddress.IPv6Address(prefix + number % (1 << bits)))

    def sid(self, text: str) -> str:
        """For a security identifier; its last part stays, well-known ones stay whole."""
        if _WELL_KNOWN_SID.fullmatch(text):
            return text
        authority, _, relative = text.rpartition("-")
        number, parts = self._number("sid", authority.casefold()), []
        for _ in range(3):
            number, part = divmod(number, 1 << 32)
            parts.append(str(part))
        last = int(relative)
        if last >= 1000:
            last = 1000 + self._number("relative", relative) % (2**32 - 1000)
        return f"{text[:2]}1-5-21-{'-'.join(parts)}-{last}"

    def guid(self, text: str) -> str:
        """For a GUID; one of zeros stays."""
        if not text.strip("0-"):
            return text
        made = str(uuid.UUID(bytes=self._digest("guid", text.casefold())[:16], version=4))
        return made.upper() if text == text.upper() and text != text.lower() else made

    def hexadecimal(self, text: str) -> str:
        """For a hash: as many hexadecimal digits."""
        digest = sha256(self._digest("hash", text.casefold())).hexdigest()
        made = (digest * (len(text) // len(digest) + 1))[: len(text)]
        return made.upper() if text == text.upper() and text != text.lower() else made


def load_key(path: Path) -> bytes:
    """The key in ``path``; made, for its owner alone, where there is none. Raises UsageError."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(_KEY_BYTES) + "\n", encoding="ascii")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        raise UsageError(f"{path}: not a key for pseudonyms", hint=_HINT) from None
    if len(key) < _KEY_BYTES:
        raise UsageError(f"{path}: the key for pseudonyms is too short", hint=_HINT)
    return key
