"""A tenant that should be asked but cannot be: it shows in the ledger as not run."""

from __future__ import annotations

from qakhunt.answers.ledger import Status
from qakhunt.backends.base import Answer, Backend, Question


class MissingTenant(Backend):
    """Answers nothing; ``missing`` says why."""

    name = "none"
    concurrency = 1

    def __init__(self, product: str, missing: str, hint: str = "") -> None:
        self.product, self.missing, self._hint = product, missing, hint

    def ask(self, question: Question) -> Answer:
        """The same account for every question."""
        return Answer(Status.NOT_RUN, detail=self.missing, hint=self._hint, attempts=0)

    def close(self) -> None:
        """Nothing to give back."""
