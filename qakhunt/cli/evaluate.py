"""``qakhunt evaluate``: measured evidence of hunts, on labelled events."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli.request import catalog, read_now
from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_json, for_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.testing.evidence import Document
    from qakhunt.testing.labelled import LabelledSet

app = o.new_app()

FORMATS = ("table", "json", "markdown")

Labelled = Annotated[
    Optional[list[Path]],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--labelled", metavar="DIR", help="A folder of labelled event sets and its manifest."
    ),
]
Page = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--page", metavar="PATH", help="Put the table between a page's evidence marks."),
]
Write = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--write-sets", metavar="DIR", help="Write the generated sets there, and stop."),
]
FormatName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--format", metavar="NAME", help="table, json or markdown."),
]


@app.command()
def evaluate(
    hunt: o.HuntNames = None,
    labelled: Labelled = None,
    generated: Annotated[
        int,
        typer.Option(
            "--generated", metavar="N", min=0, help="Generated bursts per rendering; 0: none."
        ),
    ] = 11,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="What is drawn follows from it.")
    ] = 650,
    repeats: Annotated[
        int,
        typer.Option("--repeats", metavar="N", min=1, help="Copies of a burst per share of loss."),
    ] = 20,
    record: Annotated[
        bool,
        typer.Option("--record", help="Write the evidence beside each hunt: evidence/<hunt>.json."),
    ] = False,
    page: Page = None,
    write_sets: Write = None,
    format_: FormatName = None,
    as_json: o.AsJson = False,
    now: o.Now = None,
    hunts: o.HuntFolders = None,
    quiet: o.Quiet = False,
) -> None:
    """Measure hunts on labelled events: recall, false alerts, lost events, time.

    Without HUNT: the set qakbot. A manifest says what each file holds; without one,
    public sets are known by name. Generated bursts and modelled benign programs are
    added unless --generated is 0.
    """
    chosen = _format(format_, as_json=as_json)
    sets = _sets(labelled or (), generated, seed)
    if write_sets is not None:
        _write(write_sets, sets)
        return
    found = catalog(hunts or ()).find_all(hunt or ["qakbot"])
    whole = _measure(found, sets, seed, repeats, now, quiet=quiet or chosen != "table")
    if record:
        _record(found, whole)
    if page is not None:
        _update(page, whole)
    _present(whole, chosen)


def _format(name: str | None, *, as_json: bool) -> str:
    chosen = "json" if as_json else (name or "table")
    if as_json and name not in (None, "json"):
        raise UsageError(f"--json and --format {name} exclude each other")
    if chosen not in FORMATS:
        raise UsageError(f"no format named {chosen!r}", hint=", ".join(FORMATS))
    return chosen


def _sets(folders: Sequence[Path], generated: int, seed: int) -> list[LabelledSet]:
    from qakhunt.testing.generator import generate
    from qakhunt.testing.labelled import load_labelled

    sets = [one for folder in folders for one in load_labelled(folder)]
    if generated:
        benign = [
            row
            for one in sets
            if one.label == "benign" and one.origin == "captured"
            for row in one.rows
        ]
        sets += generate(seed, generated, benign)
    if not sets:
        raise UsageError("nothing to measure on", hint="name a folder with --labelled")
    names = [one.name for one in sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two labelled sets are called {twice[0]!r}")
    return sets


def _measure(
    found: Sequence[Hunt],
    sets: Sequence[LabelledSet],
    seed: int,
    repeats: int,
    now: str | None,
    *,
    quiet: bool,
) -> Document:
    from qakhunt.cli.progress import working
    from qakhunt.testing.evaluation import evaluate as measure
    from qakhunt.testing.evidence import document

    moment = read_now(now)
    with working("measuring", quiet=quiet) as say:
        evidence = measure(
            found, sets, seed=seed, repeats=repeats,
            progress=lambda text: say(for_terminal(text)),
        )  # fmt: skip
    return document(evidence, sets, now=moment, seed=seed, repeats=repeats)


def _record(found: Sequence[Hunt], whole: Document) -> None:
    from qakhunt.testing.evidence import path_of, split_by_hunt

    parts = split_by_hunt(whole)
    for hunt in found:
        path = path_of(hunt)
        path.parent.mkdir(exist_ok=True)
        text = json.dumps(parts[hunt.name], ensure_ascii=False, indent=1) + "\n"
        _write_text(path, text, force=True)
        print(f"recorded {path}", file=sys.stderr)


def _update(page: Path, whole: Document) -> None:
    from qakhunt.core.documents import read_text
    from qakhunt.testing.evidence import markdown, replace_block

    _write_text(page, replace_block(read_text(page, UsageError), markdown(whole)), force=True)


def _write_text(path: Path, text: str, *, force: bool) -> None:
    from qakhunt.core.writing import whole_file

    with whole_file(path, force=force, private=False) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _write(folder: Path, sets: Sequence[LabelledSet]) -> None:
    """The sets as NDJSON files with their manifest, ready for --labelled."""
    import yaml

    from qakhunt.answers.cells import to_json_line
    from qakhunt.testing.labelled import MANIFEST, POSITIVE

    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for number, one in enumerate(sets):
        name = f"{number:02d}.ndjson"
        _write_text(
            folder / name, "".join(f"{to_json_line(row)}\n" for row in one.rows), force=False
        )
        entry: dict[str, Any] = {
            "name": one.name, "files": [name], "label": one.label, "origin": one.origin,
            "source": one.source, "about": one.about,
        }  # fmt: skip
        if one.label == POSITIVE:
            entry |= {
                "rendering": one.rendering,
                "behaviour": one.behaviour,
                "bursts": [
                    {"device": b.device, "start": b.start.isoformat(), "end": b.end.isoformat()}
                    for b in one.bursts
                ],
            }
        entries.append(entry)
    text = yaml.safe_dump({"sets": entries}, sort_keys=False, allow_unicode=True)
    _write_text(folder / MANIFEST, text, force=False)
    print(f"{folder}: {len(sets)} sets", file=sys.stderr)


def _present(whole: Document, chosen: str) -> None:
    if chosen == "json":
        print(for_json(json.dumps(whole, ensure_ascii=False, indent=2)))
        return
    if chosen == "markdown":
        from qakhunt.testing.evidence import markdown

        print(markdown(whole), end="")
        return
    _table(whole)


def _table(whole: Document) -> None:
    from rich.console import Console
    from rich.text import Text

    from qakhunt.testing.evidence import split_by_hunt, words_of

    console = Console(highlight=False, markup=False)
    for name, part in split_by_hunt(whole).items():
        console.print(Text(for_terminal(name), style="bold"))
        for line in words_of(part):
            console.print(Text(f"  {for_terminal(line)}"))
        console.print(_rendering_table(part["hunts"][0]))
        for outcome in part["hunts"][0]["sets"]:
            false = outcome["false_alerts"]
            for alert in false[:2]:
                who = f"{alert['device']} {alert['account']}".strip()
                commands = ", ".join(alert["commands"][:6])
                line = f"  false alert in {outcome['name']}: {who}: {commands}"
                console.print(Text(for_terminal(line), style="yellow"))
            if len(false) > 2:
                console.print(Text(f"  and {len(false) - 2} more there", style="yellow"))
        console.print()


def _rendering_table(hunt: Document) -> Any:
    """Bursts found by rendering, with events lost, and how soon."""
    from rich.table import Table

    from qakhunt.testing.evidence import percent, recall_of, with_interval

    losses = sorted({entry["percent"] for entry in hunt["loss"]})
    table = Table(box=None, header_style="bold", pad_edge=True, padding=(0, 2, 0, 0))
    table.add_column("  rendering")
    for heading in (
        "bursts",
        "found",
        *(f"{loss} % lost" for loss in losses),
        "median s",
        "longest s",
    ):
        table.add_column(heading, justify="right")
    lost = {loss: recall_of(hunt, loss=loss) for loss in losses}
    times = {entry["rendering"]: entry for entry in hunt["seconds_to_detection"]}
    for rendering, share in recall_of(hunt).items():
        time = times.get(rendering, {"median": "-", "longest": "-"})
        cells = [
            f"  {rendering}", str(share.tried), with_interval(share),
            *(percent(lost[loss].get(rendering)) for loss in losses),
            str(time["median"]), str(time["longest"]),
        ]  # fmt: skip
        table.add_row(*map(for_terminal, cells))
    return table
