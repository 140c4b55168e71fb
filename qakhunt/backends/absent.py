"""A tenant that should be asked but cannot be: it shows in the ledger as not run."""

from __future__ import annotations

from qakhunt.answers.ledger import Status
from qakhunt.backends.base import Answer, Question


class AbsentBackend:
    """Answers nothing; ``why`` says why nobody could be asked."""

    name = "none"
    concurrency = 1

    def __init__(self, product: str, why: str, hint: str = "") -> None:
        self.product, self._why, self._hint = product, why, hint

    def ask(self, question: Question) -> Answer:
        """The same account for every question."""
        return Answer(Status.NOT_RUN, detail=self._why, hint=self._hint, attempts=0)

    def close(self) -> None:
        """Nothing to give back."""
