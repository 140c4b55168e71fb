"""Shell completion: the values an option can take, found when the shell asks.

A completion never fails and never prints: a broken configuration completes nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qakhunt.core.errors import QakhuntError
from qakhunt.core.safe_text import for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qakhunt.run.config import Config

    Complete = Callable[..., "Found"]

Found = list[tuple[str, str]]


def one_of(*names: str) -> Complete:
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


def _listed(place: str, *, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Complete:
    """Completes with the names in ``MODULE:NAME``, imported when the shell asks."""

    def complete(incomplete: str) -> Found:
        module, _, name = place.partition(":")
        names = getattr(importlib.import_module(f"qakhunt.{module}"), name)
        return _beginning(incomplete, dict.fromkeys((*before, *names, *after), ""))

    return complete


def _configured(named: Callable[[Config], Mapping[str, str]]) -> Complete:
    """Completes with names of the configuration, and what each is."""

    def complete(ctx: typer.Context, incomplete: str) -> Found:
        from qakhunt.run.config import read_config

        with _silently():
            config = read_config(_config_path(ctx))
            return _beginning(incomplete, named(config) if config else {})
        return []

    return complete


profiles = _configured(lambda config: {n: one.backend for n, one in config.profiles.items()})
groups = _configured(lambda config: {n: ", ".join(m) for n, m in config.file.groups.items()})
sinks = _configured(lambda config: dict.fromkeys(config.file.sinks, ""))
backends = _listed("run.source:BACKENDS")
dialects = _listed("hunts.model:PRODUCTS")
render_dialects = _listed("hunts.model:PRODUCTS", after=("kusto",))
formats = _listed("reports.formats:FORMATS", before=("table",))
report_formats = _listed("reports.formats:FORMATS")
clouds = _listed("backends.clouds:CLOUDS")


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
