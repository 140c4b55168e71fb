"""The sinks: the table of their kinds, and the one that ``--sink TEXT`` names.

A new kind is one module with its ``SinkKind``, and its row here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.core.documents import convert_value
from qakhunt.core.errors import ConfigError, SourceLocation, UsageError, nearest
from qakhunt.run.config import Schedule
from qakhunt.schedule.azure_blob import credential_of
from qakhunt.schedule.sinks import files, log_analytics, mail, sentinel, web
from qakhunt.schedule.sinks.base import SinkContext, resolve_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from qakhunt.run.config import Config
    from qakhunt.schedule.sinks.base import Sink, SinkKind

    Locate = Callable[[str, tuple[str | int, ...]], SourceLocation]

KINDS: dict[str, SinkKind] = {
    kind.name: kind
    for kind in (
        files.FILE, files.STDOUT, web.WEBHOOK, web.TEAMS, log_analytics.LOG_ANALYTICS,
        sentinel.SENTINEL_INCIDENT, mail.SMTP,
    )
}  # fmt: skip


def make_sink(
    text: str, configured: Mapping[str, Mapping[str, Any]], context: SinkContext,
    locate: Locate | None = None,
) -> Sink:  # fmt: skip
    """The sink that ``--sink TEXT`` names: one of the configuration, or ``KIND:ADDRESS``.

    ``configured`` holds a mapping per name with its ``kind`` and settings. Raises
    UsageError for an unknown name, ConfigError for settings that do not fit.
    """
    name, kind, settings = sink_settings(text, configured, locate)
    return kind.open(name, settings, context)


def sink_settings(
    text: str, configured: Mapping[str, Mapping[str, Any]], locate: Locate | None = None
) -> tuple[str, SinkKind, Any]:
    """Name, kind and checked settings of the sink that ``--sink TEXT`` names."""
    if text in configured:
        name, given = text, dict(configured[text])
        wanted = given.pop("kind", None)
        if wanted not in KINDS:
            raise ConfigError(
                f"sinks.{text}: no kind of sink named {wanted!r}",
                hint=nearest(str(wanted), KINDS) or f"kinds: {', '.join(KINDS)}",
            )
        kind = KINDS[wanted]
    else:
        wanted, _, address = text.partition(":")
        if wanted not in KINDS:
            known = [*configured, *(kind.form for kind in KINDS.values())]
            raise UsageError(
                f"no sink named {text!r}",
                hint=nearest(wanted, [*configured, *KINDS]) or ", ".join(known),
            )
        kind = KINDS[wanted]
        if not address and ":" in kind.form:
            raise UsageError(f"--sink {wanted} needs an address", hint=f"write {kind.form}")
        # A query in an address may be a secret: the state and the reports do without.
        name = f"{wanted}:{address.partition('?')[0]}" if address else wanted
        given = kind.read(address)

    def place(path: tuple[str | int, ...]) -> SourceLocation:
        if locate and text in configured:
            return locate(name, path)
        return SourceLocation(f"--sink {name}")

    return name, kind, convert_value(given, kind.settings, ConfigError, place)


def open_sinks(texts: Iterable[str], config: Config | None, context: SinkContext) -> list[Sink]:
    """The sinks that ``--sink`` names, each once."""
    configured = config.file.sinks if config else {}
    locate = _places(config) if config else None
    return [make_sink(text, configured, context, locate) for text in dict.fromkeys(texts)]


def _places(config: Config) -> Locate:
    return lambda name, path: config.document.locate(("sinks", name, *path))


def sink_context(config: Config | None, environment: Mapping[str, str]) -> SinkContext:
    """What sinks and the state need of the configuration and the environment."""
    settings = config.file.schedule if config else Schedule()
    return SinkContext(
        secret=lambda text: resolve_reference(text, environment, settings),
        environment=environment,
        credential=lambda: credential_of(settings),
        verify=settings.ca_file or environment.get("QAKHUNT_CA_FILE") or True,
    )
