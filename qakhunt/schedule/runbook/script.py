"""The runbook script: what it carries as literals, and one call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.schedule.runbook.payload import Job, Payload


@dataclass(frozen=True)
class Parameter:
    """A positional parameter; ``-`` or nothing keeps what was built in."""

    name: str
    help: str


PARAMETERS = (
    Parameter("HUNTS", "names of hunts, separated by commas"),
    Parameter("PROFILES", "names of profiles or groups, separated by commas"),
    Parameter("DEADLINE", "ask nothing more after this long, such as 150m"),
    Parameter("STATE", "the URL of the state's blob"),
)

_SCRIPT = '''"""qakhunt in Azure Automation.

Made by 'qakhunt runbook build'; build it again rather than editing it. Positional
parameters, each of which may be '-' or left out to keep what was built in:

{parameters}

Output: counts and ids only. The job ends as Failed when something was not looked at
or not delivered; the last line of its exception says what.
"""

import sys

from qakhunt.cli.runbook_job import run

BUILT = {built}

run(sys.argv[1:], BUILT)
'''


def script(payload: Payload, job: Job) -> str:
    """The script's text: Python 3.10, no secret in it."""
    built = {
        "config": payload.config,
        "files": payload.files,
        "hunts": list(payload.hunts),
        "profiles": list(job.profiles),
        "state": job.state,
        "sinks": list(job.sinks),
        "heartbeat": job.heartbeat,
        "every": job.every,
        "repeat_after": job.repeat_after,
        "deadline": job.deadline,
        "variables": list(payload.variables),
    }
    lines = [f"    {n}. {p.name}: {p.help}" for n, p in enumerate(PARAMETERS, 1)]
    return _SCRIPT.format(parameters="\n".join(lines), built=_literal(built))


def _literal(built: Mapping[str, object]) -> str:
    """A Python literal, one entry a line, in ASCII."""
    lines = [f"    {json.dumps(name)}: {value!a}," for name, value in built.items()]
    return "{\n" + "\n".join(lines) + "\n}"
