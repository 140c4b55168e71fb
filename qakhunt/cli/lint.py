"""``qakhunt hunts lint``: what is wrong with a hunt, where, why, and how to mend it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.cli import options as o  # noqa: TC001 - typer reads it at run time
from qakhunt.cli.request import catalog, read_now
from qakhunt.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.catalog import Catalog
    from qakhunt.testing.lint.check import LintResult

Names = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Argument(metavar="[HUNT|PATH]...", help="Hunts, hunt files or folders; none: all."),
]
Sarif = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--sarif", metavar="PATH", help="Write the findings as SARIF too."),
]


def lint(
    names: Names = None,
    hunts: o.HuntFolders = None,
    fix: Annotated[bool, typer.Option("--fix", help="Make the mends that are exact.")] = False,
    matrix: Annotated[
        bool,
        typer.Option("--matrix", help="Show the result's columns and what list entries match."),
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and exit.")] = False,
    sarif: Sarif = None,
    as_json: o.AsJson = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    now: o.Now = None,
) -> int:
    """Check hunts: syntax, names, matching, time, metadata, and whether each entry can fire."""
    from qakhunt.cli.progress import working
    from qakhunt.core.writing import check_target
    from qakhunt.testing.lint.check import Linter, fix_file

    if rules:
        return _list_rules()
    if fix and not names:
        raise UsageError("--fix changes files: name the hunts to mend")
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
        _write_sarif(result, sarif, force=force)
    one_hunt = len(paths) == 1 and not quiet
    return _present(result, fixed, as_json=as_json, quiet=quiet, matrix=matrix or one_hunt)


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


def _write_sarif(result: LintResult, path: Path, *, force: bool) -> None:
    from qakhunt import __version__
    from qakhunt.core.writing import whole_file
    from qakhunt.testing.lint.report import sarif_document

    with whole_file(path, force=force, private=False) as temporary:
        temporary.write_text(_json(sarif_document(result, __version__)) + "\n", encoding="utf-8")


def _json(document: Any) -> str:
    from qakhunt.core.safe_text import for_json

    return for_json(json.dumps(document, ensure_ascii=False, indent=2))


def _present(result: LintResult, fixed: int, *, as_json: bool, quiet: bool, matrix: bool) -> int:
    from qakhunt.testing.lint import report

    if as_json:
        print(_json(report.lint_document(result)))
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
            print(f"{fixed} mended")
        print(report.summary_line(result))
    for text in result.unchecked:
        print(f"note: {text}", file=sys.stderr)
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
