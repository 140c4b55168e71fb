"""Findings as Sentinel incidents, with their entities in a bookmark.

One incident per finding, whose id is made of its fingerprint: reporting it again finds it
there. A finding that grew adds a bookmark and a comment. An incident that analysts work on is
never written over. What an attacker wrote stands in the bookmark's result and entities alone,
which the portal shows as data; a comment is rendered as HTML.

https://learn.microsoft.com/rest/api/securityinsights: incidents, their comments and relations
2024-09-01; bookmarks 2025-07-01-preview, the first with entities.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.response import decode_error
from qakhunt.backends.clouds import check_endpoint, cloud_named
from qakhunt.backends.profile import CloudName  # noqa: TC001 - msgspec reads it at run time
from qakhunt.backends.rate_limiter import Clock, RateLimiter
from qakhunt.backends.replies import one_line
from qakhunt.backends.retry import RetryLimits
from qakhunt.core.errors import ConfigError
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.model import SEVERITIES
from qakhunt.schedule.sinks.base import NotTaken, Sink, SinkContext, SinkKind, to_json
from qakhunt.schedule.sinks.web import retry_after
from qakhunt.schedule.store import Message
from qakhunt.triage.entities import RESOURCE_HINT, is_workspace_resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.schedule.sinks.base import Report

VERSION, BOOKMARK_VERSION = "2024-09-01", "2025-07-01-preview"
_PROVIDER = "providers/Microsoft.SecurityInsights"
_AGAIN = (408, 429, 500, 502, 503, 504)
_MOST_TITLE, _MOST_RESULT = 150, 30_000
_SILENCE = 60.0


class SentinelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The workspace's Azure resource id, and its cloud or Resource Manager's address."""

    workspace: str
    cloud: CloudName = "public"
    endpoint: str | None = None


class SentinelSink(Sink):
    """Each message is one finding: what to create of it, under ids that stay the same."""

    def __init__(self, name: str, settings: SentinelSettings, context: SinkContext) -> None:
        super().__init__(name)
        if not is_workspace_resource(settings.workspace):
            raise ConfigError(
                f"sink {name}: not the resource id of a workspace: {settings.workspace!r}",
                hint=RESOURCE_HINT,
            )
        cloud = cloud_named(settings.cloud)
        self._endpoint = check_endpoint(settings.endpoint or f"https://{cloud.arm}", (cloud.arm,))
        self._scope, self._workspace = cloud.arm_scope, settings.workspace
        self._context = context
        self._transport: Any = None

    def messages(self, report: Report) -> Iterator[Message]:
        """One per finding."""
        rendered = {one.hunt.name: one for one in report.result.rendered}
        for finding in report.findings:
            body = to_json(self._steps(finding, rendered.get(finding["hunt"]["name"])))
            yield Message(self.name, finding["id"], body, findings=(finding["id"],))

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """None: that a job ran is no incident."""
        return []

    def send(self, message: Message) -> None:
        """Create what is not there yet, in order."""
        for step in json.loads(message.payload):
            path = f"{self._workspace}/{_PROVIDER}/{step['path']}?api-version={step['version']}"
            if self._call("GET", path, None) != 404:
                continue
            # A 409 is the same step of another run, which has the same id: it shows.
            if (
                self._call("PUT", path, {"properties": step["properties"]}) == 409
                and self._call("GET", path, None) == 404
            ):
                raise NotTaken(f"Sentinel answered 409 for {step['path']}, which is not there")

    def close(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            self._transport.close()

    def _steps(
        self, finding: dict[str, Any], rendered: RenderedQuery | None
    ) -> list[dict[str, Any]]:
        incident, report = _id(finding["fingerprint"]), _id(finding["id"])
        bookmark = f"{self._workspace}/{_PROVIDER}/bookmarks/{report}"
        steps = [
            (f"incidents/{incident}", VERSION, _incident(finding)),
            (f"bookmarks/{report}", BOOKMARK_VERSION, _bookmark(finding, rendered)),
            (f"incidents/{incident}/relations/{report}", VERSION, {"relatedResourceId": bookmark}),
        ]
        if finding["revision"] > 1:
            comment = {"message": _comment(finding)}
            steps.append((f"incidents/{incident}/comments/{report}", VERSION, comment))
        return [{"path": p, "version": v, "properties": content} for p, v, content in steps]

    def _call(self, method: str, path: str, body: Any) -> int:
        """The status of what was done or found. Raises NotTaken."""
        from qakhunt.backends.transport import Call, Outcome

        headers = {"Content-Type": "application/json"} if body else {}
        reply = self._connected().send(
            Call(self._endpoint + path, body, headers, self.name, method)
        )
        if reply.outcome is Outcome.NOT_SIGNED_IN:
            raise NotTaken(reply.problem, again=False, hint=reply.hint)
        if reply.outcome is not Outcome.ANSWERED:
            raise NotTaken(reply.problem, hint=reply.hint or None)
        if reply.status in (200, 201) or (method, reply.status) in (("GET", 404), ("PUT", 409)):
            return int(reply.status)
        error = decode_error(reply.body)
        said = f": {one_line(error.words)}" if error and error.words else ""
        refused = reply.status in (401, 403)
        raise NotTaken(
            f"Sentinel answered {reply.status}{said}", again=reply.status in _AGAIN,
            after=retry_after(reply.headers.get("retry-after")),
            hint="the identity needs Microsoft Sentinel Contributor on the workspace"
            if refused
            else None,
        )  # fmt: skip

    def _connected(self) -> Any:
        from qakhunt.backends.transport import Transport, pipeline_client

        if self._transport is None:
            if self._context.credential is None:
                raise ConfigError(f"sink {self.name} needs a sign-in")
            verify, clock = self._context.verify, Clock()
            client = pipeline_client(
                self._context.credential(), self._endpoint, self._scope,
                ca_file=verify if isinstance(verify, str) else None,
            )  # fmt: skip
            limiter = RateLimiter(clock, concurrency=1, calls=120, per=60.0)
            # Trying again is the outbox's.
            limits = RetryLimits(tries=1, throttled_tries=1)
            self._transport = Transport(
                client, self._endpoint, limiter, clock, read_timeout=_SILENCE, limits=limits
            )
        return self._transport


def _id(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"qakhunt:finding:{text}"))


