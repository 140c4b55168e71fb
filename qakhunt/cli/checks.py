"""``qakhunt test`` and ``hunts lint``: checks of hunts on the embedded engine."""

from __future__ import annotations

import json
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import json_text, print_json, print_lines, write_text
from qakhunt.core.errors import CheckFailed, ExitCode, UsageError
from qakhunt.run.progress import working
from qakhunt.run.request import catalog, read_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.catalog import Catalog
    from qakhunt.testing.case_runner import CaseResult
    from qakhunt.testing.cases import Suite
    from qakhunt.testing.lint.check import LintResult


def run_tests(
    names: o.HuntsOrPaths = None,
    select: Annotated[
        o.Text,
        Panel.execution("-k", metavar="TEXT", help="Only cases whose hunt or name contains this."),
    ] = None,
    mutate: Annotated[
        bool,
        Panel.execution("--mutate", help="Change the queries; list changes that no case detects."),
    ] = False,
    hunts: o.HuntFolders = None,
    external: o.External = None,
    junit: Annotated[
        o.File, Panel.output("--junit", metavar="PATH", help="Also write the results as JUnit XML.")
    ] = None,
    schema: Annotated[
        bool, Panel.output("--schema", help="Print the JSON Schema of a case file and exit.")
    ] = False,
    as_json: o.AsJson = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> int:
    """Run the test cases of hunts: tests/<hunt>.yaml beside each hunt."""
    if schema:
        return _print_schema()
    from qakhunt.backends.engine.external import give_external
    from qakhunt.core.writing import check_target
    from qakhunt.testing.case_runner import Outcome, run_suites
    from qakhunt.testing.cases import find_suites

    give_external(external)
    if junit is not None:
        check_target(junit, force=force)
    suites = find_suites(names or (), catalog(hunts or ()), select)
    started = time.perf_counter()
    with working("testing", quiet=quiet or as_json) as say:
        results = run_suites(suites, say)
    seconds = time.perf_counter() - started
    if junit is not None:
        from qakhunt.testing.case_report import junit_xml

        write_text(junit_xml(results, seconds), junit, force=force, private=False)
    if mutate and not any(result.outcome is Outcome.FAILED for result in results):
        return _mutate(suites, as_json=as_json, quiet=quiet)
    return _show_results(results, seconds, as_json=as_json, quiet=quiet)


def _print_schema() -> int:
    from qakhunt.testing.cases import json_schema

    print(json.dumps(json_schema(), indent=2))
    return ExitCode.OK


def _mutate(suites: Sequence[Suite], *, as_json: bool, quiet: bool) -> int:
    from qakhunt.testing.mutation import mutate, mutation_document, mutation_lines

    found = []
    with working("changing", quiet=quiet or as_json) as say:
        for suite in suites:
            found.append(mutate(suite, say))
            if not as_json:
                print("\n".join(mutation_lines(found[-1])), flush=True)
    if as_json:
        print_json(mutation_document(found))
    return ExitCode.CHECK_FAILED if any(one.failed for one in found) else ExitCode.OK


def _show_results(
    results: Sequence[CaseResult], seconds: float, *, as_json: bool, quiet: bool
) -> int:
    from qakhunt.testing import case_report
    from qakhunt.testing.case_runner import Outcome

    failed = [result for result in results if result.outcome is Outcome.FAILED]
    if as_json:
        print_json(case_report.test_document(results, seconds))
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


def lint(
    names: o.HuntsOrPaths = None,
    hunts: o.HuntFolders = None,
    external: o.External = None,
    now: o.Now = None,
    fix: Annotated[bool, Panel.output("--fix", help="Apply the fixes that are exact.")] = False,
    matrix: Annotated[
        bool,
        Panel.output("--matrix", help="Show the result's columns and what list entries match."),
    ] = False,
    rules: Annotated[bool, Panel.output("--rules", help="List the rules and exit.")] = False,
    sarif: Annotated[
        o.File, Panel.output("--sarif", metavar="PATH", help="Also write the findings as SARIF.")
    ] = None,
    as_json: o.AsJson = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> int:
    """Check hunts: syntax, names, matching, time, metadata, and whether each entry can match."""
    from qakhunt.backends.engine.external import give_external
    from qakhunt.core.writing import check_target
    from qakhunt.testing.lint.check import Linter, fix_file

    if rules:
        return _list_rules()
    give_external(external)
    if fix and not names:
        raise UsageError("--fix changes files: name the hunts to fix")
    if sarif is not None:
        check_target(sarif, force=force)
    known = catalog(hunts or ())
    paths = _paths(names or (), known)
    with working("checking", quiet=quiet or as_json), Linter(read_now(now)) as linter:
        owners = _owners(paths, known)
        result = linter.lint(paths, owners)
        fixed = 0
        if fix:
            for path, hunt in result.hunts.items():
                own = [f for f in result.findings if f.location.path == path]
                fixed += fix_file(hunt, own)
            result = linter.lint(paths, owners)
    if sarif is not None:
        from qakhunt import __version__
        from qakhunt.testing.lint.report import sarif_document

        write_text(
            json_text(sarif_document(result, __version__)), sarif, force=force, private=False
        )
    one_hunt = len(paths) == 1 and not quiet
    return _show_findings(result, fixed, as_json=as_json, quiet=quiet, matrix=matrix or one_hunt)


def _paths(names: Sequence[str], known: Catalog) -> list[Path]:
    """Files of the named hunts and folders, each once."""
    from qakhunt.hunts.loading import is_hunt_file

    if not names:
        return sorted(path for path, _ in known.paths().values())
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and is_hunt_file(p))
            if not inside:
                raise UsageError(f"no hunts in {path}")
            found.update(dict.fromkeys(inside))
        elif path.suffix and path.is_file():
            found[path] = None
        else:
            found.update({Path(hunt.path): None for hunt in known.find(name)})
    return list(found)


def _owners(paths: Sequence[Path], known: Catalog) -> dict[str, list[str]]:
    """Hunt id -> the files that have it, among those named and those that can be."""
    from qakhunt.core.errors import QakhuntError
    from qakhunt.hunts.loading import load_hunt

    owners: dict[str, list[str]] = {}
    # A hunt of the same name takes the place of one in a later folder: no second hunt.
    hidden = {path.stem for path in paths}
    others = [path for path, _ in known.paths().values() if path.stem not in hidden]
    for path in {p.resolve(): p for p in [*others, *paths]}.values():
        try:
            identity = load_hunt(path).id.lower()
        except QakhuntError:
            continue
        if identity:
            owners.setdefault(identity, []).append(str(path))
    return owners


def _show_findings(
    result: LintResult, fixed: int, *, as_json: bool, quiet: bool, matrix: bool
) -> int:
    from qakhunt.testing.lint import report

    if as_json:
        print_json(report.lint_document(result))
    else:
        for finding in result.findings:
            if not (quiet and finding.accepted is not None):
                print("\n".join(report.finding_lines(finding)))
        if matrix:
            for path, own in result.matrices.items():
                print("\n" + "\n".join(report.result_lines(result.columns[path])))
                for one in own:
                    print("\n" + "\n".join(report.matrix_lines(one)))
            print()
        if fixed:
            print(f"{fixed} fixed")
        print(report.summary_line(result))
    print_lines((f"note: {text}" for text in result.unchecked), to_stderr=True)
    return ExitCode.CHECK_FAILED if result.failed else ExitCode.OK


def _list_rules() -> int:
    from qakhunt.testing.lint.model import RULES, Severity

    for severity in Severity:
        print(f"{severity.value}: {severity.meaning}")
    print()
    for rule in RULES.values():
        fixable = " (--fix)" if rule.fixable else ""
        print(f"{rule.code}  {rule.severity.value:<8}{rule.name:<27}{rule.meaning}{fixable}")
    return ExitCode.OK
