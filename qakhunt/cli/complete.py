"""Shell completion: the values an option can take, found when the shell asks.

A completion never fails and never prints: a broken configuration completes nothing.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qakhunt.core.errors import QakhuntError
from qakhunt.core.safe_text import for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qakhunt.run.config import Config

Found = list[tuple[str, str]]


def one_of(*names: str) -> Callable[[str], Found]:
    """Completes with fixed names."""

    def complete(incomplete: str) -> Found:
        return _beginning(incomplete, dict.fromkeys(names, ""))

    return complete


def hunts(ctx: typer.Context, incomplete: str) -> Found:
    """Names of hunts with their titles, then the sets; files complete by the shell."""
    from qakhunt.run.request import catalog
    from qakhunt.triage.words import count

    with _silently():
        folders = [Path(folder) for folder in ctx.params.get("hunts") or ()]
        found = catalog(folders, _config_path(ctx)).all()
        sets: dict[str, int] = {}
        for hunt in found:
            for name in hunt.notes.sets:
                sets[name] = sets.get(name, 0) + 1
        named = {hunt.name: hunt.title for hunt in found}
        return _beginning(
            incomplete, {**named, **{name: count(n, "hunt") for name, n in sets.items()}}
        )
    return []


def profiles(ctx: typer.Context, incomplete: str) -> Found:
    """Profiles of the configuration with their backends."""
    with _silently():
        config = _config(ctx)
        named = {name: one.backend for name, one in config.profiles.items()} if config else {}
        return _beginning(incomplete, named)
    return []


def groups(ctx: typer.Context, incomplete: str) -> Found:
    """Groups of the configuration with their members."""
    with _silently():
        config = _config(ctx)
        named = {n: ", ".join(m) for n, m in config.file.groups.items()} if config else {}
        return _beginning(incomplete, named)
    return []


def sinks(ctx: typer.Context, incomplete: str) -> Found:
    """Sinks of the configuration."""
    with _silently():
        config = _config(ctx)
        return _beginning(incomplete, dict.fromkeys(config.file.sinks, "") if config else {})
    return []


def backends(incomplete: str) -> Found:
    """Backends of a run."""
    from qakhunt.run.source import BACKENDS

    return _beginning(incomplete, dict.fromkeys(BACKENDS, ""))


def dialects(incomplete: str) -> Found:
    """Products that a hunt can be rendered for."""
    from qakhunt.hunts.model import PRODUCTS

    return _beginning(incomplete, dict.fromkeys(PRODUCTS, ""))


def render_dialects(incomplete: str) -> Found:
    """What a hunt's text can be printed for."""
    return [*dialects(incomplete), *_beginning(incomplete, {"kusto": ""})]


def formats(incomplete: str) -> Found:
    """Formats of a result."""
    from qakhunt.reports.formats import FORMATS

    return _beginning(incomplete, dict.fromkeys(("table", *FORMATS), ""))


def report_formats(incomplete: str) -> Found:
    """Formats of a saved result."""
    return [one for one in formats(incomplete) if one[0] != "table"]


def clouds(incomplete: str) -> Found:
    """Clouds of the services."""
    from qakhunt.backends.clouds import CLOUDS

    return _beginning(incomplete, dict.fromkeys(CLOUDS, ""))


def _config(ctx: typer.Context) -> Config | None:
    from qakhunt.run.config import read_config

    return read_config(_config_path(ctx))


def _config_path(ctx: typer.Context) -> Path | None:
    given = ctx.params.get("config")  # text, as the shell gave it
    return Path(given) if given else None


def _beginning(incomplete: str, named: Mapping[str, str]) -> Found:
    return [
        (name, for_terminal(text))
        for name, text in named.items()
        if name.startswith(incomplete) and for_terminal(name) == name
    ]


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    with (
        contextlib.suppress(QakhuntError, OSError),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield
