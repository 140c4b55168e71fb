"""Microsoft Teams: one adaptive card per finding through a workflow's webhook.

Commands stand in RichTextBlock runs, which know no Markdown; what a template puts
into a TextBlock or a fact is escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.errors import ConfigError
from qakhunt.reports.safe import for_markdown, for_terminal
from qakhunt.schedule.findings import FIELDS
from qakhunt.schedule.sinks.base import heartbeat_key, reference, to_json
from qakhunt.schedule.sinks.http import check_url, new_session, post
from qakhunt.schedule.sinks.templates import check_names, fill, load_template
from qakhunt.schedule.store import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.schedule.sinks.base import Report, Surroundings

MOST_BYTES = 24_000
"""Teams takes about 28 KB a message; its own wrapping needs some of them."""
_PLAIN = ("TextRun", "CodeBlock")


class TeamsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the address is found: whoever knows a workflow's address can post to it."""

    url: str | None = None
    url_env: str | None = None
    url_vault: str | None = None
    template: str | None = None


class TeamsSink:
    """One card per finding."""

    def __init__(self, name: str, settings: TeamsSettings, surroundings: Surroundings) -> None:
        where = reference(settings.url_env, settings.url_vault)
        if settings.url or not where:
            raise ConfigError(
                f"sink {name}: a workflow's address is a secret and does not stand here",
                hint='put it into an environment variable: url_env = "NAME", or teams:env:NAME',
            )
        self.name = name
        self._url = check_url(surroundings.secret(where), f"sink {name}")
        self._session = new_session(surroundings.verify)
        self._template = load_template(Path(settings.template)) if settings.template else None
        check_names(self._template, FIELDS, f"sink {name}")

    def messages(self, report: Report) -> Iterator[Message]:
        """One per finding."""
        for finding in report.findings:
            yield Message(self.name, finding["id"], self._body(finding), findings=(finding["id"],))

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """A short card."""
        card = _card([
            _heading(f"qakhunt {document['status']}"),
            _facts({
                "Verdict": document["verdict"], "Sent at": document["sent_at"],
                "Next expected": document["next_expected"], "Problem": document["problem"],
            }),
        ])  # fmt: skip
        return [Message(self.name, heartbeat_key(document), to_json(_wrapped(card)), "heartbeat")]

    def send(self, message: Message) -> None:
        """Post it."""
        post(self._session, self._url, message.payload, {"Idempotency-Key": message.key})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _body(self, finding: dict[str, Any]) -> bytes:
        if self._template is not None:
            body = to_json(_wrapped(fill(self._template, finding, _shown)))
            if len(body) <= MOST_BYTES:
                return body
        shown = len(finding["commands"])
        while True:
            body = to_json(_wrapped(finding_card(finding, shown)))
            if len(body) <= MOST_BYTES or shown == 0:
                return body
            shown //= 2


def finding_card(finding: dict[str, Any], most_commands: int) -> dict[str, Any]:
    """The card of one finding with its first commands; those left out are counted."""
    commands = finding["commands"][:most_commands]
    left = finding["commands_in_all"] - len(commands)
    body = [
        _heading(f"{finding['news'].capitalize()}: {finding['hunt']['title']}"),
        _facts({
            "Device": finding["device"], "Account": finding["account"],
            "Customer": finding["tenant"] or finding["profile"],
            "First seen": finding["first_seen"], "Last seen": finding["last_seen"],
            "Distinct commands": finding["distinct"],
            "Techniques": ", ".join(finding["techniques"]), "Finding": finding["id"],
        }),
        *(_line(_cut(command, 600)) for command in commands),
    ]  # fmt: skip
    if left:
        body.append(_line(f"and {left} more, in the report"))
    return _card(body)


def _wrapped(card: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None, "content": card,
        }],
    }  # fmt: skip


def _card(body: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4", "msteams": {"width": "Full"}, "body": body,
    }  # fmt: skip


def _heading(text: str) -> dict[str, Any]:
    return {
        "type": "TextBlock", "text": for_markdown(_cut(text, 400)), "weight": "Bolder",
        "size": "Medium", "wrap": True,
    }  # fmt: skip


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "FactSet",
        "facts": [
            {"title": title, "value": for_markdown(_cut(str(value), 200))}
            for title, value in facts.items()
            if value not in (None, "")
        ],
    }


def _line(text: str) -> dict[str, Any]:
    run = {"type": "TextRun", "text": for_terminal(text), "fontType": "Monospace"}
    return {"type": "RichTextBlock", "inlines": [run]}


def _shown(kind: str, text: str) -> str:
    return for_terminal(text) if kind in _PLAIN else for_markdown(text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
