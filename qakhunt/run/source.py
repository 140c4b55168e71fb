"""The source of a run's answers: the bundled sample, recorded events, or chosen profiles."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from qakhunt.answers.ledger import Target
from qakhunt.backends.engine.external import give_external
from qakhunt.backends.engine.inputs import InputOptions
from qakhunt.backends.engine.limits import limit_memory
from qakhunt.backends.services import MODULES, service_named
from qakhunt.core.errors import UsageError, nearest
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.model import LOG_ANALYTICS
from qakhunt.run.config import Config, length_of_time, read_config, user_folder
from qakhunt.run.plan import PlanLine
from qakhunt.run.request import (
    HuntRequest,
    read_now,
    read_product,
    refuse_oversized_hunt,
    rendered_hunts,
)
from qakhunt.run.settings import (
    FROM_ENVIRONMENT,
    ProfileSettings,
    effective,
    profile_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from qakhunt.answers.run_result import Clouds
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Instant
    from qakhunt.run.live import LiveBackends
    from qakhunt.run.slicing.strategies import SliceRequest

    OnWait = Callable[[str, float, str], None]

LOCAL = "local"
REPLAY = "replay"
BACKENDS = (LOCAL, *MODULES, REPLAY)


@dataclass(frozen=True)
class Choice:
    """Which profiles were chosen, as the options gave it."""

    names: Sequence[str] = ()
    group: str | None = None
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.names) or self.group is not None or self.everything


def chosen_profiles(
    config: Config | None, choice: Choice, flags: Mapping[str, Any] | None = None
) -> list[ProfileSettings]:
    """The chosen profiles with the values in force. Raises UsageError where none is."""
    if config is None:
        if choice or not profile_from_environment(os.environ, (flags or {}).get("backend")):
            raise UsageError(
                "there is no configuration",
                hint=f"'qakhunt config init' writes {user_folder() / 'config.toml'}",
            )
        names = [FROM_ENVIRONMENT]
    else:
        names = config.select(choice.names, choice.group, everything=choice.everything)
    alone = len(names) == 1
    return [
        effective(config, name, environment=os.environ, flags=flags, alone=alone) for name in names
    ]


@dataclass(frozen=True)
class SourceOptions:
    """The options of a command that choose its source, as given."""

    backend: str | None = None
    events: Sequence[str] = ()
    dialect: str | None = None
    now: str | None = None
    timeout: float | None = None
    config: Path | None = None
    choice: Choice = field(default_factory=Choice)
    trusted_hosts: Sequence[str] = ()
    slices: SliceRequest | None = None
    deadline: float = float("inf")
    """A moment of ``time.monotonic``."""
    recording: Path | None = None
    on_source: bool = False
    memory_limit: str | None = None
    external: Sequence[str] = ()
    inputs: InputOptions = field(default_factory=InputOptions)
    announce: bool = False
    """Whether stderr names assumptions about the events: no screen will."""


class Source(Protocol):
    """Where answers come from: its ``now``, and a plan while it is open.

    ``config`` has a job's sinks and its identity, whatever answers. ``until`` is the
    moment of ``time.monotonic`` at which no more queries start.
    """

    now: Instant
    until: float
    sample: bool
    clouds: dict[str, Clouds]

    @property
    def config(self) -> Config | None:
        """The configuration, or None where there is none."""

    def opened(
        self, request: HuntRequest, say: Callable[[str], None], on_wait: OnWait | None
    ) -> AbstractContextManager[list[PlanLine]]:
        """Context manager that gives the plan's lines and closes what it opened."""


def choose_source(options: SourceOptions, environment: Mapping[str, str]) -> Source:
    """Choose by the options, then by the configuration; with neither, the sample."""
    limit_memory(options.memory_limit)
    give_external(options.external)
    if options.backend is not None and options.backend not in BACKENDS:
        raise UsageError(
            f"no backend named {options.backend!r}",
            hint=nearest(options.backend, BACKENDS) or ", ".join(BACKENDS),
        )
    if options.recording is not None or options.on_source or options.backend == REPLAY:
        return _replay(options)
    if options.events or options.backend == LOCAL:
        _refuse_profiles(options)
        return LocalSource(options)
    config = read_config(options.config)
    named = bool(options.choice) or options.backend is not None
    if config is None and not named and not profile_from_environment(environment):
        return LocalSource(options)
    if options.dialect is not None:
        raise UsageError("--dialect is for the embedded engine; a profile's backend says its own")
    return LiveSource(options, config)


def _replay(options: SourceOptions) -> Source:
    from qakhunt.run.replay import ReplaySource

    if options.recording is None:
        raise UsageError("a replay needs a recording", hint="name its folder with --recording")
    if options.backend not in (None, REPLAY):
        raise UsageError(f"a recording is replayed, not asked of {options.backend}")
    for given, option in (
        (options.events, "--events"), (bool(options.choice), "--profile"),
        (options.dialect, "--dialect"), (options.slices, "--slice"),
        (options.timeout and not options.on_source, "--timeout"),
    ):  # fmt: skip
        if given:
            raise UsageError(f"{option} is not for a recording, which has its own")
    return ReplaySource(
        options.recording, on_source=options.on_source, now=options.now, until=options.deadline,
        timeout=options.timeout, config=options.config,
    )  # fmt: skip


