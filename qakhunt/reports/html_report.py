"""Writes the report: templates with autoescaping, and every value made visible first.

No script, no font, no picture is loaded; a strict Content-Security-Policy says so to
the browser too. The style sheet is ours and stands in the file under its hash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import IO, TYPE_CHECKING, Any

from qakhunt import __version__
from qakhunt.answers.cells import to_text
from qakhunt.answers.ledger import Verdict
from qakhunt.core.safe_text import for_terminal, lines_for_terminal
from qakhunt.reports.details import TLP, clock
from qakhunt.reports.drawing import overview
from qakhunt.reports.summary import context_lines, coverage_lines, one_window, warning_lines
from qakhunt.reports.view import (
    cut,
    distinct,
    report_view,
    table_words,
    timeline,
    tree_lines,
)
from qakhunt.triage.assessment import Kind
from qakhunt.triage.hit_report import rarity_lines, stage_lines
from qakhunt.triage.words import count, offset, prose

if TYPE_CHECKING:
    from jinja2 import Environment

    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.details import ExportOptions
    from qakhunt.reports.view import ReportView

MOST_ROWS, _MOST_FAULTS = 200, 30
_MOST_EVENTS = 160
_MOST_IN_A_NOTEBOOK = 100
# Fields that are cut elsewhere are shorter; this is the bound of all others.
_LONGEST = 5000
_LOOKS = {
    Verdict.CLEAN: "good",
    Verdict.HITS: "bad",
    Verdict.INCOMPLETE: "open",
    Verdict.FAILED: "open",
}
_KIND_LOOKS = {
    Kind.QAKBOT: "bad",
    Kind.LOADER: "bad",
    Kind.INVENTORY: "calm",
    Kind.ADMINISTRATION: "calm",
    Kind.UNCLEAR: "open",
}


class Lines(str):
    """Text whose line breaks stay."""

    __slots__ = ()


def write(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The report as one HTML file."""
    template = _environment().get_template("report.html")
    view = report_view(result, options.details)
    for part in template.generate(**_values(result, view)):
        out.write(part.encode("utf-8", "backslashreplace"))


def notebook_html(result: RunResult) -> str:
    """The verdict, what is not complete and the findings, as a piece of HTML."""
    template = _environment().get_template("notebook.html")
    return template.render(
        result=result, view=report_view(result), warnings=warning_lines(result),
        lines=coverage_lines(result), most=_MOST_IN_A_NOTEBOOK,
    )  # fmt: skip


def _values(result: RunResult, view: ReportView) -> dict[str, Any]:
    details, context = view.details, result.context
    return {
        "css": _style()[0],
        "css_hash": _style()[1],
        "program": __version__,
        "result": result,
        "view": view,
        "details": details,
        "tlp": details.tlp,
        "tlp_words": TLP.get(details.tlp, ""),
        "verdict_look": _LOOKS[result.verdict],
        "one_window": one_window(result),
        "pages": [view.rest[at : at + 100] for at in range(0, len(view.rest), 100)],
        "warnings": warning_lines(result),
        "coverage_lines": coverage_lines(result),
        "context_words": context_lines(result)[:1],
        "sources": any(row.source for row in view.coverage),
        "context_queries": distinct(q.rendered for q in context.queries) if context else [],
        "most_rows": MOST_ROWS,
        "most_faults": _MOST_FAULTS,
        # What a hit's own part asks for.
        "overview": overview,
        "events": lambda hit_report: timeline(hit_report, details, fold=False, most=_MOST_EVENTS),
        "tree": lambda hit_report: (
            [*tree_lines(hit_report.processes)] if hit_report.processes else []
        ),
        "rarity": rarity_lines,
        "stages": stage_lines,
        "table_words": table_words,
    }


@cache
def _style() -> tuple[Any, str]:
    """The style sheet, and its hash for the policy."""
    from markupsafe import Markup

    text = files("qakhunt.reports").joinpath("templates").joinpath("report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), digest  # noqa: S704 - a file of our own


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("qakhunt.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {
        "count": count,
        "clock": lambda moment: clock(moment)[:19],
        "exact": lambda moment: f"{clock(moment)} UTC",
        "lines": Lines,
        "long": lambda text: Lines(cut(text, 1000)),
        "whole": lambda text: Lines(cut(text, 4000)),
        "offset": offset,
        "short": lambda text: cut(text, 160),
        "prose": prose,
        "cell": to_text,
        "status": lambda status: status.value.replace("_", " "),
        "look": _KIND_LOOKS.__getitem__,
    }
    environment.tests["web_address"] = _is_web_address
    return environment


def _visible(value: Any) -> Any:
    """Whatever a template prints, with what would be invisible or act made visible."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        if isinstance(value, Lines):
            return lines_for_terminal(value)
        return for_terminal(cut(value, _LONGEST))
    return value


def _is_web_address(text: str) -> bool:
    return text.startswith(("https://", "http://")) and '"' not in text
