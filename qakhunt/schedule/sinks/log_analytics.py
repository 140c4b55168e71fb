"""Findings as rows of a Log Analytics table, through the Logs Ingestion API.

Microsoft's limits: 1 MiB a call, 64 KiB a field (the service cuts longer ones
silently, so they are shortened here and marked).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from qakhunt.core.errors import ConfigError
from qakhunt.schedule.azure_blob import error_code
from qakhunt.schedule.sinks.base import NotTaken, Sink, SinkContext, SinkKind, lookup
from qakhunt.schedule.sinks.web import check_url, retry_after
from qakhunt.schedule.store import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.schedule.sinks.base import Report

MOST_BYTES = 1_000_000
MOST_FIELD = 60_000
_AGAIN = (408, 429, 500, 502, 503, 504)
STREAM = "Custom-QakhuntFindings_CL"
_COLUMNS = {
    "TimeGenerated": ("datetime", "reported_at"), "Kind": ("string", None),
    "FindingId": ("string", "id"), "Fingerprint": ("string", "fingerprint"),
    "Revision": ("int", "revision"), "News": ("string", "news"), "RunId": ("string", "run"),
    "Hunt": ("string", "hunt.name"), "HuntTitle": ("string", "hunt.title"),
    "Severity": ("string", "severity"), "Profile": ("string", "profile"),
    "CustomerTenantId": ("string", "tenant"), "Workspaces": ("dynamic", "workspaces"),
    "Device": ("string", "device"), "Account": ("string", "account"),
    "Commands": ("dynamic", "commands"), "NewCommands": ("dynamic", "new_commands"),
    "Techniques": ("dynamic", "techniques"), "DistinctCommands": ("int", "distinct"),
    "TotalCommands": ("long", "total"), "FirstSeen": ("datetime", "first_seen"),
    "LastSeen": ("datetime", "last_seen"), "Verdict": ("string", None),
    "NextExpected": ("datetime", None), "Details": ("dynamic", None),
    "Shortened": ("boolean", None),
}  # fmt: skip
"""Each column's type, and the field of ``qakhunt.finding/1`` that it shows."""
COLUMNS = {name: kind for name, (kind, _) in _COLUMNS.items()}
"""The table's columns and their types, as the stream of the rule declares them."""


class LogAnalyticsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rule's ingestion endpoint, its immutable id and its stream."""

    endpoint: str
    rule: str
    stream: str = STREAM
    audience: str = "https://monitor.azure.com"


class LogAnalyticsSink(Sink):
    """Calls of up to 1 MB, each a message of its own."""

    def __init__(self, name: str, settings: LogAnalyticsSettings, context: SinkContext) -> None:
        super().__init__(name)
        self._settings = settings
        check_url(settings.endpoint, f"sink {name}")
        if not settings.rule.startswith("dcr-"):
            raise ConfigError(
                f"sink {name}: {settings.rule!r} is not the immutable id of a rule",
                hint="it begins with dcr- and stands in the rule's JSON view",
            )
        self._context = context
        self._client: Any = None

    def messages(self, report: Report) -> Iterator[Message]:
        """As few calls as the limit allows."""
        batch: list[tuple[str, str]] = []
        size = 2
        for finding in report.findings:
            text = json.dumps(finding_row(finding))
            if batch and size + len(text) + 2 > MOST_BYTES:
                yield self._message(batch)
                batch, size = [], 2
            batch.append((finding["id"], text))
            size += len(text) + 2
        if batch:
            yield self._message(batch)

    def heartbeat_body(self, document: dict[str, Any]) -> bytes:
        """A row of kind heartbeat."""
        row = {
            **dict.fromkeys(COLUMNS), "TimeGenerated": document["sent_at"], "Kind": "heartbeat",
            "RunId": document["run"], "News": document["status"], "Verdict": document["verdict"],
            "NextExpected": document["next_expected"], "Details": document, "Shortened": False,
        }  # fmt: skip
        return json.dumps([row]).encode()

    def send(self, message: Message) -> None:
        """Upload one call's rows."""
        settings = self._settings
        try:
            self._connected().upload(settings.rule, settings.stream, json.loads(message.payload))
        except Exception as problem:
            raise _not_taken(problem, "the ingestion endpoint") from None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _message(self, batch: list[tuple[str, str]]) -> Message:
        ids = tuple(id_ for id_, _ in batch)
        key = (
            ids[0]
            if len(ids) == 1
            else "batch-" + hashlib.sha256(" ".join(ids).encode()).hexdigest()[:32]
        )
        body = "[" + ", ".join(text for _, text in batch) + "]"
        return Message(self.name, key, body.encode(), findings=ids)

    def _connected(self) -> Any:
        if self._client is None:
            try:
                from azure.monitor.ingestion import LogsIngestionClient
            except ImportError:
                raise ConfigError(
                    f"sink {self.name} needs the package azure-monitor-ingestion",
                    hint="install qakhunt[ingestion]",
                ) from None
            if self._context.credential is None:
                raise ConfigError(f"sink {self.name} needs a sign-in")
            self._client = LogsIngestionClient(
                self._settings.endpoint, self._context.credential(), retry_total=0,
                credential_scopes=[f"{self._settings.audience}/.default"],
                connection_verify=self._context.verify, connection_timeout=10, read_timeout=60,
            )  # fmt: skip
        return self._client


