"""Hunts as they were requested: options as given, read, checked and rendered.

The one place that reads the clock and the environment for them.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qakhunt.backends.engine.inputs import InputOptions
from qakhunt.core.documents import read_text
from qakhunt.core.errors import HuntError, UsageError, nearest
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.model import LOG_ANALYTICS, PRODUCTS
from qakhunt.hunts.parameters import Parameter, parameters_of
from qakhunt.hunts.render import RenderedQuery, render
from qakhunt.hunts.window import PUBLISHED, parse_instant
from qakhunt.kql.tokens import LineIndex
from qakhunt.kql.values import Instant, Timespan
from qakhunt.run.config import find_config, user_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.hunts.model import Hunt


DEFAULT_GIB = 16.0
"""What one compressed file of events may expand to."""


@dataclass(frozen=True)
class HuntRequest:
    """The options that shape a hunt's query, as given."""

    names: Sequence[str] = ()
    folders: Sequence[Path] = ()
    commands: Sequence[str] = ()
    commands_file: Path | None = None
    added_commands: Sequence[str] = ()
    threshold: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    window: str = PUBLISHED
    time_zone: str | None = None
    config: Path | None = None


def catalog(folders: Sequence[Path] = (), config: Path | None = None) -> Catalog:
    """The user's folders (options, QAKHUNT_HUNTS, configuration), then the built-in hunts.

    A hunt that hides another is announced on stderr, once.
    """
    listed = os.environ.get("QAKHUNT_HUNTS", "")
    named = (Path(part) for part in listed.split(os.pathsep) if part)
    found = Catalog((*folders, *named, *_configured_folders(config)))
    _announce_hidden(found)
    return found


@cache
def _announce_hidden(found: Catalog) -> None:
    for sentence in found.hidden():
        print(f"note: {for_terminal(sentence)}", file=sys.stderr)


def _configured_folders(option: Path | None) -> tuple[Path, ...]:
    found = find_config(option, os.environ, folder=user_folder(), current=Path.cwd())
    if found is None:
        return ()
    from qakhunt.run.config import load_config

    return load_config(found[0], local=found[1]).hunts_folders


def read_now(text: str | None) -> Instant:
    """The instant given, or the clock's."""
    if text is None:
        return Instant.from_datetime(dt.datetime.now(dt.timezone.utc))
    try:
        return parse_instant(text)
    except (ValueError, OverflowError) as problem:
        raise UsageError(f"--now {text!r}: {problem}") from None


def read_product(text: str | None) -> str:
    """A product's name; none given is Log Analytics."""
    if text is None:
        return LOG_ANALYTICS
    if text not in PRODUCTS:
        raise UsageError(
            f"no product named {text!r}", hint=nearest(text, PRODUCTS) or ", ".join(PRODUCTS)
        )
    return text


def read_zone(name: str | None) -> dt.tzinfo | None:
    """An IANA time zone, or None for UTC."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo, available_timezones

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"no time zone named {name!r}", hint=nearest(name, available_timezones())
        ) from None


def read_length(option: str, text: str) -> Timespan:
    """A length of time with its unit, such as 26h."""
    try:
        span = Timespan.parse(text)
    except (ValueError, OverflowError):
        span = Timespan(0)
    if span.ticks <= 0 or text.strip().isdigit():
        raise UsageError(f"{option} {text!r}: not a length of time", hint="write one such as 26h")
    return span


def read_deadline(text: str | None) -> float:
    """The moment of ``time.monotonic`` that ``--deadline`` names; none is infinity."""
    if text is None:
        return float("inf")
    return time.monotonic() + read_length("--deadline", text).seconds


def seconds_left(until: float) -> float | None:
    """Seconds until that moment of ``time.monotonic``; None for infinity."""
    return None if until == float("inf") else max(0.0, until - time.monotonic())


def read_input_options(
    time_zone: str | None, date_order: str | None, max_expanded: float | None, *, strict: bool
) -> InputOptions:
    """How event files are read. Raises UsageError."""
    if date_order not in (None, "day-first", "month-first"):
        raise UsageError(f"--date-order {date_order!r}: it is day-first or month-first")
    read_zone(time_zone)
    return InputOptions(
        time_zone,
        cast("Any", date_order),
        strict=strict,
        max_expanded=int((DEFAULT_GIB if max_expanded is None else max_expanded) * (1 << 30)),
    )


def rendered_hunts(
    request: HuntRequest, *, now: Instant, product: str, strict: bool = True
) -> list[tuple[RenderedQuery, list[str]]]:
    """Each hunt rendered, with warnings about its parameters.

    ``strict`` refuses a threshold that no hit can exceed; otherwise it is warned of.
    """
    zone = read_zone(request.time_zone)
    found = []
    for hunt, values in hunts_with_values(request):
        rendered = render(
            hunt, now=now, product=product, parameters=values, window=request.window, zone=zone
        )
        found.append((rendered, _hopeless_threshold(rendered, strict=strict)))
    return found


def hunts_with_values(request: HuntRequest) -> list[tuple[Hunt, dict[str, Any]]]:
    """The hunts that the request names, each with the parameters that it sets."""
    hunts = catalog(request.folders, request.config).find_all(request.names)
    refuse_unused(request, hunts)
    settings = _settings(request, hunts)
    return [(hunt, _values(request, hunt, settings)) for hunt in hunts]


def refuse_oversized_hunt(rendered: RenderedQuery) -> None:
    """Raise HuntError, before any work, for a hunt that is too large for the engine."""
    from qakhunt.backends.engine.dialect import Unreadable
    from qakhunt.backends.engine.limits import refuse_oversized

    try:
        refuse_oversized(rendered.text)
    except Unreadable as problem:
        place = LineIndex(rendered.text).locate(problem.offset or 0)
        raise HuntError(
            problem.message, location=rendered.locate(*place), hint=problem.hint
        ) from None


def read_values(settings: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` options as a mapping."""
    values = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: expected NAME=VALUE")
        values[name] = value
    return values


