"""The job inside Azure Automation: what 'runbook build' made calls ``run``.

Its output goes where many can read it, so it carries counts and ids only: never a
device, an account or a command. Lines begin as Automation classifies them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Status, Verdict
from qakhunt.core.errors import ConfigError, QakhuntError, UsageError
from qakhunt.run.config import Config, parse_config
from qakhunt.run.log import RunLog
from qakhunt.run.request import HuntRequest, read_deadline
from qakhunt.run.slicing.strategies import AUTO, SliceRequest
from qakhunt.run.source import Choice, LiveSource, SourceOptions
from qakhunt.schedule.options import ScheduleOptions, open_job
from qakhunt.schedule.runbook.payload import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.answers.run_result import RunResult
    from qakhunt.run.plan import PlanLine

KEEP = ("-", "")
MOST_LINES = 2000
"""Lines of the ledger printed one by one: the job stream holds 1 MiB."""
_CODES = re.compile(r"AADSTS\d+|HTTP \d{3}|\b[1-5]\d\d\b|\b[A-Z][a-z]+[A-Z]\w{2,40}\b")


class JobFailed(Exception):
    """The job did not do all it should; Automation shows this line last."""


def run(arguments: Sequence[str], built: Mapping[str, Any]) -> None:
    """Run the job. Raises JobFailed where something was not looked at or not delivered."""
    started = time.monotonic()
    try:
        settings = _with_parameters(built, arguments)
        _variables(settings["variables"])
        with _laid_down(settings["files"]) as folder:
            result = _hunt(settings, folder)
    except QakhuntError as problem:
        _say("ERROR", f"{type(problem).__name__}: {problem}")
        raise JobFailed(f"qakhunt failed: {problem}") from None
    _account(result, time.monotonic() - started)


def _with_parameters(built: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """What was built in, with the parameters given laid over it."""
    if len(arguments) > 4:
        raise UsageError(f"{len(arguments)} parameters were given, and there are 4")
    names = ("hunts", "profiles", "deadline", "state")
    given = {n: text for n, text in zip(names, arguments, strict=False) if text not in KEEP}
    lists = {n: [part.strip() for part in given[n].split(",")] for n in names[:2] if n in given}
    return {**built, **given, **lists}


def _variables(names: Sequence[str]) -> None:
    """Fetch the account's encrypted variables into the environment, where secrets are sought."""
    missing = [name for name in names if not os.environ.get(name)]
    if not missing:
        return
    try:
        import automationassets  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ConfigError(f"neither set nor in Automation: {', '.join(missing)}") from None
    for name in missing:
        try:
            value = automationassets.get_automation_variable(name)
        except Exception as problem:
            raise ConfigError(
                f"the Automation variable {name} cannot be read: {type(problem).__name__}",
                hint="add it to the automation account, encrypted",
            ) from None
        os.environ[name] = str(value)


@contextlib.contextmanager
def _laid_down(files: Mapping[str, str]) -> Iterator[Path]:
    """The carried files in a folder of their own, for as long as the job runs."""
    folder = Path(tempfile.mkdtemp(prefix="qakhunt-"))
    try:
        (folder / "hunts").mkdir()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _hunt(settings: Mapping[str, Any], folder: Path) -> RunResult:
    from qakhunt.run.hunting import hunt

    config = parse_config(settings["config"].replace(PLACE, str(folder)), Path("runbook"))
    source = LiveSource(
        SourceOptions(
            choice=_choice(config, settings["profiles"]),
            deadline=read_deadline(settings["deadline"]), slices=SliceRequest(AUTO),
        ),
        config,
    )  # fmt: skip
    suppressions = folder / "suppressions.yaml"
    options = ScheduleOptions(
        state=settings["state"], sinks=settings["sinks"], heartbeat=settings["heartbeat"],
        every=settings["every"], repeat_after=settings["repeat_after"],
        suppressions=suppressions if suppressions.exists() else None,
    )  # fmt: skip
    options.check(sample=False)
    reporter = _Reporter()
    request = options.request(HuntRequest(settings["hunts"], [folder / "hunts"]))
    with contextlib.ExitStack() as stack:
        log = RunLog(source.now, as_json=False)
        job = stack.enter_context(open_job(options, log, source)) if options.wanted else None
        return hunt(source, request, answered=reporter, conduct=options.conduct(job, log))


def _choice(config: Config, names: Sequence[str]) -> Choice:
    """All profiles that were built in, or those named, groups among them."""
    if set(names) == set(config.profiles):
        return Choice(everything=True)
    return Choice([m for name in names for m in config.file.groups.get(name, [name])])


class _Reporter:
    """Prints each line as it is answered, and then only counts them."""

    def __init__(self) -> None:
        self._printed = 0

    def __call__(self, _plan_line: PlanLine, line: LedgerLine) -> None:
        self._printed += 1
        if self._printed > MOST_LINES:
            return
        level = "VERBOSE" if line.status is Status.COMPLETE else "WARNING"
        codes = " ".join(dict.fromkeys(_CODES.findall(line.detail)))[:200]
        _say(
            level,
            f"{line.hunt} profile={line.profile} tenant={line.tenant or '-'} "
            f"workspace={line.workspace or '-'} {line.window.start}/{line.window.end} "
            f"{line.status.value} rows={line.rows} attempts={line.attempts}"
            + (f" codes={codes}" if codes else "")
            + (f" request={line.request_ids[-1]}" if line.request_ids else ""),
        )


def _account(result: RunResult, seconds: float) -> None:
    """Counts, then an exception where the job did not do all it should."""
    lines = result.ledger.lines
    bad = [line for line in lines if line.status is not Status.COMPLETE]
    undelivered = [line for line in result.deliveries if line.failed]
    state = result.state or {}
    for delivery in result.deliveries:
        level = "WARNING" if delivery.failed else "VERBOSE"
        _say(level, f"sink {delivery.sink}: {delivery.delivered} of {delivery.messages} messages")
    news = state.get("findings", {})
    _say(
        "", f"qakhunt: {result.verdict.value}, {len(lines) - len(bad)} of {len(lines)} questions "
        f"answered completely, findings new={news.get('new', 0)} grown={news.get('grown', 0)} "
        f"again={news.get('again', 0)} known={news.get('known', 0)} "
        f"suppressed={result.suppressed}, owed={state.get('owed', 0)} lost={state.get('lost', 0)}, "
        f"{seconds:.0f} s, run {state.get('run', '-')}",
    )  # fmt: skip
    if result.verdict in (Verdict.FAILED, Verdict.INCOMPLETE):
        raise JobFailed(
            f"qakhunt did not look everywhere: {len(bad)} of {len(lines)} questions were not "
            f"answered completely; the next run queries the backlog"
        )
    if undelivered:
        raise JobFailed(
            f"qakhunt could not deliver to {len(undelivered)} of {len(result.deliveries)} sinks; "
            "what was found is kept and sent by the next run"
        )


def _say(level: str, text: str) -> None:
    line = f"{level}: {text}" if level else text
    print(line.encode("ascii", "backslashreplace").decode().replace("\n", " "), flush=True)
