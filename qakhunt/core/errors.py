"""Everything that can go wrong, by what the user can do about it.

    QakhuntError
    +- UsageError                an option, value or name on the command line
    +- ConfigError               the configuration file or the environment
    +- HuntError                 a hunt file, its parameters or its window
    |  +- NotAvailableError      the hunt cannot be written for that product
    +- EventsError               an input of recorded data
    +- ResultFileError           a saved result that is to be triaged or reported
    +- RecordingError           a recording is damaged, or not of what is asked
    +- EngineError               the embedded engine is missing or refuses a construct
    +- RejectedError             a service or the engine rejected the query
    +- UnansweredError           nobody answered: sign-in, network, permission
    +- OutputError               a result could not be written
    +- DeliveryError             a sink did not take a finding
    +- StateError                the state of scheduled runs cannot be used
    |  +- StateBusyError         another run holds it
    +- CheckFailed               a test, lint or doctor check failed

``except QakhuntError`` catches what a user can fix; anything else is a bug.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExitCode(IntEnum):
    """The documented exit codes of the command line."""

    OK = 0
    """Every query answered completely: clean, or hits. For other commands: done."""
    CHECK_FAILED = 1
    """A check failed: test cases, lint, doctor, or a state that is too old."""
    USAGE = 2
    """Usage, configuration, hunt file or recorded events: nothing was asked."""
    NOTHING_ANSWERED = 3
    """Nothing answered, another run holds the state, or a rule was not deployed."""
    INCOMPLETE = 4
    """Incomplete: something did not answer completely."""
    REJECTED = 5
    """The query was rejected by every line, or a rule by its service."""
    DELIVERY_FAILED = 6
    """A delivery failed; 4, 10 and 14 come before it."""
    HITS = 10
    """Hits with `--fail-on-hits`, or `diff` or `deploy --diff` found a difference."""
    HITS_INCOMPLETE = 14
    """Hits and incomplete, with `--fail-on-hits`."""
    BUG = 70
    """A bug in qakhunt."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C or SIGTERM."""


@dataclass(frozen=True)
class SourceLocation:
    """A place in a file: ``line`` and ``column`` count from 1, 0 means unknown."""

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        text = self.path
        if self.line:
            text += f":{self.line}"
            if self.column:
                text += f":{self.column}"
        return text

    def from_here(self) -> SourceLocation:
        """The place as seen from the current folder, where it lies inside."""
        try:
            return replace(self, path=str(Path(self.path).resolve().relative_to(Path.cwd())))
        except ValueError:
            return self


class QakhuntError(Exception):
    """Base of all errors a user can fix: one message, where, and how to fix it."""

    exit_code = ExitCode.USAGE

    def __init__(
        self,
        message: str,
        *,
        location: SourceLocation | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


class UsageError(QakhuntError):
    """An option, a value or a name on the command line is wrong."""


class ConfigError(QakhuntError):
    """The configuration file or the environment is wrong."""


class HuntError(QakhuntError):
    """A hunt file, a parameter or a window is wrong."""


class NotAvailableError(HuntError):
    """The hunt uses something that the asked-for product does not have."""


class EventsError(QakhuntError):
    """An input of recorded events cannot be used as it is."""


class ResultFileError(QakhuntError):
    """A saved result cannot be read: not JSON, another schema, or not whole."""


class RecordingError(QakhuntError):
    """A recording is not whole, not known, or not of what is asked."""


class EngineError(QakhuntError):
    """The embedded engine is missing, or refuses a construct of the query."""


class RejectedError(QakhuntError):
    """The query was rejected by whoever was to answer it."""

    exit_code = ExitCode.REJECTED


class UnansweredError(QakhuntError):
    """Nobody answered: sign-in, network or permission."""

    exit_code = ExitCode.NOTHING_ANSWERED


class OutputError(QakhuntError):
    """A result could not be written."""


class DeliveryError(QakhuntError):
    """A sink did not take what was sent to it."""

    exit_code = ExitCode.DELIVERY_FAILED


class StateError(QakhuntError):
    """The state of scheduled runs cannot be read or written."""


class StateBusyError(StateError):
    """Another run holds the state, so this one did not look."""

    exit_code = ExitCode.NOTHING_ANSWERED


class CheckFailed(QakhuntError):
    """A test, lint or doctor check failed."""

    exit_code = ExitCode.CHECK_FAILED


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Hint text naming the known name closest to ``name``, or None."""
    from difflib import get_close_matches

    names = sorted(set(known))
    folded = {n.casefold(): n for n in names}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[close[0]]!r}?" if close else None