def _settings(request: HuntRequest, hunts: Sequence[Hunt]) -> Mapping[str, Any]:
    known = {name for hunt in hunts for name in parameters_of(hunt)}
    for name in request.settings:
        if name not in known:
            raise UsageError(
                f"no parameter named {name!r}",
                hint=nearest(name, known) or f"parameters: {', '.join(sorted(known)) or 'none'}",
            )
    return request.settings


def _values(request: HuntRequest, hunt: Hunt, settings: Mapping[str, Any]) -> dict[str, Any]:
    parameters = parameters_of(hunt)
    values: dict[str, Any] = {n: v for n, v in settings.items() if n in parameters}
    listed = hunt.parameter_with_role("commands")
    if listed:
        commands = _commands(request, parameters[listed])
        if commands is not None:
            values[listed] = commands
    threshold = hunt.parameter_with_role("threshold")
    if threshold and request.threshold is not None:
        values[threshold] = request.threshold
    return values


def _commands(request: HuntRequest, parameter: Parameter) -> list[str] | None:
    if request.commands and request.commands_file:
        raise UsageError("--command and --commands exclude each other")
    base: list[str] | None = list(request.commands) or None
    if request.commands_file:
        base = read_commands(request.commands_file)
    if request.added_commands:
        base = [*(parameter.default if base is None else base), *request.added_commands]
    return None if base is None else list(dict.fromkeys(base))


def read_commands(path: Path) -> list[str]:
    """Commands of a file, one a line; blank lines and lines that begin with # are none."""
    lines = (line.strip() for line in read_text(path, UsageError).splitlines())
    commands = [line for line in lines if line and not line.startswith("#")]
    if not commands:
        raise UsageError(f"{path}: the command list is empty", hint="write one command a line")
    return commands


def _hopeless_threshold(rendered: RenderedQuery, *, strict: bool) -> list[str]:
    """A threshold that the number of distinct entries cannot exceed."""
    hunt = rendered.hunt
    listed, limit = hunt.parameter_with_role("commands"), hunt.parameter_with_role("threshold")
    if not listed or not limit:
        return []
    entries = len(set(rendered.parameters[listed]))
    threshold = rendered.parameters[limit]
    if threshold < entries:
        return []
    message = (
        f"{hunt.name}: more than {threshold} distinct commands can never be found, "
        f"since its list has {entries}"
    )
    if strict:
        raise UsageError(message, hint=f"a threshold below {entries} can be exceeded")
    return [message]


def refuse_unused(request: HuntRequest, hunts: Sequence[Hunt]) -> None:
    """Refuse an option that no hunt takes rather than ignore it."""
    _settings(request, hunts)
    wants = {
        "commands": bool(request.commands or request.commands_file or request.added_commands),
        "threshold": request.threshold is not None,
    }
    for role, wanted in wants.items():
        if wanted and not any(hunt.parameter_with_role(role) for hunt in hunts):
            option = {"commands": "--command", "threshold": "--threshold"}[role]
            raise UsageError(
                f"{hunts[0].name} has no parameter for {option}",
                hint="'qakhunt hunts show' lists its parameters; --set gives any of them a value",
            )
