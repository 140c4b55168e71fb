"""``qakhunt evaluate``: measured evidence of hunts, on labelled events."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import chosen_format, print_json, screen, write_text
from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.run.progress import working
from qakhunt.run.request import catalog, read_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.testing.evidence import Document
    from qakhunt.testing.labelled import LabelledSet

FORMATS = ("table", "json", "markdown")


def evaluate(
    hunt: o.HuntNames = None,
    labelled: Annotated[
        o.Files,
        Panel.events(
            "--labelled", metavar="DIR", help="Folder of labelled event sets and their manifest."
        ),
    ] = None,
    generated: Annotated[
        int,
        Panel.events(
            "--generated", metavar="N", min=0, help="Generated bursts per rendering; 0: none."
        ),
    ] = 11,
    seed: Annotated[
        int, Panel.events("--seed", metavar="N", help="Seed of everything that is drawn.")
    ] = 650,
    repeats: Annotated[
        int,
        Panel.events(
            "--repeats", metavar="N", min=1, help="Copies of a burst per share of lost events."
        ),
    ] = 20,
    write_sets: Annotated[
        o.File,
        Panel.events(
            "--write-sets", metavar="DIR", help="Write the generated sets to a folder and exit."
        ),
    ] = None,
    hunts: o.HuntFolders = None,
    now: o.Now = None,
    record: Annotated[
        bool,
        Panel.output("--record", help="Write the evidence beside each hunt: evidence/<hunt>.json."),
    ] = False,
    format_: Annotated[o.Text, o.text_format(*FORMATS)] = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Measure hunts on labelled events: recall, false alerts, lost events, time.

    Without HUNT: the set qakbot. A manifest says what each file holds; without one,
    public sets are known by name. Generated bursts, modelled administration, chains of
    published campaigns and the sequences held back from tuning are added unless
    --generated is 0; what was held back is counted apart, and so is what triage makes
    of a burst hunt's alerts.
    """
    chosen = chosen_format(format_, FORMATS, as_json=as_json)
    sets = _sets(labelled or (), generated, seed)
    if write_sets is not None:
        from qakhunt.testing.labelled import write_labelled

        write_labelled(write_sets, sets)
        print(f"{write_sets}: {len(sets)} sets", file=sys.stderr)
        return
    found = catalog(hunts or ()).find_all(hunt or ["qakbot"])
    whole = _measure(found, sets, seed, repeats, now, quiet=quiet or chosen != "table")
    if record:
        _record(found, whole)
    _present(whole, chosen)


def _sets(folders: Sequence[Path], generated: int, seed: int) -> list[LabelledSet]:
    from qakhunt.testing.chains import chain_sets
    from qakhunt.testing.generator import generate, held_back
    from qakhunt.testing.labelled import load_labelled

    sets = [one for folder in folders for one in load_labelled(folder)]
    if generated:
        benign = [
            row
            for one in sets
            if one.label == "benign" and one.origin == "captured"
            for row in one.rows
        ]
        sets += [*generate(seed, generated, benign), *held_back(benign), *chain_sets()]
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
    from qakhunt.testing.evaluation import evaluate as measure
    from qakhunt.testing.evidence import document

    moment = read_now(now)
    with working("measuring", quiet=quiet) as say:
        evidence = measure(
            found, sets, seed=seed, repeats=repeats, triage=True,
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
        write_text(text, path, force=True, private=False)
        print(f"recorded {path}", file=sys.stderr)


def _present(whole: Document, chosen: str) -> None:
    if chosen == "json":
        print_json(whole)
        return
    if chosen == "markdown":
        from qakhunt.testing.evidence import markdown

        print(markdown(whole), end="")
        return
    _table(whole)


def _table(whole: Document) -> None:
    from rich.text import Text

    from qakhunt.testing.evidence import split_by_hunt, words_of

    console = screen()
    for name, part in split_by_hunt(whole).items():
        console.print(Text(for_terminal(name), style="bold"))
        for line in words_of(part):
            console.print(Text(f"  {for_terminal(line)}"))
        for table in _rendering_tables(part["hunts"][0]):
            console.print(table)
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


def _rendering_tables(hunt: Document) -> Iterator[Any]:
    """For each part: bursts found by rendering or malware, and origin.

    Of Qakbot's bursts for tuning also with events lost, and how soon.
    """
    from rich.table import Table

    from qakhunt.testing.evidence import percent, share_of
    from qakhunt.testing.labelled import PARTS, TUNING

    lost = {(e["rendering"], e["origin"], e["percent"]): share_of(e) for e in hunt["loss"]}
    times = {(e["rendering"], e["origin"]): e for e in hunt["seconds_to_detection"]}
    for split, part in PARTS.items():
        entries = [e for e in [*hunt["recall"], *hunt["kin"]] if e["split"] == split]
        if not entries:
            continue
        losses = sorted({e["percent"] for e in hunt["loss"]}) if split == TUNING else []
        table = Table(box=None, header_style="bold", pad_edge=True, padding=(0, 1, 0, 0))
        table.add_column(f"  {part}", no_wrap=True)
        table.add_column("data", no_wrap=True)
        more = [f"{n} % lost" for n in losses] + (["median s", "longest s"] if losses else [])
        for heading in ("bursts", "found", *more):
            table.add_column(heading, justify="right")
        for entry in entries:
            key = (entry.get("rendering", ""), entry["origin"])
            time = times.get(key, {})
            cells = [
                f"  {key[0] or entry['malware']}", key[1], str(entry["of"]), _found_words(entry),
                *(percent(lost.get((*key, n))) for n in losses),
                *(str(time.get(name, "-")) for name in (("median", "longest") if losses else ())),
            ]  # fmt: skip
            table.add_row(*map(for_terminal, cells))
        yield table


def _found_words(entry: Document) -> str:
    """How many were found; of captured bursts with the 95 % interval of their share."""
    if "low" not in entry:
        return str(entry["found"])
    low, high = (f"{entry[bound] * 100:.0f}" for bound in ("low", "high"))
    return f"{entry['found']} ({low} to {high} %)"
