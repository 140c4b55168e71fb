"""``qakhunt state``: what scheduled runs remember."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.output import print_lines
from qakhunt.core.errors import ExitCode, UsageError
from qakhunt.run.config import read_config
from qakhunt.run.request import read_length, read_now

if TYPE_CHECKING:
    from pathlib import Path

    from qakhunt.kql.values import Instant
    from qakhunt.schedule.store import Store

app = o.new_app(help="Show, check, reset and prune the state of scheduled runs.")

StatePath = Annotated[
    str, typer.Argument(metavar="STATE", help="File of the state, or URL of its blob.")
]


@app.command()
def show(state: StatePath, as_json: o.AsJson = False, config: o.ConfigPath = None) -> int:
    """Show coverage, its backlog and losses, and undelivered messages."""
    from qakhunt.schedule.state import state_document

    with _reading(state, config) as store:
        document = state_document(store)
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=True))
        return 0
    print_lines(_lines(document))
    return 0


@app.command()
def check(
    state: StatePath,
    max_age: Annotated[
        str, typer.Option("--max-age", metavar="TIME", help="Longest time since complete coverage.")
    ] = "26h",
    as_json: o.AsJson = False,
    config: o.ConfigPath = None,
    now: o.Now = None,
) -> int:
    """Exit with 1 when coverage is too old or incomplete: for an external monitor."""
    from qakhunt.schedule.state import problems_of

    moment, age = read_now(now), read_length("--max-age", max_age)
    with _reading(state, config) as store:
        problems = problems_of(store, moment, age)
    if as_json:
        print(json.dumps({"schema": "qakhunt.state-check/1", "well": not problems,
                          "max_age": max_age, "problems": problems}))  # fmt: skip
    elif problems:
        print_lines(problems)
    else:
        print(f"well: everything was looked at within {max_age}")
    return int(ExitCode.CHECK_FAILED) if problems else 0


@app.command()
def reset(
    state: StatePath,
    hunt: Annotated[
        o.Text,
        typer.Option(
            "--hunt", metavar="NAME", help="Only of this hunt.", autocompletion=complete.hunts
        ),
    ] = None,
    customer: Annotated[
        o.Text,
        typer.Option("--customer", metavar="ID", help="Only of this customer (Entra tenant id)."),
    ] = None,
    findings: Annotated[
        bool,
        typer.Option("--findings", help="Also forget findings, so that they are reported again."),
    ] = False,
    deliveries: Annotated[
        bool, typer.Option("--deliveries", help="Discard undelivered messages.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    config: o.ConfigPath = None,
    now: o.Now = None,
) -> int:
    """Forget coverage, so that the next run starts from the lookback."""
    if not yes:
        what = (
            "coverage"
            + (", findings" if findings else "")
            + (", undelivered messages" if deliveries else "")
        )
        if not typer.confirm(f"Forget {what} in {state}?", err=True):
            raise UsageError("nothing was forgotten", hint="--yes does it without asking")
    with _opened(state, read_now(now), config) as store:
        done = store.reset(hunt=hunt, customer=customer, findings=findings, deliveries=deliveries)
    print(_counted(done))
    return 0


@app.command()
def prune(
    state: StatePath,
    older: Annotated[
        str, typer.Option("--older", metavar="TIME", help="Forget what is older.")
    ] = "180d",
    config: o.ConfigPath = None,
    now: o.Now = None,
) -> int:
    """Forget old runs, findings no longer seen and hunts no longer run."""
    moment = read_now(now)
    with _opened(state, moment, config) as store:
        done = store.prune(moment, read_length("--older", older))
    print(_counted(done))
    return 0


def _reading(state: str, config: Path | None) -> contextlib.closing[Store]:
    from qakhunt.schedule.sinks import sink_context
    from qakhunt.schedule.state import read_state

    return contextlib.closing(read_state(state, sink_context(read_config(config), os.environ)))


def _opened(state: str, now: Instant, config: Path | None) -> contextlib.closing[Store]:
    from qakhunt.schedule.sinks import sink_context
    from qakhunt.schedule.state import open_state

    context = sink_context(read_config(config), os.environ)
    return contextlib.closing(open_state(state, now, context, create=False))


def _counted(done: dict[str, int]) -> str:
    return "forgotten: " + ", ".join(f"{number} {name}" for name, number in done.items())


def _lines(document: dict[str, Any]) -> list[str]:
    def short(text: str | None) -> str:
        return text[:16].replace("T", " ") if text else "-"

    lines = [f"warning: {text}" for text in document["warnings"]]
    last = document["runs"][0] if document["runs"] else None
    if last is None:
        lines.append("no run yet")
    else:
        lines.append(f"last run {short(last['started'])}, {last['verdict'] or 'came to no end'}")
    lines.append(f"{document['findings']} findings reported so far")
    for entry in document["coverage"]:
        label = entry["workspace"] or entry["customer"]
        lines.append(
            f"{entry['hunt']} on {label} ({entry['product']}): complete until "
            f"{short(entry['watermark'])}, {len(entry['owed'])} in the backlog, "
            f"{len(entry['lost'])} lost"
        )
        lines += [
            f"  backlog {short(w['start'])} to {short(w['end'])}, tried {w['attempts']} times: "
            f"{w['reason']}"
            for w in entry["owed"]
        ]
        lines += [f"  lost {short(w['start'])} to {short(w['end'])}" for w in entry["lost"]]
    for sink in document["deliveries"]:
        lines.append(f"{sink['sink']}: {sink['delivered']} delivered, {sink['pending']} waiting")
    lines += [
        f"  waiting since {short(p['since'])}, tried {p['attempts']} times: {p['key']}: "
        f"{p['detail']}"
        for p in document["pending"]
    ]
    return lines
