"""Sinks against real receivers on loopback."""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qakhunt.core.errors import ConfigError, UsageError
from qakhunt.schedule.sinks import KINDS, make_sink, web
from qakhunt.schedule.sinks.base import NotTaken, SinkContext
from qakhunt.schedule.sinks.log_analytics import COLUMNS, MOST_BYTES, finding_row
from qakhunt.schedule.sinks.web import MOST_CARD_BYTES
from tests.support.findings import BEAT, HOSTILE, make_hit, make_report
from tests.support.receivers import Answer, Receiver, hang_up, http_receiver

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()


def around(**environment: str) -> SinkContext:
    from qakhunt.run.config import Schedule
    from qakhunt.schedule.sinks.base import resolve_reference

    return SinkContext(
        secret=lambda text: resolve_reference(text, environment, Schedule()),
        environment=environment,
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as made:
        yield made


def webhook(receiver: Receiver, **settings: Any) -> Any:
    configured = {"hook": {"kind": "webhook", "url": receiver.url + "/in", **settings}}
    return make_sink("hook", configured, around(QAKHUNT_WEBHOOK_SECRET=SECRET))


def test_a_webhook_is_signed_over_exactly_what_arrives(receiver: Receiver) -> None:
    sink = webhook(receiver)
    (message,) = sink.messages(make_report([make_hit(commands=tuple(HOSTILE))]))
    sink.send(message)
    (taken,) = receiver.taken
    stamp, id_ = taken.headers["webhook-timestamp"], taken.headers["webhook-id"]
    signed = f"{id_}.{stamp}.".encode() + taken.body
    expected = hmac.new(b"0123456789abcdef", signed, hashlib.sha256).digest()
    assert taken.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    document = json.loads(taken.body)
    assert document["id"] == id_ == taken.headers["idempotency-key"] == message.key
    assert document["commands"] == HOSTILE
    assert abs(int(stamp) - time.time()) < 60
    assert not any(byte < 32 for byte in taken.body)


def test_a_webhook_without_its_secret_is_refused(receiver: Receiver) -> None:
    with pytest.raises(ConfigError, match="QAKHUNT_WEBHOOK_SECRET is not set"):
        make_sink(f"webhook:{receiver.url}", {}, around())


def test_a_template_shapes_the_body_and_no_value_changes_its_shape(
    receiver: Receiver, tmp_path: Path
) -> None:
    template = tmp_path / "alert.json"
    template.write_text(
        '{"title": "${news}: ${device}", "who": "${account}", "lines": "${commands}",'
        ' "hunt": "${hunt.title}", "n": 1}'
    )
    sink = webhook(receiver, template=str(template))
    (message,) = sink.messages(make_report([make_hit('x","n":2,"', commands=tuple(HOSTILE))]))
    body = json.loads(message.payload)
    assert body["title"] == 'new: x","n":2,"'
    assert body["lines"] == HOSTILE
    assert body["n"] == 1
    assert body["hunt"].startswith("S0650")


def test_a_template_with_an_unknown_name_or_broken_json_is_refused(
    receiver: Receiver, tmp_path: Path
) -> None:
    template = tmp_path / "alert.json"
    template.write_text('{"title": "${devise}"}')
    with pytest.raises(ConfigError, match=r"\$\{devise\}"):
        webhook(receiver, template=str(template))
    template.write_text('{\n "title": }')
    with pytest.raises(ConfigError) as caught:
        webhook(receiver, template=str(template))
    assert caught.value.location is not None
    assert caught.value.location.line == 2
    for deep in ("[" * 100_000, "[" * 5000 + "]" * 5000):
        template.write_text(deep)
        with pytest.raises(ConfigError, match="nested too deeply"):
            webhook(receiver, template=str(template))


PAGE = b"<!DOCTYPE html><html><body>Sign in to continue</body></html>"


@pytest.mark.parametrize(
    ("answer", "again", "words"),
    [
        (Answer(200, PAGE, {"Content-Type": "text/html"}), True, "page instead of a receipt"),
        (Answer(200, PAGE), True, "page instead of a receipt"),
        (Answer(200, b'{"ok": false}'), True, "in its text that it failed"),
        (Answer(200, b'{"error": {"code": "x"}}'), True, "in its text that it failed"),
        (Answer(200, b"Webhook message delivery failed with error: 413"), True, "it failed"),
        (Answer(307, headers={"Location": "https://evil.example/steal"}), False, "evil.example"),
        (Answer(302, headers={"Location": "/elsewhere"}), False, "redirects are not followed"),
        (Answer(400), False, "answered 400"),
        (Answer(401), False, "answered 401"),
        (Answer(429, headers={"Retry-After": "7"}), True, "answered 429"),
        (Answer(503), True, "answered 503"),
        (Answer(act=hang_up), True, "connection failed"),
        (Answer(429, headers={"Retry-After": "\u00b2"}), True, "answered 429"),
    ],
)  # fmt: skip
def test_what_is_no_receipt_is_not_taken_for_one(
    receiver: Receiver, answer: Answer, again: bool, words: str
) -> None:
    sink = webhook(receiver)
    receiver.answers.append(answer)
    (message,) = sink.messages(make_report([make_hit()]))
    with pytest.raises(NotTaken, match=words) as caught:
        sink.send(message)
    assert caught.value.again is again
    assert len(receiver.taken) == 1
    if answer.headers.get("Retry-After") == "7":
        assert caught.value.after == 7


@pytest.mark.parametrize(
    "body", [b"", b"1", b"ok", b'{"ok": true}', b'{"errors": []}', b'{"a":' * 9000]
)
def test_receipts_of_every_kind_are_taken(receiver: Receiver, body: bytes) -> None:
    sink = webhook(receiver)
    receiver.answers.append(Answer(202, body, {"Content-Type": "application/json"}))
    sink.send(next(iter(sink.messages(make_report([make_hit()])))))
    assert len(receiver.taken) == 1


def test_a_receiver_that_hangs_or_drips_is_given_up_on(receiver: Receiver) -> None:
    released: list[bool] = []

    def drip(handler: Any) -> None:
        with contextlib.suppress(OSError):
            while not released:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: y\r\n" if not released else b"")
                handler.wfile.flush()
                time.sleep(0.01)
        handler.close_connection = True

    receiver.answers += [Answer(act=drip)]
    started = time.monotonic()
    session = web.new_session(True)
    with pytest.raises(NotTaken, match="did not answer within|could not be reached"):
        web.post(session, receiver.url, b"{}", {}, whole_seconds=0.2, read_seconds=0.1)
    assert time.monotonic() - started < 2
    released.append(True)


def test_secrets_of_an_address_are_in_no_error(receiver: Receiver) -> None:
    url = receiver.url + "/workflows/secret-path?sig=SECRETSIG"
    sink = make_sink("teams:env:URL", {}, around(URL=url))
    for answer in (Answer(500), Answer(act=hang_up), Answer(302, headers={"Location": url})):
        receiver.answers.append(answer)
        with pytest.raises(NotTaken) as caught:
            sink.send(next(iter(sink.messages(make_report([make_hit()])))))
        assert "SECRETSIG" not in str(caught.value)
        assert "secret-path" not in str(caught.value)
    assert "secret" not in sink.name


def test_a_teams_card_shows_hostile_text_as_it_is(receiver: Receiver) -> None:
    sink = make_sink("teams:env:URL", {}, around(URL=receiver.url))
    hit = make_hit("**ws** [x](https://evil.example)", commands=tuple(HOSTILE))
    sink.send(next(iter(sink.messages(make_report([hit])))))
    body = json.loads(receiver.bodies[0])
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    runs = [b["inlines"][0] for b in card["body"] if b["type"] == "RichTextBlock"]
    assert all(run["type"] == "TextRun" for run in runs)
    assert any("[link](https://evil.example)" in run["text"] for run in runs)
    for part in card["body"]:
        texts = [part["text"]] if part["type"] == "TextBlock" else [
            fact["value"] for fact in part.get("facts", [])
        ]  # fmt: skip
        for text in texts:
            assert "](" not in text
            assert "**" not in text
    assert "\x1b" not in json.dumps(card)


def test_a_teams_card_stays_under_the_limit_and_counts_what_it_leaves_out(
    receiver: Receiver,
) -> None:
    sink = make_sink("teams:env:URL", {}, around(URL=receiver.url))
    commands = tuple(f"net view \\\\host{n} {'x' * 900}" for n in range(200))
    (message,) = sink.messages(make_report([make_hit(commands=commands)]))
    assert len(message.payload) <= MOST_CARD_BYTES
    assert "more, in the report" in message.payload.decode()


def test_a_teams_template_is_escaped_where_markdown_acts(
    receiver: Receiver, tmp_path: Path
) -> None:
    template = tmp_path / "card.json"
    template.write_text(
        '{"type": "AdaptiveCard", "body": [{"type": "TextBlock", "text": "On ${device}"},'
        ' {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": "${device}"}]}]}'
    )
    configured = {"t": {"kind": "teams", "url_env": "URL", "template": str(template)}}
    sink = make_sink("t", configured, around(URL=receiver.url))
    (message,) = sink.messages(make_report([make_hit("**x**")]))
    body = json.loads(message.payload)["attachments"][0]["content"]["body"]
    assert body[0]["text"] == r"On \*\*x\*\*"
    assert body[1]["inlines"][0]["text"] == "**x**"


def test_a_teams_address_does_not_stand_in_the_open() -> None:
    with pytest.raises(ConfigError, match="is a secret"):
        make_sink("teams:https://prod.example.com/x?sig=y", {}, around())


def test_addresses_without_tls_are_refused() -> None:
    for text in ("webhook:http://example.com/x",
                 "smtp:mail.example.com?from=a@b.example&to=c@d.example&tls=none"):  # fmt: skip
        with pytest.raises(ConfigError, match=r"plain http|without TLS"):
            make_sink(text, {}, around(QAKHUNT_WEBHOOK_SECRET="x"))


def test_a_file_gets_one_line_per_finding_and_a_torn_line_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "findings.ndjson"
    sink = make_sink(f"file:{path}", {}, around())
    messages = list(
        sink.messages(make_report([make_hit(), make_hit("ws-02", commands=tuple(HOSTILE))]))
    )
    sink.send(messages[0])
    with path.open("ab") as stream:
        stream.write(messages[1].payload[:200])  # the crash of another run
    sink.send(messages[1])
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [m.key for m in messages]
    path.write_bytes(b"a note without an end")
    sink.send(messages[0])
    assert path.read_bytes().splitlines()[0] == b"a note without an end"


def test_a_full_disk_or_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        make_sink(f"file:{tmp_path}/no/x", {}, around())
    with pytest.raises(ConfigError, match="is a folder"):
        make_sink(f"file:{tmp_path}", {}, around())
    if Path("/dev/full").exists():
        sink = make_sink("file:/dev/full", {}, around())
        with pytest.raises(NotTaken, match="No space left"):
            sink.send(next(iter(sink.messages(make_report([make_hit()])))))


def test_rows_for_log_analytics_have_the_table_s_columns_and_stay_in_its_limits() -> None:
    sink = make_sink("log-analytics:https://dce.example.com/dcr-abc", {}, around())
    long = tuple(f"net view \\\\h{n} {'y' * 400}" for n in range(300))
    hits = [make_hit(f"ws-{n:03}", commands=long) for n in range(40)]
    messages = list(sink.messages(make_report(hits)))
    assert len(messages) > 1
    rows = [row for m in messages for row in json.loads(m.payload)]
    assert len(rows) == 40
    assert sorted(f for m in messages for f in m.findings) == sorted(r["FindingId"] for r in rows)
    for message in messages:
        assert len(message.payload) <= MOST_BYTES
    for row in rows:
        assert list(row) == list(COLUMNS)
        assert row["Shortened"] is True
        assert all(len(json.dumps(value)) <= 65_536 for value in row.values())
    short = finding_row(next(iter(make_report([make_hit()]).findings)))
    assert short["Shortened"] is False
    assert short["Commands"] == ["net view", "whoami /all", "arp -a", "route print"]
    (beat,) = sink.heartbeat(BEAT)
    assert list(json.loads(beat.payload)[0]) == list(COLUMNS)


# Mail


class Mailbox:
    """An aiosmtpd handler that keeps what it takes and refuses whom it is told to."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        self.refuse: dict[str, str] = {}

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((list(envelope.rcpt_tos), envelope.content))
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    controller_module = pytest.importorskip("aiosmtpd.controller")
    handler = Mailbox()
    controller = controller_module.Controller(handler, hostname="127.0.0.1", port=0)
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        controller.port = probe.getsockname()[1]
    controller.start()
    try:
        yield handler, f"127.0.0.1:{controller.port}"
    finally:
        controller.stop()


def test_a_mail_carries_the_report_and_no_header_of_an_attacker(
    mailbox: tuple[Mailbox, str],
) -> None:
    handler, address = mailbox
    sink = make_sink(
        f"smtp:{address}?from=hunts@soc.example&to=soc@soc.example&tls=none", {}, around()
    )
    hit = make_hit("ws\r\nBcc: evil@example.com", commands=tuple(HOSTILE))
    messages = list(sink.messages(make_report([hit, make_hit()])))
    for message in messages:
        sink.send(message)
    ((recipients, content),) = handler.mails
    mail = email.message_from_bytes(content, policy=email.policy.default)
    assert recipients == ["soc@soc.example"]
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[qakhunt] 2 findings to look at (hits)"
    assert mail["X-Qakhunt-Findings"].split() == [f"{id_}" for id_ in messages[0].findings]
    assert mail["Message-ID"].startswith("<mail-")
    body = mail.get_content()
    assert "net view" in body
    assert "\x1b" not in body
    sink.send(messages[0])
    assert handler.mails[1][1] == content  # the same bytes, the same Message-ID


def test_a_mail_can_carry_the_html_report(mailbox: tuple[Mailbox, str]) -> None:
    handler, address = mailbox
    sink = make_sink(
        f"smtp:{address}?from=a@soc.example&to=b@soc.example&tls=none&report=html", {}, around()
    )
    for message in sink.messages(make_report([make_hit(commands=tuple(HOSTILE))])):
        sink.send(message)
    mail = email.message_from_bytes(handler.mails[0][1], policy=email.policy.default)
    (attached,) = list(mail.iter_attachments())
    assert attached.get_content_type() == "text/html"
    assert "<img src=x" not in attached.get_content()
    body: Any = mail.get_body(("plain",))
    assert "HITS" in body.get_content()


def test_one_refused_recipient_does_not_make_the_others_get_it_twice(
    mailbox: tuple[Mailbox, str],
) -> None:
    handler, address = mailbox
    configured = {
        "mail": {"kind": "smtp", "host": "127.0.0.1", "port": int(address.rpartition(":")[2]),
                 "tls": "none", "from": "hunts@soc.example",
                 "to": ["one@soc.example", "two@soc.example"], "subject": "${hunts} ${count}"}
    }  # fmt: skip
    sink = make_sink("mail", configured, around())
    handler.refuse["one@soc.example"] = "550 no such user"
    first, second = sink.messages(make_report([make_hit()]))
    with pytest.raises(NotTaken, match="refused the recipient") as caught:
        sink.send(first)
    assert caught.value.again is False
    sink.send(second)
    assert [recipients for recipients, _ in handler.mails] == [["two@soc.example"]]
    assert b"Subject: qakbot-post-compromise-commands 1 finding" in handler.mails[0][1]


def test_a_mail_server_that_is_away_or_has_no_tls_is_an_error(
    mailbox: tuple[Mailbox, str],
) -> None:
    _, address = mailbox
    for host in (address, "127.0.0.1:1"):
        sink = make_sink(f"smtp:{host}?from=a@b.example&to=c@d.example", {}, around())
        with pytest.raises(NotTaken, match="mail server"):
            sink.send(next(iter(sink.messages(make_report([make_hit()])))))


# The table


def test_unknown_sinks_and_settings_are_one_clear_error() -> None:
    with pytest.raises(UsageError) as caught:
        make_sink("webhok:https://x", {}, around())
    assert caught.value.hint is not None
    with pytest.raises(UsageError, match="needs an address"):
        make_sink("webhook", {}, around())
    with pytest.raises(ConfigError, match="unknown key 'adress'"):
        make_sink("hook", {"hook": {"kind": "webhook", "adress": "x"}}, around())
    with pytest.raises(ConfigError, match="no kind of sink"):
        make_sink("hook", {"hook": {"kind": "webhok"}}, around())
    with pytest.raises(ConfigError, match="immutable id"):
        make_sink("log-analytics:https://dce.example.com/abc", {}, around())
    with pytest.raises(ConfigError, match="e-mail address"):
        make_sink("smtp:h?from=a@b.example&to=nobody", {}, around())


def test_every_kind_is_in_the_table_once() -> None:
    assert set(KINDS) == {
        "file",
        "stdout",
        "webhook",
        "teams",
        "log-analytics",
        "sentinel-incident",
        "smtp",
    }
