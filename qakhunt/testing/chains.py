"""Execution chains of published campaigns as labelled sets, for hunts of behaviour delivery.

``data/chains.yaml`` and ``data/chains_held_back.yaml`` hold them; a device is one chain.
"""

from __future__ import annotations

import base64
import random
import re
from typing import TYPE_CHECKING

import msgspec

from qakhunt.kql.values import Instant, Timespan
from qakhunt.testing.generator import BASE, SYSTEM32, Device
from qakhunt.testing.labelled import POSITIVE, LabelledSet, Split, burst_of, packaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.testing.generator import Process
    from qakhunt.testing.labelled import Row

DELIVERY = "delivery"
FILES = ("chains.yaml", "chains_held_back.yaml")
SOURCE = "https://github.com/pr0xylife/Qakbot"
_HIDDEN = re.compile(r"\{b64:(.*?)\}(?=$| )")


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One chain: steps are ``depth line``, ``renamed`` gives copies their original name."""

    form: str
    source: str
    steps: tuple[str, ...]
    renamed: dict[str, str] = {}


class Chains(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole data file."""

    split: Split
    chains: dict[str, Chain]


def chains_of(name: str) -> Chains:
    """A data file, checked."""
    return packaged(name, Chains)


def chain_sets() -> Iterator[LabelledSet]:
    """A set for each form of delivery and part, the same on every call."""
    for file in FILES:
        data = chains_of(file)
        forms = sorted({chain.form for chain in data.chains.values()})
        for form in forms:
            rows: list[Row] = []
            bursts = []
            for number, (name, chain) in enumerate(data.chains.items()):
                if chain.form != form:
                    continue
                made = rows_of(name, chain, BASE + Timespan.parse(f"{number}h"))
                bursts.append(burst_of(name, made))
                rows += made
            yield LabelledSet(
                f"chains, {data.split}, {form}", POSITIVE, "reconstructed", SOURCE, rows, form,
                "published execution chains", DELIVERY, tuple(bursts), split=data.split,
            )  # fmt: skip


def rows_of(name: str, chain: Chain, at: Instant) -> list[Row]:
    """The chain as Defender records its processes, a second apart."""
    device = Device(name, "user1", random.Random(name))  # noqa: S311 - process ids, no secret
    desktop = device.process("explorer.exe", "Explorer.EXE", "C:\\Windows", at)
    above: list[Process] = [desktop]
    for step in chain.steps:
        depth, _, written = step.partition(" ")
        line = _HIDDEN.sub(_encoded, written)
        folder, file, line = _program(line)
        del above[int(depth) + 1 :]
        at = at + Timespan.parse("1s")
        original = chain.renamed.get(file, "")
        above.append(device.start(at, file, line, above[-1], folder, original))
    return device.rows


def _encoded(match: re.Match[str]) -> str:
    return base64.b64encode(match[1].encode("utf-16-le")).decode()


def _program(line: str) -> tuple[str, str, str]:
    """Folder, file and line: Defender strips the folder of a line's first word."""
    first, _, rest = line.partition(" ")
    folder, _, file = first.strip('"').rpartition("\\")
    shown = first if not folder else file
    name = file if file.lower().endswith(".exe") else f"{file}.exe"
    return folder or SYSTEM32, name, f"{shown} {rest}".rstrip()
