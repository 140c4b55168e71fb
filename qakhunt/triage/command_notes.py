"""What each command of a hit means: normalised, its family, techniques, what it reveals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.hunts.command_catalogue import families
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.hunts.command_catalogue import Command
    from qakhunt.kql.values import Timespan
    from qakhunt.triage.timeline import Moment


@dataclass(frozen=True)
class Technique:
    """An ATT&CK technique: its id, its name where known, and its page."""

    id: str
    name: str
    url: str


@dataclass(frozen=True)
class CommandNote:
    """One distinct command line of a hit and what is known of it.

    ``offset`` is that of its first run, None where times are not known; ``runs`` counts
    the runs seen, 0 where none was. ``counted`` says whether this hit's hunt counted
    it; ``counted_by`` names every hunt of the run that did.
    """

    command: Command
    title: str
    reveals: str
    techniques: tuple[Technique, ...]
    offset: Timespan | None
    runs: int
    counted: bool
    counted_by: tuple[str, ...]

    @property
    def counted_words(self) -> str:
        """Who counted it, where that is not this hit's hunt alone; else nothing."""
        others = len(self.counted_by) - self.counted
        if self.counted:
            return f"counted by {count(others, 'other hunt')} too" if others else ""
        names = ", ".join(self.counted_by)
        return f"counted by {names} alone" if names else "not counted by the hunt"


def technique(identifier: str) -> Technique:
    """The technique of that id."""
    name = families().techniques.get(identifier, "")
    page = "/".join(["https://attack.mitre.org/techniques", *identifier.split(".")])
    return Technique(identifier, name, f"{page}/")


def notes_of(hit: Hit, moments: Sequence[Moment]) -> list[CommandNote]:
    """The hit's commands in the order of their first run, and the uncounted ones with them.

    A discovery command that ran among them, from the same processes, but that the hunt
    does not list, is here too, with ``counted`` False.
    """
    lines = {command.line: command for command in hit.commands}
    seen: dict[str, list[Moment]] = {}
    for moment in moments:
        process = moment.event.process
        if process is not None and (moment.own or (moment.discovery and moment.related)):
            seen.setdefault(process.line, []).append(moment)
    notes = []
    for line, runs in seen.items():
        command = lines.get(line) or runs[0].event.command
        if command is not None:
            notes.append(_note(hit, command, runs, counted=line in lines))
    notes += [
        _note(hit, command, [], counted=True) for line, command in lines.items() if line not in seen
    ]
    return notes


def _note(hit: Hit, command: Command, runs: Sequence[Moment], *, counted: bool) -> CommandNote:
    family = families().families.get(command.family or "")
    by = dict.fromkeys([hit.hunt] if counted else [])
    by |= dict.fromkeys(name for moment in runs for name in moment.counted_by)
    return CommandNote(
        command=command,
        title=family.title if family else "",
        reveals=family.reveals if family else "",
        techniques=tuple(technique(identifier) for identifier in command.techniques),
        offset=runs[0].offset if runs else None,
        runs=len(runs),
        counted=counted,
        counted_by=tuple(by),
    )
