"""What a run under way shows on a terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qakhunt.run.progress import MOST_SHOWN, Display
from tests.support.triage import result_with


class Recorded:
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        self.text = ""

    def update(self, text: Any) -> None:
        self.text = str(text)


def test_fifty_profiles_are_a_sum_and_those_under_way_that_wait_first() -> None:
    shown = Recorded()
    display = Display(shown)
    (line, *_) = result_with(None).ledger.lines

    class Planned:
        def __init__(self, number: int) -> None:
            self.target = replace(line, profile=f"p{number:02}")

    plan: Any = [Planned(number) for number in range(50)]
    display.say("hunting")
    display.planned(plan)
    for planned in plan:
        display.expected(planned, 6)
    for planned in plan[:20]:
        for _ in range(6):
            display.answered(planned, replace(line, profile=planned.target.profile, rows=2))
    display.waited("p49", 30, "throttled")
    first, *rest = shown.text.splitlines()
    assert first == "hunting: 20 of 50 profiles done: 120 of 300 answered, 240 rows"
    assert len(rest) == MOST_SHOWN
    assert rest[0] == "  p49: 0 of 6 answered, 0 rows, waiting 30 s: throttled"
    assert "p00" not in shown.text
