"""A tenant that should be asked but cannot be: it shows in the ledger as not run."""

from __future__ import annotations

from qakhunt.answers.ledger import Status
from qakhunt.backends.base import Answer, Question


class AbsentBackend:
    """Answers nothing; ``absent`` says why nobody could be asked."""

    name = "none"
    concurrency = 1

    def __init__(self, product: str, absent: str, hint: str = "") -> None:
        self.product, self.absent, self._hint = product, absent, hint

    def ask(self, question: Question) -> Answer:
        """The same account for every question."""
        return Answer(Status.NOT_RUN, detail=self.absent, hint=self._hint, attempts=0)

    def close(self) -> None:
        """Nothing to give back."""