def _incident(finding: Mapping[str, Any]) -> dict[str, Any]:
    hunt = finding["hunt"]
    title = f"{hunt['title']} on {finding['device'] or 'an unnamed device'}"
    count = finding["distinct"] or finding["commands_in_all"]
    severity = finding["severity"] if finding["severity"] in SEVERITIES else "Medium"
    found = {
        "title": _cut(for_terminal(title), _MOST_TITLE),
        "description": f"Found by qakhunt: {count} distinct commands. Device, account and "
        f"commands stand in the bookmark. Finding {finding['fingerprint']}.",
        "severity": severity,
        "status": "New",
        "labels": [{"labelName": "qakhunt"}, {"labelName": hunt["name"]}],
        "firstActivityTimeUtc": finding["first_seen"],
        "lastActivityTimeUtc": finding["last_seen"],
    }
    return {name: value for name, value in found.items() if value is not None}


def _bookmark(finding: Mapping[str, Any], rendered: RenderedQuery | None) -> dict[str, Any]:
    device, account = finding["device"], finding["account"]
    title = f"{finding['hunt']['title']}: {device or 'an unnamed device'}"
    entities = [
        {"entityType": kind, "fieldMappings": [{"identifier": name, "value": value}]}
        for kind, name, value in (("Host", "HostName", device), ("Account", "Name", account))
        if value
    ]
    found = {
        "displayName": _cut(for_terminal(title), _MOST_TITLE),
        "query": rendered.text if rendered else f"// {finding['hunt']['name']}",
        "queryResult": _result(finding),
        "notes": f"qakhunt finding {finding['id']}",
        "labels": ["qakhunt", finding["hunt"]["name"]],
        "eventTime": finding["first_seen"],
        "queryStartTime": str(rendered.window.start) if rendered else None,
        "queryEndTime": str(rendered.window.end) if rendered else None,
        "entityMappings": entities,
        "tactics": list(rendered.hunt.tactics) if rendered else None,
        "techniques": sorted({one.partition(".")[0] for one in finding["techniques"]}),
    }
    return {name: value for name, value in found.items() if value is not None}


def _result(finding: Mapping[str, Any]) -> str:
    """The finding as JSON, with as many of its commands as the field takes."""
    shown = len(finding["commands"])
    while True:
        value = {
            "Device": finding["device"], "Account": finding["account"],
            "Commands": [_cut(one, 2000) for one in finding["commands"][:shown]],
            "CommandsInAll": finding["commands_in_all"], "Rows": finding["rows"],
            "FirstSeen": finding["first_seen"], "LastSeen": finding["last_seen"],
            "CustomerTenant": finding["tenant"], "Workspaces": finding["workspaces"],
        }  # fmt: skip
        text = to_json(value).decode()
        if len(text) <= _MOST_RESULT or not shown:
            return text
        shown //= 2


def _comment(finding: Mapping[str, Any]) -> str:
    new = len(finding["new_commands"])
    more = f"{new} new commands" if finding["news"] == "grown" else "still there"
    return (
        f"qakhunt reports it again: {more}, {finding['commands_in_all']} in all, last seen "
        f"{finding['last_seen']}. They stand in the bookmark of report {finding['revision']}."
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


SENTINEL_INCIDENT = SinkKind(
    "sentinel-incident", "sentinel-incident:RESOURCE-ID", lambda address: {"workspace": address},
    SentinelSettings, SentinelSink,
    role=("the incidents", "Microsoft Sentinel Contributor", "the workspace"),
)  # fmt: skip