def finding_row(finding: dict[str, Any]) -> dict[str, Any]:
    """One row of the table. What is too long for a field is shortened and marked."""
    row = {name: lookup(finding, field) if field else None for name, (_, field) in _COLUMNS.items()}
    row |= {"Kind": "finding", "Details": {"rows": [hit["row"] for hit in finding["hits"]]}}
    fitted = {name: _fitted(value) for name, value in row.items()}
    return {**fitted, "Shortened": fitted != row}


def _fitted(value: Any) -> Any:
    """The value within one field's bytes: whole items of a list, the head of a text."""
    if len(json.dumps(value)) <= MOST_FIELD:
        return value
    if isinstance(value, str):
        return value[: MOST_FIELD // 6]
    if isinstance(value, dict):
        return {"omitted": "too long for one field"}
    kept: list[Any] = []
    size = 2
    for item in value:
        text = _fitted(item) if len(json.dumps(item)) > MOST_FIELD // 8 else item
        if isinstance(text, str) and len(text) > 1000:
            text = text[:1000]
        size += len(json.dumps(text)) + 2
        if size > MOST_FIELD:
            break
        kept.append(text)
    return kept


def _not_taken(problem: Exception, what: str) -> NotTaken:
    """What azure-core raised, as one sentence: no headers, no token."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    if isinstance(problem, (ServiceRequestError, ServiceResponseError)):
        return NotTaken(f"{what} could not be reached: {type(problem).__name__}")
    if isinstance(problem, HttpResponseError):
        status: Any = problem.status_code
        code = error_code(problem)
        headers: Any = getattr(problem.response, "headers", {})
        if isinstance(problem, ClientAuthenticationError) or status in (401, 403):
            return NotTaken(
                f"{what} refused the sign-in ({status or 'no token'} {code})".replace(" )", ")"),
                again=False, hint="check the identity and its role there",
            )  # fmt: skip
        return NotTaken(
            f"{what} answered {status} {code}".rstrip(),
            again=status in _AGAIN,
            after=retry_after(headers.get("Retry-After")),
        )
    raise problem


def _rule(address: str) -> dict[str, Any]:
    """``https://ENDPOINT/dcr-ID/STREAM``; the stream may be left out."""
    parts = urlsplit(address)
    names = [name for name in parts.path.split("/") if name]
    settings = {"endpoint": f"{parts.scheme}://{parts.netloc}", "rule": names[0] if names else ""}
    return {**settings, "stream": names[1]} if len(names) > 1 else settings


LOG_ANALYTICS = SinkKind(
    "log-analytics", "log-analytics:https://ENDPOINT/dcr-ID", _rule, LogAnalyticsSettings,
    LogAnalyticsSink, extra="ingestion",
    role=("the findings' table", "Monitoring Metrics Publisher", "the data collection rule"),
)  # fmt: skip
