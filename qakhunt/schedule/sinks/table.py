"""The table of sinks: a kind's name, its settings and what makes it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from qakhunt.documents import convert_value
from qakhunt.errors import ConfigError, SourceLocation, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.schedule.sinks.base import Sink, Surroundings


@dataclass(frozen=True)
class Kind:
    """A kind of sink: where its classes stand, and how ``KIND:ADDRESS`` becomes settings."""

    module: str
    sink: str
    settings: str
    form: str
    read: Callable[[str], dict[str, Any]]


def _url_only(address: str) -> dict[str, Any]:
    return {"url": address}


def _web(address: str) -> dict[str, Any]:
    """An address, or where it is found: ``env:NAME`` or ``vault:https://...``."""
    place, _, rest = address.partition(":")
    return {f"url_{place}": rest} if place in ("env", "vault") else {"url": address}


def _path(address: str) -> dict[str, Any]:
    return {"path": address}


def _nothing(address: str) -> dict[str, Any]:
    return {"address": address} if address else {}


def _rule(address: str) -> dict[str, Any]:
    """``https://ENDPOINT/dcr-ID/STREAM``; the stream may be left out."""
    parts = urlsplit(address)
    names = [name for name in parts.path.split("/") if name]
    settings = {"endpoint": f"{parts.scheme}://{parts.netloc}", "rule": names[0] if names else ""}
    return {**settings, "stream": names[1]} if len(names) > 1 else settings


def _mail(address: str) -> dict[str, Any]:
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


KINDS: dict[str, Kind] = {
    "file": Kind("files", "FileSink", "PathSettings", "file:PATH", _path),
    "folder": Kind("files", "FolderSink", "PathSettings", "folder:PATH", _path),
    "stdout": Kind("files", "StdoutSink", "NoSettings", "stdout", _nothing),
    "webhook": Kind("webhook", "WebhookSink", "WebhookSettings", "webhook:URL", _web),
    "teams": Kind("teams", "TeamsSink", "TeamsSettings", "teams:env:NAME", _web),
    "log-analytics": Kind(
        "log_analytics", "LogAnalyticsSink", "LogAnalyticsSettings",
        "log-analytics:https://ENDPOINT/dcr-ID", _rule,
    ),
    "blob": Kind("blob", "BlobSink", "BlobSettings", "blob:https://ACCOUNT/CONTAINER", _url_only),
    "smtp": Kind("mail", "MailSink", "MailSettings", "smtp:HOST?from=A&to=B", _mail),
}  # fmt: skip


def make_sink(
    text: str, configured: Mapping[str, Mapping[str, Any]], surroundings: Surroundings,
    locate: Callable[[str, tuple[str | int, ...]], SourceLocation] | None = None,
) -> Sink:  # fmt: skip
    """The sink that ``--sink TEXT`` names: one of the configuration, or ``KIND:ADDRESS``.

    ``configured`` holds a mapping per name with its ``kind`` and settings. Raises
    UsageError for an unknown name, ConfigError for settings that do not fit.
    """
    name, kind, settings = sink_settings(text, configured)

    def place(path: tuple[str | int, ...]) -> SourceLocation:
        known = locate is not None and text in configured
        return locate(name, path) if locate and known else SourceLocation(f"--sink {name}")

    model = check_settings(kind, settings, place)
    sink: Sink = getattr(_module(kind), KINDS[kind].sink)(name, model, surroundings)
    return sink


def sink_settings(
    text: str, configured: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str, dict[str, Any]]:
    """Name, kind and settings of a sink as given; not yet checked."""
    if text in configured:
        settings = dict(configured[text])
        kind = settings.pop("kind", None)
        if kind not in KINDS:
            raise ConfigError(
                f"sinks.{text}: no kind of sink named {kind!r}",
                hint=nearest(str(kind), KINDS) or f"kinds: {', '.join(KINDS)}",
            )
        return text, kind, settings
    kind, _, address = text.partition(":")
    if kind not in KINDS:
        known = [*configured, *(k.form for k in KINDS.values())]
        raise UsageError(
            f"no sink named {text!r}", hint=nearest(kind, [*configured, *KINDS]) or ", ".join(known)
        )
    if not address and kind != "stdout":
        raise UsageError(f"--sink {kind} needs an address", hint=f"write {KINDS[kind].form}")
    return _name(kind, address), kind, KINDS[kind].read(address)


def check_settings(
    kind: str, settings: Mapping[str, Any],
    place: Callable[[tuple[str | int, ...]], SourceLocation],
) -> Any:  # fmt: skip
    """The settings as their kind's model. Raises ConfigError."""
    model: type[Any] = getattr(_module(kind), KINDS[kind].settings)
    return convert_value(dict(settings), model, ConfigError, place)


def _module(kind: str) -> Any:
    return importlib.import_module(f"qakhunt.schedule.sinks.{KINDS[kind].module}")


def _name(kind: str, address: str) -> str:
    """What the state and the reports call it; a query in an address may be a secret."""
    return f"{kind}:{address.partition('?')[0]}" if address else kind
