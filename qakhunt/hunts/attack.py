"""Names of ATT&CK's techniques, of one version."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec


class Attack(msgspec.Struct, frozen=True):
    """ATT&CK's techniques: id to name, withdrawn id to its successor, and those without one."""

    version: str
    techniques: dict[str, str]
    revoked: dict[str, str]
    deprecated: frozenset[str]


_decode = msgspec.json.Decoder(Attack).decode


@cache
def attack() -> Attack:
    """The data file."""
    data = files("qakhunt").joinpath("data/attack_techniques.json").read_bytes()
    return _decode(data)
