"""``qakhunt record`` and ``import-events``: recordings of answers, and events from logs."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qakhunt.answers.ledger import Verdict
from qakhunt.answers.run_result import DEFAULT_LIMIT
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import print_json, print_lines, screen
from qakhunt.cli.run import exit_code, report_failures
from qakhunt.core.errors import ExitCode, UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.window import PUBLISHED
from qakhunt.run.hunting import collect_context, read_around, read_slice
from qakhunt.run.progress import Shown, progress_of, working
from qakhunt.run.request import HuntRequest, read_input_options, read_values
from qakhunt.run.source import Choice, Source, SourceOptions, choose_source
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.answers.run_result import RunResult
    from qakhunt.backends.recordings.redact import Redactor
    from qakhunt.backends.recordings.store import RecordingWriter
    from qakhunt.run.plan import PlanLine


def record(
    out: Annotated[Path, Panel.output("--out", metavar="DIR", help="Folder of the new recording.")],
    hunt: o.HuntNames = None,
    backend: o.BackendName = None,
    profile: o.ProfileNames = None,
    group: o.GroupName = None,
    all_profiles: o.AllProfiles = False,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
    events: o.Events = None,
    external: o.External = None,
    dialect: o.Dialect = None,
    memory_limit: o.MemoryLimit = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    hunts: o.HuntFolders = None,
    window: o.WindowText = PUBLISHED,
    time_zone: o.TimeZone = None,
    now: o.Now = None,
    timeout: o.Timeout = None,
    slice_: o.Slice = None,
    context: o.Around = None,
    context_hits: o.ContextHits = DEFAULT_LIMIT,
    source_rows: Annotated[
        bool,
        Panel.output(
            "--source-rows", help="Also record the hunts' source rows, to run changed hunts on."
        ),
    ] = False,
    keep_names: Annotated[
        bool, Panel.output("--keep-names", help="Keep real names instead of pseudonyms.")
    ] = False,
    key: Annotated[
        o.File,
        Panel.output(
            "--key", metavar="FILE", help="Key of the pseudonyms; created when it is missing."
        ),
    ] = None,
    force: o.Force = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> int:
    """Run hunts and record the answers, to replay them and to test changed hunts on.

    Names become pseudonyms unless --keep-names. A redacted recording is still
    personal data.
    """
    from qakhunt.backends.recordings.store import check_place, new_recording

    if keep_names and key:
        raise UsageError("--key is for pseudonyms, and --keep-names makes none")
    check_place(out, private=keep_names, force=force)
    request = HuntRequest(
        hunt or (), hunts or (), command or (), commands, add_command or (), threshold,
        read_values(set_ or ()), window, time_zone,
    )  # fmt: skip
    source = choose_source(
        SourceOptions(
            backend, events or (), dialect, now, timeout, config,
            Choice(profile or (), group, all_profiles), trust_host or (), read_slice(slice_),
            memory_limit=memory_limit, external=external or (),
        ),
        os.environ,
    )  # fmt: skip
    shown = Shown.of(quiet=quiet, verbose=verbose)
    collect = partial(collect_context, around=read_around(context), limit=context_hits)
    try:
        with new_recording(out, private=keep_names, force=force) as writer:
            result, missing = _recorded(
                source, request, writer, shown, collect,
                source_rows=source_rows, keep=keep_names, key=key,
            )  # fmt: skip
    except _Unanswered as problem:
        report_failures(problem.result)
        return exit_code(problem.result, fail_on_hits=False)
    if not quiet:
        _report(result, missing)
    print(out)
    code = exit_code(result, fail_on_hits=False)
    return ExitCode.INCOMPLETE if missing and code == ExitCode.OK else code


class _Unanswered(Exception):
    """Nothing answered, so there is nothing to keep."""

    def __init__(self, result: RunResult) -> None:
        super().__init__()
        self.result = result


def _recorded(
    source: Source, request: HuntRequest, writer: RecordingWriter, shown: Shown,
    collect: Callable[[RunResult, Sequence[PlanLine]], None],
    *, source_rows: bool, keep: bool, key: Path | None,
) -> tuple[RunResult, list[LedgerLine]]:  # fmt: skip
    from qakhunt.run.execution import RunOptions, execute
    from qakhunt.run.recorder import Recorder, fetch_source_rows

    missing: list[LedgerLine] = []
    with (
        progress_of(shown) as progress,
        source.opened(request, progress.say, progress.waited) as plan,
    ):
        progress.planned(plan)
        recorder = Recorder(writer, None if keep else _redactor(plan, key))
        recorded = recorder.plan(plan)
        result = execute(recorded, RunOptions(progress.answered, progress.expected))
        if result.verdict is Verdict.FAILED:
            raise _Unanswered(result)
        collect(result, recorded)
        if source_rows and not result.interrupted:
            progress.say("fetching source rows")
            missing = fetch_source_rows(
                recorder, recorded, progress=lambda _, line: progress.say(_fetched(line))
            )
        result.sample = source.sample
        writer.finish(recorder.manifest(plan, result))
    return result, missing


def _fetched(line: LedgerLine) -> str:
    where = line.workspace or line.profile
    return f"fetched {line.hunt} {line.slice} of {where}: {line.status.value}"


def _redactor(plan: list[PlanLine], key: Path | None) -> Redactor:
    """The hunts' own literals stay readable: nothing would match without them."""
    from qakhunt.backends.recordings.pseudonyms import Pseudonyms, load_key
    from qakhunt.backends.recordings.redact import Redactor, literal_texts, literal_words
    from qakhunt.hunts.catalog import Catalog
    from qakhunt.run.config import user_folder

    path = key or user_folder() / "recording.key"
    if not path.exists():
        print(f"note: a key for pseudonyms was made: {path}", file=sys.stderr)
    queries = {line.rendered.hunt.query for line in plan}
    queries |= {hunt.query for hunt in Catalog().find("context")}
    return Redactor(Pseudonyms(load_key(path)), literal_words(queries), literal_texts(queries))


