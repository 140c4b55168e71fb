"""Writes the report: templates with autoescaping, and every value made visible first.

No script, no font, no picture is loaded; a strict Content-Security-Policy says so to
the browser too. The style sheet is ours and stands in the file under its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import IO, TYPE_CHECKING, Any

from qakhunt import __version__
from qakhunt.answers.ledger import Status, Verdict
from qakhunt.answers.plain import to_text
from qakhunt.reports.details import TLP, clock
from qakhunt.reports.html.view import Lines, Times, cut, full_view, short_view
from qakhunt.reports.safe import for_terminal, lines_for_terminal
from qakhunt.reports.summary import context_lines, faults, one_window, verdict_line
from qakhunt.triage.assessment import TITLES, Kind
from qakhunt.triage.dossier import dossiers
from qakhunt.triage.words import count, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from qakhunt.reports.formats import ExportOptions
    from qakhunt.triage.dossier import Dossier
    from qakhunt.triage.run_result import RunResult

MOST_IN_FULL = 50
PAGE = 100
# What the views cut themselves is shorter; this catches whatever they did not think of.
_LONGEST = 5000
_EXPLAINED = {
    Verdict.CLEAN: "Every question was answered completely, and nothing was found.",
    Verdict.HITS: "Every question was answered completely. What was found is below.",
    Verdict.INCOMPLETE: "Not everything was looked at: what was not found may still be there.",
    Verdict.FAILED: "Nothing answered. This says nothing about the devices.",
}
_LOOKS = {
    Verdict.CLEAN: "good",
    Verdict.HITS: "bad",
    Verdict.INCOMPLETE: "open",
    Verdict.FAILED: "open",
}


def write_html(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The report as one HTML file."""
    template = _environment().get_template("report.html")
    for part in template.generate(**_values(result, options)):
        out.write(part.encode("utf-8", "backslashreplace"))


def _values(result: RunResult, options: ExportOptions) -> dict[str, Any]:
    details = options.details
    found = dossiers(result, details.portals)
    full = [full_view(dossier, details) for dossier in found[:MOST_IN_FULL]]
    rest = [short_view(dossier, details) for dossier in found[MOST_IN_FULL:]]
    context = result.context
    return {
        "css": _style()[0],
        "css_hash": _style()[1],
        "program": __version__,
        "details": details,
        "tlp": details.tlp,
        "tlp_words": TLP.get(details.tlp, ""),
        "result": result,
        "verdict": verdict_line(result),
        "verdict_look": _LOOKS[result.verdict],
        "explained": _EXPLAINED[result.verdict],
        "faults": faults(result),
        "one_window": one_window(result),
        "start": Times.of(result.window.start, details),
        "end": Times.of(result.window.end, details),
        "now": Times.of(result.now, details),
        "made": Times.of(details.made, details),
        "kinds": _kinds(found),
        "views": full,
        "index": [*full, *rest],
        "pages": [rest[at : at + PAGE] for at in range(0, len(rest), PAGE)],
        "context_lines": context.ledger.lines if context else [],
        "context_words": context_lines(result)[:1],
        "context_whole": context is None
        or all(line.status is Status.COMPLETE for line in context.ledger.lines),
        "sources": any(line.source for line in result.ledger.lines),
        "context_queries": context.queries if context else [],
        "around": span(context.around.seconds) if context else "",
        "hunts": result.rendered,
    }


def _kinds(found: Sequence[Dossier]) -> list[tuple[str, int]]:
    """How many hits each assessment has, in the order of suspicion."""
    numbers = Counter(dossier.assessment.kind for dossier in found)
    return [(TITLES[kind], numbers[kind]) for kind in Kind if numbers[kind]]


@cache
def _style() -> tuple[Any, str]:
    """The style sheet, and its hash for the policy."""
    from markupsafe import Markup

    text = (
        files("qakhunt.reports.html")
        .joinpath("templates")
        .joinpath("report.css")
        .read_text("utf-8")
    )
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), digest  # noqa: S704 - a file of our own


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("qakhunt.reports.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {
        "count": count,
        "clock": lambda moment: clock(moment)[:19],
        "lines": Lines,
        "short": lambda text: cut(text, 160),
        "cell": to_text,
        "status": lambda status: status.value.replace("_", " "),
        "status_look": _status_look,
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


def _status_look(status: Status) -> str:
    return "good" if status is Status.COMPLETE else "open"
