"""Attackers' text: in cells, in every type of column, in every field of a run's document."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from typing import Any

from qakhunt.answers.hits import hits_of
from qakhunt.answers.ledger import Ledger, LedgerLine, Status, Target
from qakhunt.answers.run_result import RunResult
from qakhunt.answers.table import Column, ResultTable
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant, Timespan
from tests.support.events import MISSION, NOW

HOSTILE = [
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'quoted", "\uff1d1",
    "\x1b[2J\x1b]0;pwned\x07", "[bold]x[/bold]", "<script>alert(1)</script>", "| a | b |", "a,b;c",
    "![x](http://e)", "`code`", "**b**", "\u202eexe.txt", "\x00", "line\nbreak", "\"quote\"", "\u2028",
    "\x9b31m", "\u200b", "{{x}}", "$(x)", "a" * 40_000,
]  # fmt: skip

COLUMNS = (
    Column("DeviceName", "string"), Column("AccountName", "string"), Column("N", "long"),
    Column("R", "real"), Column("D", "decimal"), Column("B", "bool"), Column("T", "datetime"),
    Column("S", "timespan"), Column("G", "guid"), Column("CommandLineList", "dynamic"),
    Column("N", "int"), Column("hunt", "string"),
)  # fmt: skip
ROWS: list[tuple[Any, ...]] = [
    (
        "d", "a", -5, float("nan"), Decimal("-1.10"), True,
        Instant.parse("2026-10-01T00:00:00.1234567Z"), Timespan.parse("-1.02:03:04"),
        "74be27de-1e4e-49d9-b579-fe0b331d3642", ["x", {"k": [1, None]}], 3, "own",
    ),
    (None, "", None, None, None, None, None, None, None, None, None, ""),
    *((text, text, 1, 1.5, Decimal(2), False, Instant.parse("9999-12-31"), Timespan(1), None,
       [text], 1, text) for text in HOSTILE),
]  # fmt: skip


def result_of(rows: list[tuple[Any, ...]], columns: tuple[Column, ...] = COLUMNS) -> RunResult:
    rendered = render(Catalog().find(MISSION)[0], now=NOW)
    line = LedgerLine(
        MISSION, "p", None, "w", "whole window", rendered.window, "local", rendered.query_hash,
        Status.COMPLETE, rows=len(rows),
    )  # fmt: skip
    hits = hits_of(rendered.hunt, Target("p", None, "w"), ResultTable(columns, rows))
    return RunResult(
        now=NOW, window=rendered.window, rendered=(rendered,), ledger=Ledger([line]), hits=hits,
        columns={MISSION: columns},
    )  # fmt: skip


BAD = [
    "<script>document.title='pwned'</script>", '"><img src=x onerror="document.title=1">',
    "</title><script>document.title='pwned'</script>", "javascript:document.title='pwned'",
    "<svg/onload=document.title='pwned'>", "</style><style>*{display:none}</style>",
    "<iframe src=http://127.0.0.1:%PORT%/frame>", "<link rel=stylesheet href=http://127.0.0.1:%PORT%/css>",
    "<img src=http://127.0.0.1:%PORT%/img>", "<a href=http://127.0.0.1:%PORT%/a autofocus>x</a>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:%PORT%/refresh'>", "<base href=//evil>",
    "{{7*7}}{% raw %}{{ css }}", "\x1b]0;x\x07\x00", "\u202egnp.exe\u2066", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "W" * 32_000, "x y " * 500, "`'\"&<>", "</pre></code></svg></table>", "Z" + "\u0300" * 300, "\ud800",
    "<details open ontoggle=document.title=1>", "<style>@import 'http://127.0.0.1:%PORT%/i'</style>",
]  # fmt: skip
TIMES = re.compile(r"Time|Seen|Timestamp|start|end|first|last|now|around")


def hostile(document: dict[str, Any], port: int) -> dict[str, Any]:
    """The document with attackers' text in every field that can hold text."""
    words = itertools.cycle(text.replace("%PORT%", str(port)) for text in BAD)
    fixed = {
        "schema",
        "verdict",
        "status",
        "purpose",
        "type",
        "product",
        "kind",
        "side",
        "hunt",
        "name",
        "table",
    }

    def change(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: change(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [change(item, key) for item in value]
        kept = key in fixed or "hash" in key or TIMES.search(key)
        return next(words) if isinstance(value, str) and not kept else value

    changed: dict[str, Any] = change(document, "")
    for hit in changed["hits"]:
        hit["commands"] = [text.replace("%PORT%", str(port)) for text in BAD]
    for held in changed["context"]["hits"]:
        for number, record in enumerate(held["records"]["DeviceProcessEvents"]):
            record["ProcessCommandLine"] = BAD[number % len(BAD)].replace("%PORT%", str(port))
            record["AccountName"] = ""
    return changed
