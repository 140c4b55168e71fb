"""An orderly end: after the deadline no question is asked any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Status
from qakhunt.backends.base import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.backends.base import Backend, Question


class UntilDeadline:
    """A backend that answers ``not_run`` once ``out_of_time`` says so."""

    def __init__(self, backend: Backend, out_of_time: Callable[[], bool]) -> None:
        self._backend = backend
        self._out_of_time = out_of_time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def ask(self, question: Question) -> Answer:
        """Ask, unless the time is up."""
        if self._out_of_time():
            return Answer(
                Status.NOT_RUN, detail="out of time", attempts=0,
                hint="the next run makes up for it where there is a state",
            )  # fmt: skip
        return self._backend.ask(question)
