"""Templates that are ready for a receiver, each checked against its documented payload.

A file of ``qakhunt/data/templates`` holds the body, the message of a heartbeat or none, and
the address and version of the documentation.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import msgspec

from qakhunt.core.errors import ConfigError

_FOLDER = files("qakhunt") / "data" / "templates"
READY = ("slack", "jira", "servicenow")
_VALUE = re.compile(r"\$\{values\.(\w+)\}")


class ReadyTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A receiver's payload; ``heartbeat`` is None where one would be of no use there."""

    documentation: str
    version: str
    limits: str
    body: Any
    heartbeat: Any = None


_decode = msgspec.json.Decoder(ReadyTemplate).decode


def read_template(name: str) -> ReadyTemplate:
    """The ready template of that name."""
    data = _FOLDER.joinpath(f"{name}.json").read_bytes()
    return _decode(data)


def ready_template(name: str, values: dict[str, str], where: str) -> ReadyTemplate | None:
    """The ready template that a sink's ``template`` names; None where it names a file.

    Raises ConfigError for ``values`` that it lacks.
    """
    if name not in READY:
        return None
    found = read_template(name)
    needed = sorted(set(_VALUE.findall(json.dumps(found.body))) - values.keys())
    if needed:
        shown = ", ".join(f'{one} = "..."' for one in needed)
        raise ConfigError(
            f"{where}: the template {name} needs {', '.join(needed)}",
            hint=f"values = {{ {shown} }}",
        )
    return found


def with_values(template: Any, values: dict[str, str], where: str) -> Any:
    """The template with its ``${values.NAME}`` filled in. Raises ConfigError for one unknown."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ConfigError(
                f"{where}: the template uses ${{values.{match[1]}}}, which is not set",
                hint=f'values = {{ {match[1]} = "..." }}',
            )
        return json.dumps(values[match[1]])[1:-1]  # within a text of the JSON

    return json.loads(_VALUE.sub(value, json.dumps(template)))
