"""What is kept by id: resources with an etag, the errors of Azure Resource Manager, durations."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import WireError, decode_body
from qakhunt.hunts.window import read_period
from qakhunt.testing.emulator.queries import SECONDS, Query
from qakhunt.testing.emulator.replies import Reply, json_reply
from qakhunt.testing.emulator.timespan import ALL_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.answers.table import ResultTable
    from qakhunt.kql.values import Timespan
    from qakhunt.testing.emulator.faults import Situation
    from qakhunt.testing.emulator.queries import QueryServices
    from qakhunt.testing.emulator.scenario import Tenant, Workspace

MOST_CHARACTERS = 10_000


class RefusedError(Exception):
    """A request that gets no further: the status, and the error's code and message."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words

    def reply(self) -> Reply:
        """As Azure Resource Manager and Graph word it alike."""
        error = {"code": self.code, "message": self.words}
        return json_reply({"error": error}, self.status)


def bad_request(words: str) -> RefusedError:
    """A 400."""
    return RefusedError(400, "BadRequest", words)


@dataclass
class Resources:
    """Documents by place and id. Ids are the same whatever their case."""

    _kept: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def get(self, place: str, identifier: str) -> dict[str, Any] | None:
        """One document."""
        with self._lock:
            return self._kept.get((place.lower(), identifier.lower()))

    def all(self, place: str) -> list[dict[str, Any]]:
        """Those of a place, in the order of their creation."""
        with self._lock:
            return [one for (where, _), one in self._kept.items() if where == place.lower()]

    def below(self, ending: str) -> list[dict[str, Any]]:
        """Those of every place that ends so."""
        with self._lock:
            return [one for (at, _), one in self._kept.items() if at.endswith(ending.lower())]

    def put(
        self, place: str, identifier: str, document: dict[str, Any], etag: str | None = None
    ) -> tuple[dict[str, Any], bool]:
        """Keep a document under a new etag; it, and whether it is new.

        ``etag`` is the one that the caller read, ``*`` any. Raises RefusedError with 409 where
        it is not that of the document there.
        """
        with self._lock:
            key = (place.lower(), identifier.lower())
            there = self._kept.get(key)
            if there is not None and etag not in ("*", there["etag"]):
                raise RefusedError(
                    409, "Conflict",
                    f"Newer instance of '{identifier}' exists: its etag is not {etag}",
                )  # fmt: skip
            kept = {**document, "etag": f'"{uuid.uuid4()}"'}
            self._kept[key] = kept
            return kept, there is None

    def remove(self, place: str, identifier: str) -> bool:
        """Whether there was one."""
        with self._lock:
            return self._kept.pop((place.lower(), identifier.lower()), None) is not None


def object_of(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises RefusedError."""
    try:
        value = decode_body(body).value
    except WireError as problem:
        raise bad_request(f"The request content was invalid: {problem}") from None
    if not isinstance(value, dict):
        raise bad_request("The request content was invalid: it is no object")
    return value


def required(values: Mapping[str, Any], *names: str) -> None:
    """Raises RefusedError for a property that is missing."""
    for name in names:
        if values.get(name) is None:
            raise bad_request(f"Required property '{name}' is missing")


def one_of(values: Mapping[str, Any], name: str, known: tuple[str, ...]) -> None:
    """Raises RefusedError for a value that is none of those known."""
    if values.get(name) not in known:
        raise bad_request(f"'{values.get(name)}' is no {name}: {', '.join(known)}")


def duration(values: Mapping[str, Any], name: str) -> Timespan:
    """An ISO 8601 duration. Raises RefusedError."""
    text = values.get(name)
    span = read_period(text) if isinstance(text, str) and text.startswith("P") else None
    if span is None:
        raise bad_request(f"'{text}' is no ISO 8601 duration of {name}")
    return span


def check_query(
    queries: QueryServices, text: Any, tenant: Tenant, workspace: Workspace | None, at: Situation,
    check: Callable[[ResultTable], None] = lambda _table: None,
) -> None:  # fmt: skip
    """Run a rule's query, as the services do before they take it. Raises RefusedError."""
    if not isinstance(text, str) or not text.strip():
        raise bad_request("The query is empty")
    if len(text) > MOST_CHARACTERS:
        raise bad_request(f"The query has {len(text)} characters, more than {MOST_CHARACTERS}")
    product, service = ("log-analytics",) * 2 if workspace else ("defender", "graph")
    refusal: list[RefusedError] = []

    def judge(_query: Query, table: ResultTable, _fault: Any, _limit: int) -> Reply:
        try:
            check(table)
        except RefusedError as problem:
            refusal.append(problem)
        return Reply(200)

    query = Query(
        service, text, tenant, queries.inputs(tenant, workspace), product, ALL_TIME,
        workspace.id if workspace else None, SECONDS, encode=judge,
    )  # fmt: skip
    reply = queries.answer(query, None, at)
    if refusal:
        raise refusal[0]
    if reply.status != 200:
        error = decode_body(reply.body).value["error"]
        while isinstance(error.get("innererror"), dict) and error["innererror"].get("message"):
            error = error["innererror"]
        raise bad_request(f"Failed to run the rule's query: {error['message']}")