def _report(result: RunResult, missing: list[LedgerLine]) -> None:
    from qakhunt.reports.console import show_account

    show_account(result, screen(to_stderr=True))
    if missing:
        words = (
            f"{count(len(missing), 'time range', 'time ranges')} of source rows did not come whole"
        )
        print_lines([f"warning: {words}: {missing[0].detail}"], to_stderr=True)


def import_events(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|DIR ...", help="Event logs: evtx, JSON, XML, Defender's CSV; also zipped."
        ),
    ],
    out: Annotated[
        Path, Panel.output("--out", metavar="PATH", help="File to write: .parquet or .ndjson.")
    ],
    raw_command_lines: Annotated[
        bool,
        Panel.events("--raw-command-lines", help="Keep the directory of a command line's program."),
    ] = False,
    strict: Annotated[
        bool,
        Panel.events("--strict", help="Stop at the first unreadable record or unknown file."),
    ] = False,
    max_expanded: o.MaxExpanded = None,
    time_zone: Annotated[
        o.Text,
        Panel.events("--time-zone", metavar="ZONE", help="Time zone of CSV times without one."),
    ] = None,
    date_order: o.DateOrder = None,
    force: o.Force = False,
    as_json: Annotated[bool, Panel.output("--json", help="Print the summary as JSON.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Import process creations (Sysmon 1, Security 4688) as DeviceProcessEvents."""
    from qakhunt.backends.recordings import windows_events
    from qakhunt.core.writing import whole_file

    kind = windows_events.FORMATS.get(out.suffix.lower())
    if kind is None:
        raise UsageError(
            f"--out {out}: not a kind of file that is written",
            hint=f"its name ends in {', '.join(windows_events.FORMATS)}",
        )
    options = read_input_options(time_zone, date_order, max_expanded, strict=strict)
    with (
        whole_file(out, force=force, named=True) as temporary,
        working("reading events", quiet=quiet or as_json) as say,
    ):

        def report(name: str, records: int, done: int) -> None:
            say(f"{for_terminal(name)}: {records:,} records, {done / 1e6:,.0f} MB of input read")

        account = windows_events.import_events(
            inputs, temporary, kind, raw_lines=raw_command_lines, options=options, progress=report,
        )  # fmt: skip
    warnings = windows_events.warnings_of(account)
    print_lines((f"warning: {text}" for text in warnings), to_stderr=True)
    if as_json:
        print_json(windows_events.document_of(account, out))
    elif not quiet:
        print_lines(windows_events.summary_of(account, out), to_stderr=True)