def _refuse_profiles(options: SourceOptions) -> None:
    if options.choice:
        raise UsageError("a profile is asked live, --events and --backend local are not")
    if options.events and options.backend not in (None, LOCAL):
        raise UsageError(f"--events are for the embedded engine, not for {options.backend}")


class LocalSource:
    """The embedded engine over event files, else over the sample with its own ``now``."""

    clouds: dict[str, Clouds] = {}  # noqa: RUF012 - no service is queried

    def __init__(self, options: SourceOptions) -> None:
        from qakhunt.run.sample import sample_events, sample_now

        self._options, self.until = options, options.deadline
        self.sample = not options.events
        self._events = list(options.events) or sample_events()
        given = options.now or (sample_now().isoformat() if self.sample else None)
        self.now = read_now(given)
        self._product = read_product(options.dialect)

    @property
    def config(self) -> Config | None:
        """Read when a job asks for it: plain runs need none."""
        return read_config(self._options.config)

    @contextmanager
    def opened(
        self, request: HuntRequest, say: Callable[[str], None], _on_wait: OnWait | None
    ) -> Iterator[list[PlanLine]]:
        """Load the events; the plan is one line per hunt."""
        from qakhunt.backends.local import LocalBackend

        found = rendered_hunts(request, now=self.now, product=self._product)
        for rendered, _ in found:
            refuse_oversized_hunt(rendered)
        say("loading events")
        engine = LocalBackend(
            self._events, now=self.now, product=self._product, timeout=self._options.timeout,
            options=self._options.inputs,
        )  # fmt: skip
        try:
            for text in engine.assumptions if self._options.announce else ():
                print(f"note: {for_terminal(text)}", file=sys.stderr)
            target = Target("sample" if self.sample else LOCAL)
            say("hunting")
            yield [
                PlanLine(rendered, engine, target, self._options.slices) for rendered, _ in found
            ]
        finally:
            engine.close()


class LiveSource:
    """The services, for each profile that was chosen."""

    sample = False

    def __init__(self, options: SourceOptions, config: Config | None) -> None:
        self._options, self.config = options, config
        flags = {"backend": options.backend}
        self._profiles = chosen_profiles(config, options.choice, flags)
        self.clouds = {settings.name: _clouds(settings) for settings in self._profiles}
        self.now = read_now(options.now)
        self.until = options.deadline
        configured = config.file.deadline if config else None
        if configured is not None and self.until == float("inf"):
            self.until = time.monotonic() + length_of_time("deadline", configured).seconds

    @contextmanager
    def opened(
        self, request: HuntRequest, say: Callable[[str], None], on_wait: OnWait | None
    ) -> Iterator[list[PlanLine]]:
        """One line per hunt and workspace of each profile; nothing is queried yet."""
        from qakhunt.run.live import LiveBackends

        hunts = [(profile, self._rendered(request, profile)) for profile in self._profiles]
        live = LiveBackends(
            self.now, on_wait=on_wait, trusted_hosts=self._options.trusted_hosts,
            deadline=self.until, timeout=self._options.timeout,
        )  # fmt: skip
        try:
            say("hunting")
            plan = [line for profile, found in hunts for line in self._lines(live, profile, found)]
            yield plan + self._missing(request)
        finally:
            live.close()

    def _rendered(self, request: HuntRequest, settings: ProfileSettings) -> list[RenderedQuery]:
        profile = settings.profile
        names = request.names or profile.hunts
        wanted = replace(request, names=names)
        product = service_named(profile.backend).product
        return [r for r, _ in rendered_hunts(wanted, now=self.now, product=product)]

    def _lines(
        self, live: LiveBackends, settings: ProfileSettings, found: Sequence[RenderedQuery]
    ) -> list[PlanLine]:
        from qakhunt.run.live import targets_of

        backend = live.open(settings)
        return [
            PlanLine(rendered, backend, target, self._options.slices)
            for rendered in found
            for target in targets_of(settings)
        ]

    def _missing(self, request: HuntRequest) -> list[PlanLine]:
        """Expected tenants without a profile are part of the plan: not covered."""
        if self.config is None or not self._options.choice.everything:
            return []
        from qakhunt.backends.base import MissingTenant

        lines = []
        for tenant in self.config.missing_tenants():
            backend = MissingTenant(
                LOG_ANALYTICS, "an expected tenant that has no profile",
                hint=f"add a profile to {self.config.path}",
            )  # fmt: skip
            for rendered, _ in rendered_hunts(request, now=self.now, product=backend.product):
                lines.append(PlanLine(rendered, backend, Target("-", tenant)))
        return lines


def _clouds(settings: ProfileSettings) -> Clouds:
    from qakhunt.answers.run_result import Clouds

    profile = settings.profile
    return Clouds(
        profile.cloud, profile.log_analytics_cloud or profile.cloud, profile.workspace_resources,
        profile.cluster if profile.database else None, profile.database,
    )  # fmt: skip
