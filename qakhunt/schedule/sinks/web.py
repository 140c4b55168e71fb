"""Webhooks: a generic one, signed as Standard Webhooks describes, and Microsoft Teams.

A webhook's headers: ``webhook-id`` (the finding's id), ``webhook-timestamp`` (seconds) and
``webhook-signature``: ``v1,`` and the base64 HMAC-SHA256 of ``id.timestamp.body``. Teams
gets one adaptive card per finding through a workflow's webhook: commands stand in
RichTextBlock runs, which know no Markdown; what a template puts into a TextBlock or a
fact is escaped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from qakhunt.answers.cells import loads_loosely
from qakhunt.backends.clouds import is_loopback
from qakhunt.backends.retry import http_date
from qakhunt.core.errors import ConfigError
from qakhunt.core.safe_text import for_markdown, for_terminal
from qakhunt.schedule.findings import FIELDS
from qakhunt.schedule.sinks.base import (
    NotTaken,
    Sink,
    SinkContext,
    SinkKind,
    check_names,
    fill,
    load_template,
    reference,
    to_json,
)
from qakhunt.schedule.sinks.templates import READY, ReadyTemplate, ready_template, with_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.schedule.store import Message

CONNECT_SECONDS = 10
READ_SECONDS = 30
WHOLE_SECONDS = 60
_MOST_BYTES = 64 * 1024
MOST_CARD_BYTES = 24_000
"""Teams takes about 28 KB a message; its own wrapping needs some of them."""
_SECRET = "QAKHUNT_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
_PLAIN = ("TextRun", "CodeBlock")


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address and the secrets, or where they are found: never a secret itself.

    ``template`` is a file, or the name of a ready one; ``values`` are its ``${values.NAME}``.
    ``authorization`` is the whole header that Jira or ServiceNow signs in by.
    """

    url: str | None = None
    url_env: str | None = None
    url_vault: str | None = None
    secret_env: str = _SECRET
    secret_vault: str | None = None
    authorization_env: str | None = None
    authorization_vault: str | None = None
    template: str | None = None
    values: dict[str, str] = {}

    @property
    def signs(self) -> bool:
        """Whether requests are signed: not for a receiver that checks none, unless asked for."""
        named = self.secret_vault is not None or self.secret_env != _SECRET
        unchecked = self.template in READY or bool(reference(self, "authorization"))
        return named or not unchecked


class TeamsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the address is found: whoever knows a workflow's address can post to it."""

    url: str | None = None
    url_env: str | None = None
    url_vault: str | None = None
    template: str | None = None


class _WebSink(Sink):
    """Posts to one address, over connections that are kept."""

    def __init__(self, name: str, settings: Any, context: SinkContext) -> None:
        super().__init__(name)
        where = reference(settings, "url")
        self._url = check_url(
            context.secret(where) if where else settings.url or "", f"sink {name}"
        )
        self._session = new_session(context.verify)
        self._template = self._loaded(settings.template) if settings.template else None
        check_names(self._template, FIELDS, f"sink {name}")

    def _loaded(self, template: str) -> Any:
        return load_template(Path(template))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


