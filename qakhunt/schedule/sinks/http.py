"""Posting JSON to a web address, and telling a receipt from an error page."""

from __future__ import annotations

import datetime as dt
import json
import threading
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.errors import ConfigError
from qakhunt.schedule.sinks.base import NotTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONNECT_SECONDS = 10
READ_SECONDS = 30
WHOLE_SECONDS = 60
_MOST_BYTES = 64 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
    if parts.scheme == "http" and host not in LOOPBACK:
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
        raise NotTaken(f"{host} answered {status}", after=_retry_after(headers.get("Retry-After")))
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
        document = json.loads(text) if text[:1] == "{" else None
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    return (
        bool(document.get("error") or document.get("errors"))
        or document.get("ok") is False
        or document.get("success") is False
    )


def _retry_after(text: str | None) -> float | None:
    """Seconds from either form of the header."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - dt.datetime.now(dt.timezone.utc)).total_seconds())
