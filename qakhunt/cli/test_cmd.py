"""``qakhunt test``: the cases beside the hunts, on the embedded engine."""

from __future__ import annotations

import json
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli.request import catalog
from qakhunt.core.errors import CheckFailed, ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.testing.case_runner import CaseResult
    from qakhunt.testing.cases import Suite

app = o.new_app()

Names = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Argument(metavar="[HUNT|PATH]...", help="Hunts, files of cases or folders; none: all."),
]
Select = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("-k", metavar="TEXT", help="Only cases whose hunt or name contains this."),
]
JUnit = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--junit", metavar="PATH", help="Write the outcome as JUnit XML too."),
]


@app.command()
def run_tests(
    names: Names = None,
    select: Select = None,
    hunts: o.HuntFolders = None,
    junit: JUnit = None,
    mutate: Annotated[
        bool,
        typer.Option("--mutate", help="Change the queries; list changes that no case notices."),
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a file of cases and exit.")
    ] = False,
    as_json: o.AsJson = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> int:
    """Run the test cases of hunts: tests/<hunt>.yaml beside each hunt."""
    if schema:
        return _print_schema()
    from qakhunt.core.writing import check_target, whole_file
    from qakhunt.testing.case_runner import Outcome
    from qakhunt.testing.cases import find_suites

    if junit is not None:
        check_target(junit, force=force)
    suites = _selected(find_suites(names or (), catalog(hunts or ())), select)
    started = time.perf_counter()
    results = _run(suites, quiet=quiet or as_json)
    seconds = time.perf_counter() - started
    if junit is not None:
        from qakhunt.testing.case_report import junit_xml

        with whole_file(junit, force=force, private=False) as temporary:
            temporary.write_text(junit_xml(results, seconds), encoding="utf-8", newline="\n")
    if mutate and not any(result.outcome is Outcome.FAILED for result in results):
        return _mutate(suites, as_json=as_json, quiet=quiet)
    return _present(results, seconds, as_json=as_json, quiet=quiet)


def _print_schema() -> int:
    from qakhunt.testing.cases import json_schema

    print(json.dumps(json_schema(), indent=2))
    return ExitCode.OK


def _mutate(suites: Sequence[Suite], *, as_json: bool, quiet: bool) -> int:
    from qakhunt.cli.progress import working
    from qakhunt.core.safe_text import for_json
    from qakhunt.testing.mutation import mutate, mutation_document, mutation_lines

    found = []
    with working("changing", quiet=quiet or as_json) as say:
        for suite in suites:
            found.append(mutate(suite, say))
            if not as_json:
                print("\n".join(mutation_lines(found[-1])), flush=True)
    if as_json:
        print(for_json(json.dumps(mutation_document(found), ensure_ascii=False, indent=2)))
    return ExitCode.CHECK_FAILED if any(one.failed for one in found) else ExitCode.OK


def _selected(suites: Sequence[Suite], text: str | None) -> list[Suite]:
    """The suites with their selected cases; nothing selected is a mistake."""
    from dataclasses import replace

    wanted = (text or "").casefold()
    chosen = []
    for suite in suites:
        cases = tuple(c for c in suite.cases if wanted in f"{suite.hunt.name} {c.name}".casefold())
        if cases:
            chosen.append(replace(suite, cases=cases))
    if not chosen:
        hint = f"no hunt or case has {text!r} in its name" if text else "no hunt has cases"
        raise UsageError("no test cases to run", hint=hint)
    return chosen


def _run(suites: Sequence[Suite], *, quiet: bool) -> list[CaseResult]:
    from qakhunt.cli.progress import working
    from qakhunt.testing.case_runner import CaseRunner, run_cases

    results = []
    with working("testing", quiet=quiet) as say, CaseRunner() as runner:
        for suite in suites:
            say(f"testing {suite.hunt.name}")
            results += list(run_cases(suite.cases, runner))
    return results


def _present(results: Sequence[CaseResult], seconds: float, *, as_json: bool, quiet: bool) -> int:
    from qakhunt.core.safe_text import for_json
    from qakhunt.testing import case_report
    from qakhunt.testing.case_runner import Outcome

    failed = [result for result in results if result.outcome is Outcome.FAILED]
    if as_json:
        document = case_report.test_document(results, seconds)
        print(for_json(json.dumps(document, ensure_ascii=False, indent=2)))
    else:
        for _, own in groupby(failed, key=lambda result: result.case.location):
            for group in case_report.alike(list(own)):
                print("\n".join(case_report.failure_lines(group)))
        if not quiet:
            for line in case_report.skip_lines(results):
                print(line)
        print(case_report.summary_line(results, seconds))
    if results and all(result.outcome is Outcome.SKIPPED for result in results):
        raise CheckFailed("no case could run, so nothing is proven")
    return ExitCode.CHECK_FAILED if failed else ExitCode.OK
