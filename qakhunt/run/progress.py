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
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.run.plan import PlanLine

    Progress = Callable[[PlanLine, LedgerLine], None]


MOST_SHOWN = 15
"""Profiles under way that the display names."""


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

    @classmethod
    def sum_of(cls, tallies: Iterable[_Tally]) -> _Tally:
        """All of them together."""
        total = cls()
        for tally in tallies:
            total.queries += max(tally.queries, tally.answered)
            total.answered += tally.answered
            total.rows += tally.rows
            total.troubled += tally.troubled
        return total

    @property
    def done(self) -> bool:
        """Whether all that is known of was answered."""
        return bool(self.queries) and self.answered >= self.queries

    @property
    def words(self) -> str:
        """How much was answered, to stand after a name."""
        said = f": {self.answered:,} of {max(self.queries, self.answered):,} answered"
        said += f", {count(self.rows, 'row')}"
        return said + (f", {self.troubled:,} incomplete" if self.troubled else "")


class Display(Silent):
    """On a terminal, the sum and one line per profile under way: answers, rows, its wait."""

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
        under_way = [(n, t) for n, t in self._tallies.items() if t.waiting or not t.done]
        if len(self._tallies) > 1:
            done = len(self._tallies) - len(under_way)
            total = f": {done} of {count(len(self._tallies), 'profile')} done"
            text.append(total + _Tally.sum_of(self._tallies.values()).words)
        # Those that wait or fail stand first: a screen holds a few.
        under_way.sort(key=lambda entry: (not entry[1].waiting, not entry[1].answered))
        if len(self._tallies) > 1 or any(tally.waiting for _, tally in under_way):
            for name, tally in under_way[:MOST_SHOWN]:
                text.append(f"\n  {for_terminal(name)}{tally.words}")
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
