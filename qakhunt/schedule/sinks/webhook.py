"""A generic webhook, signed as Standard Webhooks describes.

Headers: ``webhook-id`` (the finding's id), ``webhook-timestamp`` (seconds) and
``webhook-signature``: ``v1,`` and the base64 HMAC-SHA256 of ``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.errors import ConfigError
from qakhunt.schedule.findings import FIELDS
from qakhunt.schedule.sinks.base import Surroundings, heartbeat_key, reference, to_json
from qakhunt.schedule.sinks.http import check_url, new_session, post
from qakhunt.schedule.sinks.templates import check_names, fill, load_template
from qakhunt.schedule.store import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qakhunt.schedule.sinks.base import Report


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address and the secret, or where they are found: never the secret itself."""

    url: str | None = None
    url_env: str | None = None
    url_vault: str | None = None
    secret_env: str = "QAKHUNT_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
    secret_vault: str | None = None
    template: str | None = None


class WebhookSink:
    """One request per finding, each a ``qakhunt.finding/1`` or the filled template."""

    def __init__(
        self, name: str, settings: WebhookSettings, surroundings: Surroundings,
        seconds: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.name = name
        where = reference(settings.url_env, settings.url_vault)
        url = surroundings.secret(where) if where else settings.url or ""
        self._url = check_url(url, f"sink {name}")
        secret = surroundings.secret(reference(settings.secret_env, settings.secret_vault) or "")
        self._key = signing_key(secret, name)
        self._session = new_session(surroundings.verify)
        self._seconds = seconds
        self._template = load_template(Path(settings.template)) if settings.template else None
        check_names(self._template, FIELDS, f"sink {name}")

    def messages(self, report: Report) -> Iterator[Message]:
        """One per finding."""
        for finding in report.findings:
            yield Message(self.name, finding["id"], self._body(finding), findings=(finding["id"],))

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """The document as it is."""
        return [Message(self.name, heartbeat_key(document), to_json(document), "heartbeat")]

    def send(self, message: Message) -> None:
        """Post it, signed."""
        stamp = str(int(self._seconds()))
        headers = {
            "webhook-id": message.key,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(self._key, message.key, stamp, message.payload),
            "Idempotency-Key": message.key,
        }
        post(self._session, self._url, message.payload, headers)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _body(self, finding: dict[str, Any]) -> bytes:
        if self._template is None:
            return to_json(finding)
        return to_json(fill(self._template, finding, lambda _kind, text: text))


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