class WebhookSink(_WebSink):
    """One request per finding: a ``qakhunt.finding/1`` or the filled template.

    It is signed, unless it is for a receiver that checks no signature: one of a ready template
    or with a sign-in of its own, where no secret is named.
    """

    def __init__(
        self, name: str, settings: WebhookSettings, context: SinkContext,
        seconds: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._ready: ReadyTemplate | None = None
        self._values = dict(settings.values)
        super().__init__(name, settings, context)
        where = reference(settings, "authorization")
        self._authorization = context.secret(where) if where else None
        self._key: bytes | None = None
        if settings.signs:
            self._key = signing_key(context.secret(reference(settings, "secret") or ""), name)
        self._seconds = seconds

    def _loaded(self, template: str) -> Any:
        self._ready = ready_template(template, self._values, f"sink {self.name}")
        loaded = self._ready.body if self._ready else super()._loaded(template)
        return with_values(loaded, self._values, f"sink {self.name}")

    def body(self, finding: dict[str, Any]) -> bytes:
        """The document, or the template with its values."""
        if self._template is None:
            return to_json(finding)
        shown = for_terminal if self._ready else str
        return to_json(fill(self._template, finding, lambda _kind, text: shown(text)))

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """The document; in the receiver's form for a ready template, which may have none."""
        if self._ready is not None and self._ready.heartbeat is None:
            return []
        return super().heartbeat(document)

    def heartbeat_body(self, document: dict[str, Any]) -> bytes:
        """A heartbeat's message."""
        if self._ready is None:
            return super().heartbeat_body(document)
        filled = fill(self._ready.heartbeat, document, lambda _kind, text: for_terminal(text))
        return to_json(filled)

    def send(self, message: Message) -> None:
        """Post it, signed where the receiver checks it."""
        headers = {"Idempotency-Key": message.key}
        if self._key is not None:
            stamp = str(int(self._seconds()))
            headers |= {
                "webhook-id": message.key,
                "webhook-timestamp": stamp,
                "webhook-signature": signature(self._key, message.key, stamp, message.payload),
            }
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        post(self._session, self._url, message.payload, headers)


def signing_key(secret: str, name: str) -> bytes:
    """The key of a secret: base64 after ``whsec_``, else its own bytes."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret[6:], validate=True)
    except binascii.Error:
        raise ConfigError(f"sink {name}: what follows whsec_ in its secret is not base64") from None


def signature(key: bytes, id_: str, stamp: str, body: bytes) -> str:
    """The value of ``webhook-signature``."""
    signed = b".".join((id_.encode(), stamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class TeamsSink(_WebSink):
    """One card per finding."""

    def __init__(self, name: str, settings: TeamsSettings, context: SinkContext) -> None:
        if settings.url or not reference(settings, "url"):
            raise ConfigError(
                f"sink {name}: a workflow's address is a secret and does not stand here",
                hint='put it into an environment variable: url_env = "NAME", or teams:env:NAME',
            )
        super().__init__(name, settings, context)

    def body(self, finding: dict[str, Any]) -> bytes:
        """The filled template where it fits, else a card with as many commands as fit."""
        if self._template is not None:
            body = to_json(_wrapped(fill(self._template, finding, _shown)))
            if len(body) <= MOST_CARD_BYTES:
                return body
        shown = len(finding["commands"])
        while True:
            body = to_json(_wrapped(finding_card(finding, shown)))
            if len(body) <= MOST_CARD_BYTES or shown == 0:
                return body
            shown //= 2

    def heartbeat_body(self, document: dict[str, Any]) -> bytes:
        """A short card."""
        card = _card([
            _heading(f"qakhunt {document['status']}"),
            _facts({
                "Verdict": document["verdict"], "Sent at": document["sent_at"],
                "Next expected": document["next_expected"], "Problem": document["problem"],
            }),
        ])  # fmt: skip
        return to_json(_wrapped(card))

    def send(self, message: Message) -> None:
        """Post it."""
        post(self._session, self._url, message.payload, {"Idempotency-Key": message.key})


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
            "Techniques": ", ".join(finding["techniques"]),
            "Hunts": ", ".join(hunt["name"] for hunt in finding["hunts"]),
            "Finding": finding["id"],
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


# Posting JSON to a web address, and telling a receipt from an error page.


def check_url(url: str, what: str) -> str:
    """The URL, if findings may travel to it: https, or http on loopback."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{what}: the address is not a URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigError(
            f"{what}: the address is not a web address", hint="it begins with https://"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(
            f"{what}: findings do not travel over plain http", hint="use an https:// address"
        )
    return url


def shown(url: str) -> str:
    """Scheme, host and port: the rest of a webhook's address is often a secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def new_session(verify: str | bool) -> Any:
    """Connections that are kept between posts; close it."""
    import requests

    session = requests.Session()
    session.verify = verify
    return session


def post(
    session: Any, url: str, body: bytes, headers: Mapping[str, str], *,
    whole_seconds: float = WHOLE_SECONDS, read_seconds: float = READ_SECONDS,
) -> str:  # fmt: skip
    """Post and return the answer's text once it is a receipt. Raises NotTaken.

    No redirect is followed: the signature and the findings are for this host alone.
    A receiver that drips or hangs is given up on after ``whole_seconds``.
    """

    def exchange() -> tuple[int, Mapping[str, str], bytes]:
        with session.post(
            url, data=body, headers={"Content-Type": "application/json", **headers},
            timeout=(CONNECT_SECONDS, read_seconds), allow_redirects=False, stream=True,
        ) as response:  # fmt: skip
            content = b"".join(_some(response.iter_content(4096)))
            return response.status_code, response.headers, content

    host = shown(url)
    try:
        status, answered, content = _within(whole_seconds, exchange)
    except TimeoutError:
        raise NotTaken(f"{host} did not answer within {whole_seconds:.0f} s") from None
    except Exception as problem:
        raise NotTaken(f"{host} could not be reached: {_why(problem)}") from None
    return _receipt(host, status, answered, content)


def _some(chunks: Any) -> Any:
    taken = 0
    for chunk in chunks:
        yield chunk
        taken += len(chunk)
        if taken >= _MOST_BYTES:
            return


def _within(seconds: float, action: Callable[[], Any]) -> Any:
    """The action's result. Socket time-outs alone do not bound an answer that drips."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append((True, action()))
        except Exception as problem:
            outcome.append((False, problem))

    thread = threading.Thread(target=work, daemon=True, name="post")
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError
    good, value = outcome[0]
    if not good:
        raise value
    return value


def _why(problem: Exception) -> str:
    """A word for what failed; the library's own text can hold the whole address."""
    import requests

    if isinstance(problem, requests.exceptions.SSLError):
        return "its certificate was not accepted"
    if isinstance(problem, requests.exceptions.Timeout):
        return "it did not answer in time"
    if isinstance(problem, requests.exceptions.ConnectionError):
        return "the connection failed"
    return type(problem).__name__


def _receipt(host: str, status: int, headers: Mapping[str, str], content: bytes) -> str:
    text = content.decode("utf-8", "replace").strip()
    if 300 <= status < 400:
        target = urlsplit(headers.get("Location", ""))
        whither = f" to {target.scheme}://{target.hostname}" if target.hostname else ""
        raise NotTaken(
            f"{host} redirects{whither}; redirects are not followed", again=False,
            hint="if the new address is right, configure it",
        )  # fmt: skip
    if status == 429 or status >= 500:
        raise NotTaken(f"{host} answered {status}", after=retry_after(headers.get("Retry-After")))
    if status >= 400:
        raise NotTaken(f"{host} answered {status}", again=status == 408)
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if "html" in kind or text[:1] == "<":
        raise NotTaken(
            f"{host} answered {status} with a page instead of a receipt",
            hint="a sign-in page or a proxy may stand before the receiver",
        )
    if _says_error(text):
        raise NotTaken(f"{host} answered {status}, and in its text that it failed")
    return text


def _says_error(text: str) -> bool:
    # The wording of Teams, which answers 200 where its own delivery failed.
    if "failed with error" in text.lower():
        return True
    try:
        document = loads_loosely(text) if text[:1] == "{" else None
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    return (
        bool(document.get("error") or document.get("errors"))
        or document.get("ok") is False
        or document.get("success") is False
    )


def retry_after(text: str | None) -> float | None:
    """Seconds from either form of the header."""
    if not text:
        return None
    if text.isascii() and text.strip().isdigit():
        return float(text)
    moment = http_date(text)
    return None if moment is None else max(0.0, moment - time.time())


def _web(address: str) -> dict[str, Any]:
    """An address, or where it is found: ``env:NAME`` or ``vault:https://...``."""
    place, _, rest = address.partition(":")
    return {f"url_{place}": rest} if place in ("env", "vault") else {"url": address}


WEBHOOK = SinkKind("webhook", "webhook:URL", _web, WebhookSettings, WebhookSink)
TEAMS = SinkKind("teams", "teams:env:NAME", _web, TeamsSettings, TeamsSink)
