"""The ready templates for Slack, Jira and ServiceNow, as their receivers get them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from qakhunt.core.errors import ConfigError
from qakhunt.schedule.sinks import make_sink
from qakhunt.schedule.sinks.base import SinkContext
from qakhunt.schedule.sinks.templates import READY, read_template
from tests.support.findings import BEAT, HOSTILE, make_hit, make_report
from tests.support.receivers import Receiver, http_receiver

VALUES = {
    "slack": {}, "jira": {"project": "SOC", "issuetype": "Task"},
    "servicenow": {},
}  # fmt: skip
LONG = tuple(f"net view \\\\server{n} " + "x" * 900 for n in range(60))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as made:
        yield made


def sink(receiver: Receiver, template: str, **settings: Any) -> Any:
    configured = {
        "out": {
            "kind": "webhook", "url": receiver.url, "template": template,
            "values": VALUES[template], **settings,
        }
    }  # fmt: skip
    secrets = {"env:TICKET": "Basic bWFkZTp1cA=="}
    return make_sink("out", configured, SinkContext(secret=lambda text: secrets[text]))


def sent(receiver: Receiver, template: str, hit: Any, **settings: Any) -> dict[str, Any]:
    """What the receiver got of one finding."""
    out = sink(receiver, template, **settings)
    (message,) = out.messages(make_report([hit]))
    out.send(message)
    body: dict[str, Any] = json.loads(receiver.taken[-1].body)
    return body


def texts(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [one for value in part.values() for one in texts(value)]
    if isinstance(part, list):
        return [one for value in part for one in texts(value)]
    return [part] if isinstance(part, str) else []


@pytest.mark.parametrize("name", READY)
def test_a_ready_template_says_what_it_was_checked_against(name: str) -> None:
    template = read_template(name)
    assert template.documentation.startswith("https://")
    assert any(character.isdigit() for character in template.version)


@pytest.mark.parametrize("name", READY)
def test_no_value_acts_or_is_left_unfilled(receiver: Receiver, name: str) -> None:
    body = sent(receiver, name, make_hit("pc\r\nx<!channel>", "a\x1bb", tuple(HOSTILE)))
    shown = [text for text in texts(body) if "${" in text]
    assert all("${device}" in text for text in shown)  # a command line of the attacker's
    for text in texts(body):
        assert not any(ord(c) < 32 and c != "\n" for c in text)
        assert "\u202e" not in text
    assert "pc\\r\\nx<!channel>" in "\n".join(texts(body))


@pytest.mark.parametrize("hit", [make_hit(commands=LONG), make_hit(commands=())])
def test_slack_gets_blocks_without_markup_within_its_limits(receiver: Receiver, hit: Any) -> None:
    body = sent(receiver, "slack", hit)

    def kinds(part: Any) -> Iterator[Any]:
        if isinstance(part, dict):
            yield part.get("type")
            for value in part.values():
                yield from kinds(value)
        if isinstance(part, list):
            for value in part:
                yield from kinds(value)

    assert "mrkdwn" not in set(kinds(body))
    assert "ws-01" not in body["text"]  # the fallback is read as markup
    header = body["blocks"][0]["text"]
    assert (header["type"], header["emoji"]) == ("plain_text", False)
    assert 0 < len(header["text"]) <= 150
    assert all(0 < len(text) <= 3000 for text in texts(body))


@pytest.mark.parametrize("hit", [make_hit(commands=LONG), make_hit(commands=(), account="")])
def test_jira_gets_a_document_with_no_empty_text(receiver: Receiver, hit: Any) -> None:
    body = sent(receiver, "jira", hit, authorization_env="TICKET")
    fields = body["fields"]
    assert fields["project"] == {"key": "SOC"}
    assert 0 < len(fields["summary"]) <= 255
    assert "\n" not in fields["summary"]
    assert (fields["description"]["type"], fields["description"]["version"]) == ("doc", 1)
    for block in fields["description"]["content"]:
        assert all(node["type"] == "text" and node["text"] for node in block["content"])
    assert all(" " not in label for label in fields["labels"])
    headers = receiver.taken[-1].headers
    assert headers["authorization"] == "Basic bWFkZTp1cA=="
    assert "webhook-signature" not in headers


def test_servicenow_finds_a_finding_by_its_fingerprint(receiver: Receiver) -> None:
    body = sent(receiver, "servicenow", make_hit(commands=LONG), authorization_env="TICKET")
    assert len(body["short_description"]) <= 160
    (finding,) = make_report([make_hit(commands=LONG)]).findings
    assert body["correlation_id"] == finding["fingerprint"]
    assert len(body["description"]) <= 4000


def test_a_value_that_the_template_needs_is_asked_for(receiver: Receiver) -> None:
    with pytest.raises(ConfigError, match="the template jira needs issuetype, project") as caught:
        sink(receiver, "jira", values={})
    assert caught.value.hint == 'values = { issuetype = "...", project = "..." }'


def test_a_heartbeat_is_a_message_in_slack_and_no_ticket(receiver: Receiver) -> None:
    (message,) = sink(receiver, "slack").heartbeat(BEAT)
    assert json.loads(message.payload) == {
        "text": "qakhunt: looked, complete, nothing found, verdict clean; "
        "next expected 2026-11-06T09:00:00.0000000Z"
    }
    assert sink(receiver, "jira").heartbeat(BEAT) == []


def test_a_ready_template_is_signed_where_a_secret_is_named(receiver: Receiver) -> None:
    out = sink(receiver, "slack", secret_env="TICKET")
    (message,) = out.messages(make_report([make_hit()]))
    out.send(message)
    assert receiver.taken[-1].headers["webhook-signature"].startswith("v1,")
