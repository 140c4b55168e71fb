"""``qakhunt record``: run hunts and keep what they were answered."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.answers.ledger import Verdict
from qakhunt.answers.run_result import DEFAULT_LIMIT
from qakhunt.cli import context as ctx
from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.cli import slices as sl
from qakhunt.cli.answering import Answering, AnswerOptions, who_answers
from qakhunt.cli.request import HuntRequest
from qakhunt.cli.run import BackendName, Events, MemoryLimit, Timeout, exit_code, report_failures
from qakhunt.cli.run_progress import Shown, progress_of
from qakhunt.core.errors import ExitCode, UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.window import PUBLISHED
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.answers.ledger import LedgerLine, Target
    from qakhunt.answers.run_result import RunResult
    from qakhunt.backends.base import Answer
    from qakhunt.backends.recordings.redact import Redactor
    from qakhunt.backends.recordings.store import RecordingWriter
    from qakhunt.cli.run import Collect
    from qakhunt.cli.run_progress import Silent
    from qakhunt.run.plan import PlanLine

app = o.new_app()

Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The folder to make, the recording.")
]
SourceRows = Annotated[
    bool,
    typer.Option(
        "--source-rows",
        help="Keep the records that the hunts look at, too, so that changed hunts can run on them.",
    ),
]
KeepNames = Annotated[
    bool, typer.Option("--keep-names", help="Keep real names instead of pseudonyms.")
]
KeyFile = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--key", metavar="FILE", help="The key of the pseudonyms; made where missing."),
]


@app.command()
def record(
    out: Out,
    hunt: o.HuntNames = None,
    backend: BackendName = None,
    profile: p.ProfileNames = None,
    group: p.GroupName = None,
    all_profiles: p.AllProfiles = False,
    config: p.ConfigPath = None,
    trust_host: p.TrustedHosts = None,
    events: Events = None,
    dialect: o.Dialect = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    window: o.WindowText = PUBLISHED,
    time_zone: o.TimeZone = None,
    now: o.Now = None,
    hunts: o.HuntFolders = None,
    timeout: Timeout = None,
    memory_limit: MemoryLimit = None,
    slice_: sl.Slice = None,
    context: ctx.Around = None,
    context_hits: ctx.Limit = DEFAULT_LIMIT,
    source_rows: SourceRows = False,
    keep_names: KeepNames = False,
    key: KeyFile = None,
    force: o.Force = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell of each answer and wait on stderr.")
    ] = False,
    quiet: o.Quiet = False,
) -> int:
    """Run hunts and keep what they were answered, to replay and to test changes on.

    Names become pseudonyms unless --keep-names. A redacted recording is still
    personal data.
    """
    from qakhunt.backends.recordings.store import check_place, new_recording

    if keep_names and key:
        raise UsageError("--key is for pseudonyms, and --keep-names makes none")
    check_place(out, private=keep_names, force=force)
    slicing = sl.Slicing.of(slice_, explain=False, dry_run=False, as_json=False)
    request = HuntRequest(
        hunt or (), hunts or (), command or (), commands, add_command or (), threshold, set_ or (),
        window, time_zone,
    )  # fmt: skip
    answers = who_answers(
        AnswerOptions(
            backend, events or (), dialect, now, timeout, config,
            p.Choice(profile or (), group, all_profiles), trust_host or (), slicing.request,
            memory_limit=memory_limit,
        ),
        os.environ,
    )  # fmt: skip
    shown = Shown.of(quiet=quiet, verbose=verbose)
    around = ctx.read_around(context)
    try:
        with new_recording(out, private=keep_names, force=force) as writer:
            result, missing = _recorded(
                answers, request, writer, shown,
                lambda found, plan: ctx.collect_context(found, plan, around, context_hits),
                source_rows=source_rows, keep=keep_names, key=key,
            )  # fmt: skip
    except _Unanswered as problem:
        report_failures(problem.result)
        return exit_code(problem.result, fail_on_hits=False)
    if not quiet:
        _tell(result, missing)
    print(out)
    code = exit_code(result, fail_on_hits=False)
    return ExitCode.INCOMPLETE if missing and code == ExitCode.OK else code


class _Unanswered(Exception):
    """Nothing answered, so there is nothing to keep."""

    def __init__(self, result: RunResult) -> None:
        super().__init__()
        self.result = result


def _recorded(
    answers: Answering, request: HuntRequest, writer: RecordingWriter, shown: Shown,
    collect: Collect, *, source_rows: bool, keep: bool, key: Path | None,
) -> tuple[RunResult, list[Answer]]:  # fmt: skip
    from qakhunt.run.execution import run as run_plan
    from qakhunt.run.recorder import Tape, fetch_source_rows

    missing: list[Answer] = []
    with (
        progress_of(shown) as progress,
        answers.opened(request, progress.say, progress.waited) as plan,
    ):
        progress.planned(plan)
        tape = Tape(writer, None if keep else _redactor(plan, key))
        taped = tape.plan(plan)
        result = run_plan(taped, _told(progress), on_pieces=progress.expected)
        if result.verdict is Verdict.FAILED:
            raise _Unanswered(result)
        collect(result, taped)
        if source_rows and not result.interrupted:
            progress.say("fetching source rows")
            missing = fetch_source_rows(tape, taped, told=_told_of_source(progress))
        result.sample = answers.sample
        writer.finish(tape.manifest(plan, result))
    return result, missing


def _told(progress: Silent) -> Callable[[PlanLine, LedgerLine], None]:
    def tell(plan_line: PlanLine, line: LedgerLine) -> None:
        progress.answered(plan_line, line)

    return tell


def _told_of_source(progress: Silent) -> Callable[[Target, str, Answer], None]:
    def tell(target: Target, what: str, answer: Answer) -> None:
        progress.say(
            f"fetched {what} of {target.workspace or target.profile}: {answer.status.value}"
        )

    return tell


def _redactor(plan: list[PlanLine], key: Path | None) -> Redactor:
    """The hunts' own literals stay readable: nothing would match without them."""
    from qakhunt.backends.recordings.pseudonyms import Pseudonyms, load_key
    from qakhunt.backends.recordings.redact import Redactor, literal_texts, literal_words
    from qakhunt.hunts.catalog import Catalog
    from qakhunt.run.config_place import user_folder

    path = key or user_folder() / "recording.key"
    if not path.exists():
        print(f"note: a key for pseudonyms was made: {path}", file=sys.stderr)
    queries = {line.rendered.hunt.query for line in plan}
    queries |= {hunt.query for hunt in Catalog().find("context")}
    return Redactor(Pseudonyms(load_key(path)), literal_words(queries), literal_texts(queries))


def _tell(result: RunResult, missing: list[Answer]) -> None:
    from rich.console import Console

    from qakhunt.reports.console import show_account

    show_account(result, Console(stderr=True, highlight=False))
    if missing:
        words = f"{count(len(missing), 'stretch', 'stretches')} of source rows did not come whole"
        print(f"warning: {words}: {for_terminal(missing[0].detail)}", file=sys.stderr)
