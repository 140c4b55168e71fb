"""A saved result's queries, open again on the backends that answered its run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Target
from qakhunt.core.errors import UsageError
from qakhunt.run.config import read_config
from qakhunt.run.plan import PlanLine
from qakhunt.run.progress import working
from qakhunt.run.request import read_now
from qakhunt.run.source import Choice, chosen_profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult
    from qakhunt.backends.base import Backend


@contextmanager
def reopened(
    result: RunResult, events: Sequence[str] | None, *, timeout: float | None = None,
    config: Path | None = None, trusted_hosts: Sequence[str] = (), quiet: bool = False,
) -> Iterator[list[PlanLine]]:  # fmt: skip
    """The saved run's plan, on recorded events, the sample or the profiles of its ledger.

    Raises UsageError where the result came from events that are not named.
    """
    live = {line.backend for line in result.ledger.lines} - {"local"}
    if events or result.sample or not live:
        opened = _local(result, events, timeout, quiet=quiet)
    else:
        opened = _live(result, timeout, config, trusted_hosts, quiet=quiet)
    with opened as plan:
        yield plan


@contextmanager
def _local(
    result: RunResult, events: Sequence[str] | None, timeout: float | None, *, quiet: bool
) -> Iterator[list[PlanLine]]:
    from qakhunt.backends.local import LocalBackend

    sources = events or _sample(result)
    product = result.rendered[0].product
    with working("loading events", quiet=quiet) as say:
        engine = LocalBackend(sources, now=result.now, product=product, timeout=timeout)
        try:
            say("collecting context")
            yield _plan(result, lambda _profile: engine)
        finally:
            engine.close()


@contextmanager
def _live(
    result: RunResult, timeout: float | None, config: Path | None, trusted_hosts: Sequence[str],
    *, quiet: bool,
) -> Iterator[list[PlanLine]]:  # fmt: skip
    from qakhunt.run.live import LiveBackends
    from qakhunt.run.settings import FROM_ENVIRONMENT

    answered = dict.fromkeys(line.profile for line in result.ledger.lines)
    names = [name for name in answered if name not in (FROM_ENVIRONMENT, "-")]
    settings = chosen_profiles(read_config(config), Choice(names))
    live = LiveBackends(read_now(None), trusted_hosts=trusted_hosts, timeout=timeout)
    with working("collecting context", quiet=quiet):
        try:
            backends = {chosen.name: live.open(chosen) for chosen in settings}
            yield _plan(result, backends.get)
        finally:
            live.close()


def _sample(result: RunResult) -> list[str]:
    if not result.sample:
        raise UsageError(
            "the result does not say where its events are",
            hint="name them with --events, or run the hunt again with --context 30m",
        )
    from qakhunt.run.sample import sample_events

    return sample_events()


def _plan(result: RunResult, backend_of: Callable[[str], Backend | None]) -> list[PlanLine]:
    """The saved run's queries, each on the backend of its profile."""
    found: dict[tuple[str, Target], PlanLine] = {}
    for line in result.ledger.lines:
        backend = backend_of(line.profile)
        if backend is None:
            continue
        rendered = next((r for r in result.rendered if r.hunt.name == line.hunt
                         and r.product == backend.product), None)  # fmt: skip
        if rendered is not None:
            target = Target(line.profile, line.tenant, line.workspace)
            found.setdefault((line.hunt, target), PlanLine(rendered, backend, target))
    return list(found.values())
