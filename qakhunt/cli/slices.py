"""Slicing on the command line: the wish, the explanation and the dry run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_json, for_terminal
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.run.plan import Forecast, PlanLine
    from qakhunt.run.slicing.strategies import SliceRequest

Slice = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--slice", metavar="1d|devices:8|auto",
        help="Ask in slices of time or of devices, where that gives exactly the same result; "
        "auto slices only what is too much for one answer.",
    ),
]  # fmt: skip
Explain = Annotated[
    bool, typer.Option("--explain", help="Say how each hunt can be sliced and why; ask nothing.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be asked of whom, and its quota; ask nothing."),
]


@dataclass(frozen=True)
class Slicing:
    """The checked options."""

    request: SliceRequest | None
    explain: bool
    dry_run: bool
    as_json: bool

    @classmethod
    def of(cls, text: str | None, *, explain: bool, dry_run: bool, as_json: bool) -> Slicing:
        """Read the options. Raises UsageError."""
        return cls(_read(text), explain, dry_run, as_json)

    def told(self, plan: Sequence[PlanLine]) -> None:
        """Show the plan and end the command, where nothing is to be asked."""
        if self.explain or self.dry_run:
            _show_plan(plan, self)
            raise typer.Exit


def _read(text: str | None) -> SliceRequest | None:
    if text is None:
        return None
    from qakhunt.run.slicing.strategies import read_slices

    try:
        return read_slices(text)
    except ValueError as problem:
        raise UsageError(f"--slice: {problem}") from None


def _show_plan(plan: Sequence[PlanLine], options: Slicing) -> None:
    from qakhunt.run.plan import forecast, plan_document

    told = forecast(plan)
    if options.as_json:
        import json

        print(for_json(json.dumps(plan_document(told), ensure_ascii=False, indent=2)))
        return
    if options.explain:
        for name, lines in told.explanation.items():
            print(for_terminal(f"{name}:"))
            for line in lines:
                print(for_terminal(f"  {line}"))
    if options.dry_run:
        for line in _plan_lines(told):
            print(for_terminal(line))


def _plan_lines(told: Forecast) -> list[str]:
    lines = []
    for entry in told.lines:
        target = entry.line.target
        whom = " ".join(filter(None, [target.profile, target.tenant, target.workspace]))
        if entry.missing:
            lines.append(f"{entry.line.rendered.hunt.name} on {whom}: not asked: {entry.missing}")
            continue
        text = f"{entry.line.rendered.hunt.name} on {whom} ({entry.line.backend.name}): "
        text += count(len(entry.slices), "call")
        if len(entry.slices) > 1:
            text += f", {entry.slices[0]} to {entry.slices[-1]}"
        text += f"; {entry.probes} more to check what there was to look at"
        lines.append(text)
        if entry.billed:
            lines.append("  a search of Basic or Auxiliary tables: billed by the gigabyte")
        if entry.note:
            lines.append(f"  not sliced: {entry.note}")
    for quota in told.quotas:
        lines.append(f"{quota.whose}: {count(quota.calls, 'call')} of {quota.limit}")
    total = sum(len(entry.slices) for entry in told.lines)
    targets = len({entry.line.target for entry in told.lines})
    lines.append(f"{count(targets, 'target')}, {count(total, 'call')}; nothing was asked")
    return lines
