"""The rules that a service keeps: what every store of them takes, gives and refuses.

A store raises for a failure of the service, in its words: RejectedError where the rule is
wrong, UnansweredError for permission, conflict and everything on the way. A write is sent
once; only a throttled one is sent again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qakhunt.answers.cells import WireError, decode_body
from qakhunt.backends.replies import failure
from qakhunt.backends.transport import Call, Outcome
from qakhunt.core.errors import RejectedError, UnansweredError
from qakhunt.hunts.window import read_period
from qakhunt.kql.values import Instant, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qakhunt.backends.transport import Reply, Transport
    from qakhunt.hunts.rules import Rule

UNKNOWN = "whether it was written is not known: 'qakhunt deploy --diff' shows what is there"
_WRITES = ("PUT", "POST", "PATCH")
_SOME_TIME = Window(Instant(0), Instant(1))
_REFUSED = {
    400: ("the service refuses it", ""),
    409: ("conflict", "someone else changed it: look at it with --diff, then deploy again"),
    412: ("conflict", "someone else changed it: look at it with --diff, then deploy again"),
}


@dataclass(frozen=True)
class Field:
    """One property that differs: where it stands, what is there and what shall be."""

    path: str
    before: Any
    after: Any


class RuleStore(Protocol):
    """Rules of one form in one place; ``label`` says which to a person."""

    label: str

    def all(self) -> list[dict[str, Any]]:
        """Every rule there is, as the service gives it."""

    def get(self, identifier: str) -> dict[str, Any] | None:
        """One rule, None where there is none of that id."""

    def wanted(self, rule: Rule) -> dict[str, Any]:
        """The rule as it would stand there."""

    def settings(self, there: Mapping[str, Any]) -> Mapping[str, Any]:
        """The part of a rule that is there which ``wanted`` is compared with."""

    def put(self, rule: Rule, there: Mapping[str, Any] | None) -> None:
        """Create the rule, or change what is ``there``."""

    def functions(self) -> RuleStore | None:
        """Where the functions are that its rules call; None where the service keeps none."""


@dataclass(frozen=True)
class RestClient:
    """JSON over the transport; ``refused`` words statuses: sentence and hint."""

    transport: Transport
    asked_by: str
    refused: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    def send(
        self, method: str, path: str, body: Any = None, *, absent: bool = False
    ) -> dict[str, Any] | None:
        """The answer's object; None for a 404 where ``absent`` allows one, and for no body."""
        url = path if path.startswith(self.transport.endpoint) else self.transport.endpoint + path
        headers = {"Content-Type": "application/json"} if body is not None else {}
        reply = self.transport.send(
            Call(url, body, headers, self.asked_by, method, once=method in _WRITES)
        )
        if reply.outcome is Outcome.ANSWERED:
            if reply.status == 404 and absent:
                return None
            if reply.status in (200, 201):
                return self._object(reply)
            if reply.status == 204:
                return None
        raise self._error(method, reply)

    def pages(self, path: str, link: str) -> Iterator[dict[str, Any]]:
        """Every entry of ``value``, over all pages; ``link`` names the next one's address."""
        next_path, read = path, set[str]()
        while next_path:
            if next_path in read:
                raise UnansweredError(
                    f"{self.transport.endpoint}: the list of rules goes in a circle"
                )
            read.add(next_path)
            page = self.send("GET", next_path) or {}
            entries = page.get("value")
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise UnansweredError(
                    f"{self.transport.endpoint}: the answer has no list of rules",
                    hint="another API version, or a proxy, answers",
                )
            yield from entries
            next_path = str(page.get(link) or "")
            if next_path and not next_path.startswith(f"{self.transport.endpoint}/"):
                raise UnansweredError(
                    "the list goes on at another host, where no token is sent",
                    hint=f"it stays at {self.transport.endpoint}",
                )

    def _object(self, reply: Reply) -> dict[str, Any]:
        try:
            value = decode_body(reply.body).value
        except WireError as problem:
            raise UnansweredError(f"the answer cannot be read: {problem}") from None
        if not isinstance(value, dict):
            raise UnansweredError("the answer is no JSON object")
        return value

    def _error(self, method: str, reply: Reply) -> Exception:
        answer = failure(reply, {**_REFUSED, **self.refused}, _SOME_TIME)
        hint = answer.hint
        lost = reply.outcome is not Outcome.ANSWERED or reply.status >= 500
        if method in _WRITES and reply.attempts and lost:
            hint = UNKNOWN
        error = RejectedError if reply.status == 400 else UnansweredError
        return error(answer.detail, hint=hint or None)


def differences(wanted: Any, there: Any, path: str = "") -> Iterator[Field]:
    """What of ``wanted`` is otherwise ``there``; what only is there does not count."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        for name, value in wanted.items():
            yield from differences(value, there.get(name), f"{path}.{name}" if path else name)
    elif not _same(wanted, there):
        yield Field(path, there, wanted)


def _same(wanted: Any, there: Any) -> bool:
    if wanted in (None, [], {}, "") and there in (None, [], {}, ""):
        return True
    if isinstance(wanted, str) and isinstance(there, str):
        lengths = {read_period(one) for one in (wanted, there)} if wanted[:1] == "P" else {None}
        return wanted.rstrip() == there.rstrip() or (len(lengths) == 1 and None not in lengths)
    if isinstance(wanted, list) and isinstance(there, list):
        return len(wanted) == len(there) and (
            all(map(_same, wanted, there)) or sorted(map(_key, wanted)) == sorted(map(_key, there))
        )
    if isinstance(wanted, dict) and isinstance(there, dict):
        return not any(differences(wanted, there))
    return bool(wanted == there)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def merged(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """``wanted`` over what others set ``there``, which stays."""
    result = {name: value for name, value in there.items() if value is not None}
    for name, value in wanted.items():
        before = result.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            result[name] = merged(before, value)
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result
