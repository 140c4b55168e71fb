"""The functions of ``import qakhunt``: what the commands of the same name do, from Python.

They call what the command line calls. A mistake raises QakhuntError; what a tenant did not
answer raises nothing and stands in the ledger, so look at ``verdict`` before ``hits``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.findings import findings_of_run
from qakhunt.answers.ledger import Verdict
from qakhunt.core.errors import QakhuntError, UsageError
from qakhunt.run.request import HuntRequest, catalog, read_now, read_product, rendered_hunts

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    import pandas
    import polars
    import pyarrow

    from qakhunt.answers.findings import Finding
    from qakhunt.answers.hits import Hit
    from qakhunt.answers.ledger import Ledger
    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.case_runner import CaseResult
    from qakhunt.testing.compare import Comparison

    Named = str | os.PathLike[str]
    Names = Named | Sequence[Named]
    Moment = str | dt.datetime

__all__ = ["QakhuntError", "Result", "Verdict", "diff", "hunts", "render", "run", "test"]


@dataclass(frozen=True, repr=False)
class Result:
    """What a run found and how completely it looked; ``run_result`` is all that is known of it.

    A notebook shows it as a table. The tables have one row per hit: ``hunt``, ``profile``,
    ``tenant``, ``workspace``, then the columns of the hunts' results. Datetimes are UTC in
    nanoseconds (microseconds in a column with years that nanoseconds cannot hold); decimal,
    timespan, guid and dynamic are text, dynamic as JSON.
    """

    run_result: RunResult

    @property
    def verdict(self) -> Verdict:
        """What may be said of the run; ``clean`` only where everything answered completely."""
        return self.run_result.verdict

    @property
    def ledger(self) -> Ledger:
        """What was asked and what answered, line by line."""
        return self.run_result.ledger

    @property
    def hits(self) -> list[Hit]:
        """The rows found, suppressed ones left out."""
        return self.run_result.hits

    @property
    def findings(self) -> list[Finding]:
        """The hits as episodes: one account on one device in one time range."""
        return findings_of_run(self.run_result)

    def to_arrow(self) -> pyarrow.Table:
        """The hits as an Arrow table. Raises UsageError where pyarrow is missing."""
        from qakhunt.reports.formats import arrow_table

        return arrow_table(self.run_result)

    def to_pandas(self) -> pandas.DataFrame:
        """The hits as a pandas DataFrame. Raises UsageError where pandas is missing."""
        from qakhunt.reports.formats import pandas_frame

        return pandas_frame(self.run_result)

    def to_polars(self) -> polars.DataFrame:
        """The hits as a Polars DataFrame. Raises UsageError where polars is missing."""
        from qakhunt.reports.formats import polars_frame

        return polars_frame(self.run_result)

    def __repr__(self) -> str:
        from qakhunt.core.safe_text import for_terminal
        from qakhunt.reports.summary import verdict_line

        return f"<Result {for_terminal(verdict_line(self.run_result))}>"

    def _repr_html_(self) -> str:
        """The verdict, what did not answer and the findings, for a notebook."""
        from qakhunt.reports.html_report import notebook_html

        return notebook_html(self.run_result)


def run(
    hunt: Names = (),
    *,
    events: Names = (),
    profile: str | Sequence[str] = (),
    window: str = "published",
    parameters: Mapping[str, Any] | None = None,
    now: Moment | None = None,
    context: str | None = None,
    slices: str | None = None,
    folders: Names = (),
    config: Named | None = None,
) -> Result:
    """Run hunts, as ``qakhunt run`` does, and give what they found.

    ``hunt`` names hunts by name, id or path, or sets; none is the Qakbot hunt. They run on
    recorded ``events`` (files, folders, globs, ``TABLE=PATH``), else live on each ``profile``
    of the configuration, else on what the configuration or the environment says, else on the
    bundled sample. ``window`` and ``slices`` are written as ``--window`` and ``--slice``;
    ``parameters`` are the hunts' own, by name: Python values, or text as for ``--set``;
    ``context`` is the time around each hit to collect, such as ``30m``.

    Raises QakhuntError for a mistake, KeyboardInterrupt where it was interrupted.
    """
    from qakhunt.run.hunting import hunt as hunt_in
    from qakhunt.run.hunting import read_around, read_slice
    from qakhunt.run.source import Choice, SourceOptions, choose_source

    path = None if config is None else Path(config)
    request = HuntRequest(
        _texts(hunt), _paths(folders), settings=parameters or {}, window=window, config=path
    )
    around = read_around(context)
    source = choose_source(
        SourceOptions(
            events=_texts(events), now=_text(now), config=path, choice=Choice(_texts(profile)),
            slices=read_slice(slices), announce=True,
        ),
        os.environ,
    )  # fmt: skip
    result = hunt_in(source, request, around=around)
    if result.interrupted:
        raise KeyboardInterrupt
    return Result(result)


def render(
    hunt: Named = "",
    *,
    product: str = "log-analytics",
    window: str = "published",
    parameters: Mapping[str, Any] | None = None,
    now: Moment | None = None,
    folders: Names = (),
) -> RenderedQuery:
    """One hunt's KQL for ``log-analytics`` or ``defender``; ``text`` is ready to paste.

    Raises QakhuntError for a mistake, or where ``hunt`` names several.
    """
    names = [os.fspath(hunt)] if hunt else []
    request = HuntRequest(names, _paths(folders), settings=parameters or {}, window=window)
    found = rendered_hunts(
        request, now=read_now(_text(now)), product=read_product(product), strict=False
    )
    if len(found) != 1:
        known = ", ".join(rendered.hunt.name for rendered, _ in found)
        raise UsageError(f"{hunt!r} names {len(found)} hunts: {known}", hint="name one of them")
    rendered, warnings = found[0]
    return replace(rendered, warnings=(*rendered.warnings, *warnings))


def hunts(*, folders: Names = ()) -> list[Hunt]:
    """Every hunt that can be named, loaded, by name; ``folders`` come before the built-in ones."""
    return catalog(_paths(folders)).all()


def test(hunt: Names = (), *, select: str | None = None, folders: Names = ()) -> list[CaseResult]:
    """Run the test cases of hunts, of all hunts by default, in every product.

    ``select`` keeps cases with that text in their hunt's name or their own. Raises
    QakhuntError for a broken case file, or where no case is left.
    """
    from qakhunt.testing.case_runner import run_suites
    from qakhunt.testing.cases import find_suites

    return run_suites(find_suites(_texts(hunt), catalog(_paths(folders)), select))


def diff(
    old: Named,
    new: Named | None = None,
    *,
    events: Names = (),
    parameters: Mapping[str, Any] | None = None,
    new_parameters: Mapping[str, Any] | None = None,
    window: str | None = None,
    now: Moment | None = None,
    folders: Names = (),
) -> Comparison:
    """Compare two hunts, or one under two sets of parameters, on the same recorded events.

    ``parameters`` are of both, ``new_parameters`` of the new one alone. The bundled sample by
    default; without a ``window`` all of the events are looked at. ``unknown`` of what comes
    back says where the records are no proof.
    """
    from qakhunt.run.sample import sample_events
    from qakhunt.testing.records import find_hunt, open_stage

    if new is None and not new_parameters:
        raise UsageError("nothing to compare", hint="name a second hunt, or give new_parameters")
    known = catalog(_paths(folders))
    before = find_hunt(os.fspath(old), known)
    after = find_hunt(os.fspath(old if new is None else new), known)
    shared = parameters or {}
    moment = None if now is None else read_now(_text(now))
    inputs = _texts(events) or sample_events()
    with open_stage(inputs, (before, after), window=window, now=moment) as stage:
        changed = stage.render(after, {**shared, **(new_parameters or {})})
        return stage.compare(stage.render(before, shared), changed)


def _texts(given: Names) -> list[str]:
    """One or several names or paths, as texts."""
    listed = [given] if isinstance(given, (str, os.PathLike)) else given
    return [os.fspath(one) for one in listed]


def _paths(given: Names) -> list[Path]:
    return [Path(text) for text in _texts(given)]


def _text(moment: Moment | None) -> str | None:
    return moment if moment is None or isinstance(moment, str) else moment.isoformat()
