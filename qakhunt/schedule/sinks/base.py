"""What a sink takes and gives.

A sink turns a report into messages, whole and final, before anything is sent; the
state keeps them. Sending one again sends the same bytes under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qakhunt.errors import DeliveryError
from qakhunt.reports.safe import for_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qakhunt.kql.values import Instant
    from qakhunt.schedule.store import Message
    from qakhunt.triage.run_result import RunResult


@dataclass(frozen=True)
class Report:
    """What a run tells: documents of ``qakhunt.finding/1``, and the run with their hits alone.

    ``findings`` makes its documents as they are read, since there can be many.
    """

    run_id: str
    now: Instant
    findings: Collection[dict[str, Any]]
    result: RunResult


class Documents(Collection[Any]):
    """Documents of items, each made anew whenever it is read."""

    def __init__(self, items: Sequence[Any], make: Callable[[Any], dict[str, Any]]) -> None:
        self._items, self._make = items, make

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return map(self._make, self._items)

    def __contains__(self, item: object) -> bool:
        return any(document == item for document in self)


@dataclass(frozen=True)
class Surroundings:
    """What sinks need from outside.

    ``secret`` resolves a reference, ``env:NAME`` or ``vault:https://...``;
    ``credential`` makes what azure-core signs in with; ``verify`` is a CA file for TLS,
    or True.
    """

    secret: Callable[[str], str]
    environment: Mapping[str, str] = field(default_factory=dict)
    credential: Callable[[], Any] | None = None
    verify: str | bool = True


class Sink(Protocol):
    """A receiver, by the name the user gave it."""

    name: str

    def messages(self, report: Report) -> Iterable[Message]:
        """The messages that tell the report's findings; none for none."""

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """The messages for a ``qakhunt.heartbeat/1``."""

    def send(self, message: Message) -> None:
        """Send one and return when the receiver has confirmed it. Raises NotTaken."""

    def close(self) -> None:
        """Close connections."""


class NotTaken(DeliveryError):
    """A receiver did not confirm.

    ``again`` says whether trying again can help, ``after`` the seconds it asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        again: bool = True,
        after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.again = again
        self.after = after


def reference(env: str | None, vault: str | None) -> str | None:
    """The reference that ``NAME_env`` or ``NAME_vault`` of a sink's settings stands for."""
    if vault:
        return f"vault:{vault}"
    return f"env:{env}" if env else None


def to_json(document: Any) -> bytes:
    """One line of JSON in which no control or invisible character stands bare."""
    return for_json(json.dumps(document, ensure_ascii=False)).encode("utf-8", "backslashreplace")


def heartbeat_key(document: dict[str, Any]) -> str:
    """The idempotency key of a heartbeat."""
    return f"heartbeat-{document['run']}"
