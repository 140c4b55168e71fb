"""A recording as the source of answers: the recorded queries alone, or any on its rows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qakhunt.backends.recordings.store import Recording
from qakhunt.core.errors import RecordingError, UsageError
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.window import PUBLISHED
from qakhunt.kql.values import Instant, Timespan
from qakhunt.run.plan import PlanLine
from qakhunt.run.request import catalog, refuse_oversized_hunt, refuse_unused, rendered_hunts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from qakhunt.answers.run_result import Clouds
    from qakhunt.backends.base import Backend
    from qakhunt.backends.recordings.manifest import RecordedHunt
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.config import Config
    from qakhunt.run.request import HuntRequest

_ON_SOURCE = "--on-source runs it on the recorded rows"


class ReplaySource:
    """The answers of a recording, at the recording's own ``now``."""

    sample = False
    clouds: dict[str, Clouds] = {}  # noqa: RUF012 - no service is queried

    def __init__(
        self, folder: Path, *, on_source: bool, now: str | None, until: float = float("inf"),
        timeout: float | None = None, config: Path | None = None,
    ) -> None:  # fmt: skip
        self.until, self._timeout, self._config = until, timeout, config
        self._recording = Recording.open(folder)
        self._manifest = self._recording.manifest
        self._on_source = on_source
        self.now = Instant.parse(self._manifest.now)
        if now is not None:
            raise UsageError("--now is not for a recording, which has its own")
        if on_source and not self._manifest.source:
            raise RecordingError(
                f"{folder}: the recording has no source rows",
                hint="record with --source-rows to run changed hunts on it",
            )

    @property
    def config(self) -> Config | None:
        """Read when a job asks for it: plain replays need none."""
        from qakhunt.run.config import read_config

        return read_config(self._config)

    @contextmanager
    def opened(
        self, request: HuntRequest, say: Callable[[str], None], _on_wait: object
    ) -> Iterator[list[PlanLine]]:
        """The recorded plan, or the wanted hunts for the targets it has."""
        backends: dict[tuple[str | None, ...], Backend] = {}
        try:
            say("replaying")
            refuse_unused(request, self._hunts(request))
            yield (
                self._on_rows(request, backends)
                if self._on_source
                else self._strictly(request, backends)
            )
        finally:
            for backend in backends.values():
                backend.close()

    def _strictly(
        self, request: HuntRequest, backends: dict[tuple[str | None, ...], Backend]
    ) -> list[PlanLine]:
        from qakhunt.backends.replay import ReplayBackend
        from qakhunt.run.slicing.strategies import read_slices

        self._refuse_unknown(request)
        wanted = [
            (place, recorded)
            for place, recorded in enumerate(self._manifest.hunts)
            if not request.names or recorded.name in self._names(request, recorded.product)
        ]
        found = self._rendered(request, [recorded for _, recorded in wanted])
        rendered = {
            place: self._same(one, recorded)
            for (place, recorded), one in zip(wanted, found, strict=True)
        }
        lines = []
        for line in self._manifest.plan:
            if line.hunt not in rendered:
                continue
            product = self._manifest.hunts[line.hunt].product
            key = (line.backend, product, line.longest_gap)
            if key not in backends:
                longest = Timespan.parse(line.longest_gap) if line.longest_gap else None
                backends[key] = ReplayBackend(self._recording, line.backend, product, longest)
            try:
                slices = read_slices(line.slices) if line.slices else None
            except ValueError as problem:
                raise RecordingError(f"{self._recording.folder}: slices: {problem}") from None
            target = line.origin
            lines.append(PlanLine(rendered[line.hunt], backends[key], target, slices))
        return lines

    def _names(self, request: HuntRequest, product: str) -> set[str]:
        return {hunt.name for hunt in self._hunts(request) if product in hunt.products}

    def _refuse_unknown(self, request: HuntRequest) -> None:
        known = {hunt.name for hunt in self._manifest.hunts}
        for product in {hunt.product for hunt in self._manifest.hunts}:
            for name in self._names(request, product) - known if request.names else ():
                raise RecordingError(
                    f"{name} was not recorded; the recording has {', '.join(sorted(known))}",
                    hint=_ON_SOURCE,
                )

    def _rendered(
        self, request: HuntRequest, recorded: Sequence[RecordedHunt]
    ) -> list[RenderedQuery]:
        """The hunts as asked for now; what is not asked for is as it was recorded."""
        found = []
        for one in recorded:
            own = self._meant_for(self._hunt(request, one), one, request)
            ((rendered, _),) = rendered_hunts(own, now=self.now, product=one.product, strict=False)
            found.append(rendered)
        return found

    def _hunts(self, request: HuntRequest) -> list[Hunt]:
        if request.names:
            return catalog(request.folders).find_all(request.names)
        return [self._hunt(request, one) for one in self._manifest.hunts]

    def _hunt(self, request: HuntRequest, recorded: RecordedHunt) -> Hunt:
        """The catalog's hunt where hunts are named, else the recording's own copy."""
        if not request.names:
            return load_hunt(self._recording.path(recorded.file))
        return next(hunt for hunt in self._hunts(request) if hunt.name == recorded.name)

    def _meant_for(self, hunt: Hunt, recorded: RecordedHunt, request: HuntRequest) -> HuntRequest:
        """The request with those of its options that the hunt takes."""
        values: dict[str, Any] = {} if request.names else dict(recorded.parameters)
        values.update(request.settings)
        known = parameters_of(hunt)
        takes_commands = hunt.parameter_with_role("commands")
        takes_threshold = hunt.parameter_with_role("threshold")
        window = request.window
        if window == PUBLISHED:
            window = f"{recorded.window.start}/{recorded.window.end}"
        return replace(
            request, names=[str(hunt.path)], window=window,
            settings={name: value for name, value in values.items() if name in known},
            commands=request.commands if takes_commands else (),
            commands_file=request.commands_file if takes_commands else None,
            added_commands=request.added_commands if takes_commands else (),
            threshold=request.threshold if takes_threshold else None,
        )  # fmt: skip

    def _same(self, rendered: RenderedQuery, recorded: RecordedHunt) -> RenderedQuery:
        """Refuse a query that is not the recorded one, and say what differs."""
        from qakhunt.backends.replay import span_of

        same_text = recorded.query == rendered.text or recorded.query_hash == rendered.query_hash
        if same_text and span_of(rendered.window) == recorded.window:
            return rendered
        raise RecordingError(
            f"{recorded.name} is not as it was recorded: {_difference(rendered, recorded)}",
            hint=_ON_SOURCE if self._manifest.source else "record it anew with --source-rows "
            "to run changed hunts on its rows",
        )  # fmt: skip

    def _on_rows(
        self, request: HuntRequest, backends: dict[tuple[str | None, ...], Backend]
    ) -> list[PlanLine]:
        from qakhunt.backends.replay import RecordedRows

        lines = []
        for product in dict.fromkeys(hunt.product for hunt in self._manifest.hunts):
            backend = RecordedRows(self._recording, product, self.now, timeout=self._timeout)
            backends["recorded rows", product] = backend
            origins = dict.fromkeys(
                line.origin
                for line in self._manifest.plan
                if self._manifest.hunts[line.hunt].product == product
            )
            for rendered in self._wanted(request, product):
                refuse_oversized_hunt(rendered)
                lines += [PlanLine(rendered, backend, origin) for origin in origins]
        return lines

    def _wanted(self, request: HuntRequest, product: str) -> list[RenderedQuery]:
        recorded = [hunt for hunt in self._manifest.hunts if hunt.product == product]
        if not request.names:
            return self._rendered(request, recorded)
        span = self._manifest.window
        if request.window == PUBLISHED:
            request = replace(request, window=f"{span.start}/{span.end}")
        found = rendered_hunts(request, now=self.now, product=product)
        return [rendered for rendered, _ in found]


def _difference(rendered: RenderedQuery, recorded: RecordedHunt) -> str:
    """The first thing that differs, in words."""
    from qakhunt.answers.cells import to_text
    from qakhunt.backends.replay import span_of, window_of

    for name in parameters_of(rendered.hunt):
        now, then = to_text(rendered.parameters[name]), recorded.parameters.get(name)
        if now != then:
            return f"{name} is {_short(now)}, and was {_short(then)}"
    if span_of(rendered.window) != recorded.window:
        return f"its window is {rendered.window}, and was {window_of(recorded.window)}"
    pairs = zip(rendered.text.splitlines(), recorded.query.splitlines(), strict=False)
    for number, (now, then) in enumerate(pairs, 1):
        if now != then:
            texts = f"{_short(now.strip())}, and was {_short(then.strip())}"
            return f"line {number} of its query is {texts}"
    return "its query has another number of lines"


def _short(text: str | None) -> str:
    if text is None:
        return "not there"
    return repr(text if len(text) <= 120 else text[:117] + "...")
