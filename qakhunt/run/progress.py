"""How work is going, on stderr: a display on a terminal, lines with --verbose, else nothing."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from qakhunt.core.safe_text import for_terminal
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.run.plan import PlanLine

    Progress = Callable[[PlanLine, LedgerLine], None]


class Shown(Enum):
    """What stderr shows of a run under way."""

    NOTHING = "nothing"
    DISPLAY = "display"
    LINES = "lines"

    @classmethod
    def of(cls, *, quiet: bool, verbose: bool, as_json: bool = False) -> Shown:
        """JSON logs leave stderr to themselves."""
        if quiet or as_json:
            return cls.NOTHING
        if verbose:
            return cls.LINES
        return cls.DISPLAY if sys.stderr.isatty() else cls.NOTHING


class Silent:
    """Shows nothing; the others build on it."""

    def say(self, message: str) -> None:
        """What the run does now."""

    def planned(self, plan: Sequence[PlanLine]) -> None:
        """What will be queried."""

    def waited(self, profile: str, seconds: float, why: str) -> None:
        """A wait begins."""

    def expected(self, plan_line: PlanLine, pieces: int) -> None:
        """A line will be queried in so many more slices."""

    def answered(self, plan_line: PlanLine, line: LedgerLine) -> None:
        """A line of the ledger is there."""

    def both(self, other: Progress) -> Progress:
        """Report to this display and to ``other``."""

        def report(plan_line: PlanLine, line: LedgerLine) -> None:
            self.answered(plan_line, line)
            other(plan_line, line)

        return report


class Lines(Silent):
    """Plain lines on stderr."""

    def _print(self, text: str) -> None:
        print(for_terminal(text), file=sys.stderr, flush=True)

    def planned(self, plan: Sequence[PlanLine]) -> None:
        """The number of queries."""
        self._print(count(len(plan), "query", "queries"))

    def expected(self, plan_line: PlanLine, pieces: int) -> None:
        """How a query is sliced."""
        if pieces > 1:
            hunt, target = plan_line.rendered.hunt.name, plan_line.target
            label = target.workspace or target.tenant or target.profile
            self._print(f"{target.profile}: {hunt} on {label}: {count(pieces, 'slice')}")

    def waited(self, profile: str, seconds: float, why: str) -> None:
        """Which profile waits, and why."""
        self._print(f"{profile}: waiting {seconds:.0f} s: {why}")

    def answered(self, plan_line: PlanLine, line: LedgerLine) -> None:
        """Status, rows and reason."""
        label = line.workspace or line.tenant or line.profile
        text = f"{line.profile}: {line.hunt} on {label}, {line.slice}: {line.status.value}"
        text += f", {line.rows} rows in {line.elapsed:.1f} s"
        self._print(f"{text}: {line.detail}" if line.detail else text)


@dataclass
class _Tally:
    queries: int = 0
    answered: int = 0
    rows: int = 0
    troubled: int = 0
    waiting: str = ""


class Display(Silent):
    """One line per profile on a terminal: answers, rows, and what it waits for."""

    def __init__(self, status: Any) -> None:
        self._status = status
        self._tallies: dict[str, _Tally] = {}
        self._message = ""

    def say(self, message: str) -> None:
        """Shown above the profiles."""
        self._message = message
        self._refresh()

    def planned(self, plan: Sequence[PlanLine]) -> None:
        """One line for each profile."""
        for line in plan:
            self._tallies.setdefault(line.target.profile, _Tally())
        self._refresh()

    def expected(self, plan_line: PlanLine, pieces: int) -> None:
        """Count what is still to come."""
        self._tallies.setdefault(plan_line.target.profile, _Tally()).queries += pieces
        self._refresh()

    def waited(self, profile: str, seconds: float, why: str) -> None:
        """The wait stands on the profile's line until it is answered."""
        tally = self._tallies.setdefault(profile, _Tally())
        tally.waiting = f"waiting {seconds:.0f} s: {why}"
        self._refresh()

    def answered(self, plan_line: PlanLine, line: LedgerLine) -> None:
        """Count it."""
        tally = self._tallies.setdefault(line.profile, _Tally())
        tally.answered += 1
        tally.rows += line.rows
        tally.troubled += line.status.value != "complete"
        tally.waiting = ""
        self._refresh()

    def _refresh(self) -> None:
        from rich.text import Text

        text = Text(self._message)
        if len(self._tallies) > 1 or any(t.waiting for t in self._tallies.values()):
            for name, tally in list(self._tallies.items())[:40]:
                done = f"{tally.answered} of {max(tally.queries, tally.answered)} answered"
                row = f"\n  {for_terminal(name)}: {done}, {tally.rows} rows"
                text.append(row + (f", {tally.troubled} incomplete" if tally.troubled else ""))
                if tally.waiting:
                    text.append(f", {for_terminal(tally.waiting)}", "yellow")
        self._status.update(text)


@contextmanager
def progress_of(shown: Shown) -> Iterator[Silent]:
    """The display for the length of a run."""
    if shown is Shown.NOTHING:
        yield Silent()
    elif shown is Shown.LINES:
        yield Lines()
    else:
        from rich.console import Console

        with Console(stderr=True).status("") as status:
            yield Display(status)


@contextmanager
def working(message: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner with a message, on a terminal; the value changes the message."""
    if quiet or not sys.stderr.isatty():
        yield lambda _message: None
        return
    from rich.console import Console

    with Console(stderr=True).status(message) as status:
        yield lambda text: status.update(text)
