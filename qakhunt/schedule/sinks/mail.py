"""E-mail through SMTP: one message per run, with the report of what is new."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from qakhunt.backends.clouds import is_loopback
from qakhunt.core.errors import ConfigError, UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.reports.details import ExportOptions
from qakhunt.reports.formats import FORMATS, export_bytes
from qakhunt.reports.summary import coverage_lines, problems, verdict_line
from qakhunt.schedule.sinks.base import (
    NotTaken,
    Sink,
    SinkContext,
    SinkKind,
    check_names,
    fill_text,
    heartbeat_key,
    reference,
)
from qakhunt.schedule.store import Message

if TYPE_CHECKING:
    from qakhunt.schedule.sinks.base import Report

SECONDS = 30
MOST_IDS = 50
"""Ids in the mail's header; the report has them all."""
_SUBJECT = "[qakhunt] ${count} to look at (${verdict})"
_NAMES = ("count", "verdict", "hunts", "customers", "run")


class MailSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from"}
):
    """``tls`` is starttls, implicit, or none (loopback only); the password's place is named."""

    host: str
    sender: str
    to: str | tuple[str, ...]
    port: int = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    password_vault: str | None = None
    report: Literal["markdown", "html"] = "markdown"
    subject: str = _SUBJECT


class MailSink(Sink):
    """The report as text, or as an HTML attachment."""

    def __init__(self, name: str, settings: MailSettings, context: SinkContext) -> None:
        super().__init__(name)
        self._settings = settings
        self._to = _addresses(name, settings.to)
        self._sender = _addresses(name, settings.sender)[0]
        if settings.tls == "none" and not is_loopback(settings.host):
            raise ConfigError(f"sink {name}: findings do not travel by mail without TLS")
        if settings.report not in FORMATS:
            raise ConfigError(f"sink {name}: there is no {settings.report} report")
        where = reference(settings, "password")
        self._password = context.secret(where) if where else None
        self._verify = context.verify
        check_names(settings.subject, _NAMES, f"sink {name}")

    def messages(self, report: Report) -> list[Message]:
        """One for all findings."""
        found = [
            (f["id"], [hunt["name"] for hunt in f["hunts"]], f["tenant"] or f["profile"])
            for f in report.findings
        ]
        if not found:
            return []
        ids = tuple(id_ for id_, _, _ in found)
        key = "mail-" + hashlib.sha256(" ".join(ids).encode()).hexdigest()[:32]
        plural = "finding" if len(ids) == 1 else "findings"
        values = {
            "count": f"{len(ids)} {plural}", "verdict": report.result.verdict.value,
            "hunts": sorted({hunt for _, hunts, _ in found for hunt in hunts}),
            "customers": sorted({customer for _, _, customer in found}),
            "run": report.run_id,
        }  # fmt: skip
        mail = self._mail(fill_text(self._settings.subject, values, for_terminal), key, report.now)
        mail["X-Qakhunt-Findings"] = " ".join(ids[:MOST_IDS])
        format_ = FORMATS[self._settings.report]
        content = export_bytes(report.result, format_, ExportOptions())
        if self._settings.report == "markdown":
            mail.set_content(content.decode("utf-8", "replace"), cte="base64")
        else:
            failed = [found.sentence for found in problems(report.result.ledger.lines)]
            lines = [verdict_line(report.result), *coverage_lines(report.result), *failed, "",
                     "The report is attached; it opens without a network."]  # fmt: skip
            mail.set_content("\n".join(map(for_terminal, lines)) + "\n", cte="base64")
            mail.add_attachment(
                content, maintype="text", subtype="html", filename="qakhunt-report.html"
            )
        return self._messages(mail, key, "findings", ids)

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """A mail of a few lines."""
        from qakhunt.kql.values import Instant

        key = heartbeat_key(document)
        mail = self._mail(
            f"[qakhunt] {document['status']}", key, Instant.parse(document["sent_at"])
        )
        shown = ("status", "verdict", "sent_at", "next_expected", "problem")
        lines = [f"{name}: {document[name]}" for name in shown if document[name]]
        mail.set_content("\n".join(map(for_terminal, lines)) + "\n", cte="base64")
        return self._messages(mail, key, "heartbeat")

    def send(self, message: Message) -> None:
        """Hand it to the server, for the recipient that the key names."""
        recipient = message.key.partition(":")[2]
        try:
            with self._connected() as server:
                server.sendmail(self._sender, [recipient], message.payload)
        except smtplib.SMTPResponseException as problem:
            raise NotTaken(
                f"the mail server answered {problem.smtp_code}", again=problem.smtp_code < 500
            ) from None
        except smtplib.SMTPRecipientsRefused as problem:
            code = next(iter(problem.recipients.values()))[0]
            raise NotTaken(
                f"the mail server refused the recipient ({code})", again=code < 500
            ) from None
        except (smtplib.SMTPException, OSError) as problem:
            raise NotTaken(f"the mail server could not be used: {type(problem).__name__}") from None

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        context = ssl.create_default_context(
            cafile=self._verify if isinstance(self._verify, str) else None
        )
        server: smtplib.SMTP
        if settings.tls == "implicit":
            server = smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(settings.host, settings.port, timeout=SECONDS)
        try:
            if settings.tls == "starttls":
                server.starttls(context=context)
            if settings.user and self._password:
                server.login(settings.user, self._password)
        except BaseException:
            server.close()
            raise
        return server

    def _mail(self, subject: str, key: str, now: Any) -> EmailMessage:
        mail = EmailMessage(policy=policy.SMTP)
        mail["From"] = self._settings.sender
        mail["To"] = ", ".join(self._to)
        mail["Subject"] = for_terminal(subject)[:200]
        mail["Date"] = format_datetime(now.to_datetime().replace(microsecond=0))
        mail["Message-ID"] = f"<{key}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        return mail

    def _messages(
        self, mail: EmailMessage, key: str, kind: str, ids: tuple[str, ...] = ()
    ) -> list[Message]:
        """One per recipient: a server may take the mail for some and refuse it for others."""
        content = mail.as_bytes()
        return [Message(self.name, f"{key}:{to}", content, kind, ids) for to in self._to]


def _addresses(name: str, given: str | tuple[str, ...]) -> list[str]:
    listed = [given] if isinstance(given, str) else list(given)
    found = [address for _, address in getaddresses(listed)]
    if not found or any("@" not in address or "\n" in address for address in found):
        raise ConfigError(f"sink {name}: {', '.join(listed)!r} is not an e-mail address")
    return found


def _server(address: str) -> dict[str, Any]:
    """``HOST[:PORT]?from=A&to=B&user=U``; the password is in QAKHUNT_SMTP_PASSWORD."""
    parts = urlsplit("//" + address.removeprefix("//"))
    settings: dict[str, Any] = {"host": parts.hostname or ""}
    try:
        if parts.port:
            settings["port"] = parts.port
    except ValueError:
        raise UsageError(f"--sink smtp:{address}: the port is not a number") from None
    settings.update(parse_qsl(parts.query, keep_blank_values=True))
    if "user" in settings:
        settings.setdefault("password_env", "QAKHUNT_SMTP_PASSWORD")
    return settings


SMTP = SinkKind("smtp", "smtp:HOST?from=A&to=B", _server, MailSettings, MailSink)
