"""Labelled bursts and benign days from one seed, so that nobody tunes to one file.

Orders, parents and timings are those of ``data/bursts.yaml``; every burst stands in
the noise of its device: real benign rows where there are some, else modelled ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.core.documents import convert, parse_yaml
from qakhunt.core.errors import HuntError
from qakhunt.hunts.command_catalogue import RENDERINGS, families, rendered, wrapping
from qakhunt.kql.values import Instant, Timespan
from qakhunt.testing.labelled import Burst, LabelledSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.testing.labelled import Row

BASE = Instant.parse("2026-10-05T00:00:00Z")
SYSTEM32 = "C:\\Windows\\System32"
BACKGROUND = 120
"""Benign rows around each burst."""

_SOURCE = "qakhunt's generator, from orders, parents and timings of public reports"
_MODEL = "qakhunt's generator, modelled on public descriptions"
_WORKGROUP = "WORKGROUP"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Order(_Strict, frozen=True):
    """One known order of the commands."""

    about: str
    parents: tuple[str, ...]
    folder: str
    steps: tuple[str, ...]
    hang: bool
    seconds: tuple[float, float]


class Program(_Strict, frozen=True):
    """Something benign that runs some of the commands, or others."""

    about: str
    parent: str
    line: str
    account: str
    via: str
    gap: float
    repeats: int
    every: float
    steps: tuple[str, ...]


class Behaviour(_Strict, frozen=True):
    """Something else that Qakbot does: variants, each the command lines of one go."""

    about: str
    parents: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]


class Bursts(_Strict, frozen=True):
    """The whole data file."""

    sequences: dict[str, Order]
    behaviours: dict[str, Behaviour]
    benign: dict[str, Program]


@cache
def recipes() -> Bursts:
    """The data file, checked."""
    text = files("qakhunt").joinpath("data/bursts.yaml").read_text(encoding="utf-8")
    return convert(parse_yaml(text, "bursts.yaml", HuntError), Bursts, HuntError)


@dataclass
class _Process:
    """A running process, as its children's records name it."""

    id: int
    file: str
    line: str
    folder: str
    began: Instant
    parent: _Process | None = None


class _Device:
    """Writes the records of one device."""

    def __init__(self, name: str, account: str, chance: random.Random) -> None:
        self.name, self.account, self.chance = name, account, chance
        self.rows: list[Row] = []
        self.ids = iter(range(chance.randrange(1000, 3000), 10**9, 4))

    def process(
        self, file: str, line: str, folder: str, began: Instant, parent: _Process | None = None
    ) -> _Process:
        return _Process(next(self.ids), file, line, folder, began, parent)

    def start(
        self, at: Instant, file: str, line: str, by: _Process, folder: str = SYSTEM32
    ) -> _Process:
        """A process that ``by`` starts, and its record."""
        made = self.process(file, line, folder, at, by)
        grand = by.parent
        self.rows.append(
            {
                "Timestamp": at, "DeviceId": self.name, "DeviceName": self.name,
                "AccountName": self.account, "ActionType": "ProcessCreated",
                "FileName": file, "FolderPath": f"{folder}\\{file}", "ProcessId": made.id,
                "ProcessCommandLine": line, "ProcessCreationTime": at,
                "InitiatingProcessId": by.id, "InitiatingProcessFileName": by.file,
                "InitiatingProcessCommandLine": by.line,
                "InitiatingProcessFolderPath": f"{by.folder}\\{by.file}".lower(),
                "InitiatingProcessCreationTime": by.began,
                **(
                    {
                        "InitiatingProcessParentId": grand.id,
                        "InitiatingProcessParentFileName": grand.file,
                        "InitiatingProcessParentCreationTime": grand.began,
                    }
                    if grand
                    else {}
                ),
            }
        )  # fmt: skip
        return made


def generate(seed: int, per_rendering: int, background: Sequence[Row] = ()) -> list[LabelledSet]:
    """Bursts in every rendering, benign programs, and administrators.

    ``background`` are real benign rows to hide the bursts in. The result follows
    from the arguments alone.
    """
    sets = [_positive(rendering, seed, per_rendering, background) for rendering in RENDERINGS]
    for name, behaviour in recipes().behaviours.items():
        sets += [_other(name, behaviour, how, seed, per_rendering) for how in _OTHER_RENDERINGS]
    sets += [_benign(name, program, seed) for name, program in recipes().benign.items()]
    return [*sets, *_administrators(seed)]


def _positive(rendering: str, seed: int, count: int, background: Sequence[Row]) -> LabelledSet:
    chance = _chance(f"{seed}/{rendering}")
    names = list(recipes().sequences)
    rows: list[Row] = []
    bursts = []
    for number in range(count):
        device = _Device(
            f"{rendering}-{number:03d}", chance.choice(["user1", "user2", "system"]), chance
        )
        at = BASE + _seconds(chance.uniform(0, 20 * 86_400))
        sequence = recipes().sequences[names[number % len(names)]]
        _burst(device, sequence, rendering, at)
        times = [row["Timestamp"] for row in device.rows]
        bursts.append(Burst(device.name, min(times), max(times)))
        rows += device.rows
        rows += _noise(device, background, at, chance)
    rows.sort(key=lambda row: row["Timestamp"].ticks)
    return LabelledSet(
        f"generated, {rendering}", "qakbot", "generated", _SOURCE, rows, rendering,
        families().renderings[rendering], bursts=tuple(bursts),
    )  # fmt: skip


_OTHER_RENDERINGS = ("direct", "cmd", "powershell", "case")


def _other(name: str, behaviour: Behaviour, rendering: str, seed: int, count: int) -> LabelledSet:
    """One of Qakbot's other behaviours, in turn in each of its variants."""
    chance = _chance(f"{seed}/{name}/{rendering}")
    variants = list(behaviour.variants.values())
    rows: list[Row] = []
    bursts = []
    for number in range(count):
        device = _Device(f"{name}-{rendering}-{number:03d}", "user1", chance)
        at = BASE + _seconds(chance.uniform(0, 20 * 86_400))
        loader = device.process("rundll32.exe", "rundll32.exe x.dll,#1", SYSTEM32, at)
        host = chance.choice(behaviour.parents)
        parent = device.process(host, host, SYSTEM32, at, loader)
        for issued in variants[number % len(variants)]:
            # A line of cmd.exe's own is its wrapper already.
            family = "env_set" if issued.startswith("cmd") else ""
            _command(device, parent, family, issued, rendering, at)
            at = at + _seconds(chance.uniform(0.1, 2))
        times = [row["Timestamp"] for row in device.rows]
        bursts.append(Burst(device.name, min(times), max(times)))
        rows += device.rows
    return LabelledSet(
        f"generated, {name}, {rendering}", "qakbot", "generated", _MODEL, rows, rendering,
        behaviour.about, name, tuple(bursts),
    )  # fmt: skip


def _burst(device: _Device, sequence: Order, rendering: str, at: Instant) -> None:
    chance = device.chance
    issuer = _issuer(device, sequence, rendering, at)
    domain = chance.choice(["contoso.example", "corp.fabrikam.example"])
    joined = not sequence.hang
    for offset, step in zip(_offsets(sequence, chance), sequence.steps, strict=True):
        name, _, number = step.partition("#")
        issued = families().families[name].issued[int(number or 1) - 1]
        if joined:
            issued = issued.replace(_WORKGROUP, domain).replace("contoso.local", domain)
        _command(device, issuer, name, issued, rendering, at + _seconds(offset))


def _issuer(device: _Device, sequence: Order, rendering: str, at: Instant) -> _Process:
    chance = device.chance
    long_ago = at - _seconds(chance.uniform(60, 5000))
    loader = device.process("regsvr32.exe", "regsvr32.exe -s calc.dat", SYSTEM32, long_ago)
    file = chance.choice(sequence.parents)
    host = device.process(file, file, sequence.folder, long_ago + _seconds(20), loader)
    if rendering == "batch":
        line = 'cmd.exe /c ""C:\\ProgramData\\list.bat" "'
        return device.start(at - _seconds(0.2), "cmd.exe", line, host)
    if rendering == "powershell":
        return device.start(at - _seconds(1.5), "powershell.exe", "powershell.exe", host)
    return host


def _offsets(sequence: Order, chance: random.Random) -> list[float]:
    """Seconds after the first step; net view may hang until it gives up."""
    count = len(sequence.steps)
    whole = chance.uniform(*sequence.seconds)
    if not sequence.hang:
        return [0.0, *sorted(chance.uniform(0.03, whole) for _ in range(count - 2)), whole]
    at, offsets = 0.0, []
    view = next(n for n, step in enumerate(sequence.steps) if step.startswith("net_view"))
    for number in range(count):
        offsets.append(at)
        at += chance.uniform(0.03, 0.4)
        if number == view:
            at = max(at, whole - 0.2 * (count - number))
    return offsets


def _command(
    device: _Device, issuer: _Process, family: str, issued: str, rendering: str, at: Instant
) -> None:
    """One command's process, its wrapper's and that of the net1 that a net starts."""
    by = issuer
    is_cmd = family == "env_set"
    wrapper = None if is_cmd else wrapping(issued, rendering)
    if wrapper:
        shell = "powershell.exe" if rendering == "oneliner" else "cmd.exe"
        by = device.start(at, shell, wrapper, issuer)
        at = at + _seconds(0.02)
    line = rendered(issued, rendering)
    if issued == "cmd /c set" and rendering == "caret":
        line = "cmd.exe /c s^et"
    file = issued.split()[0].lower().removesuffix(".exe") + ".exe"
    made = device.start(at, file, line, by)
    if family in ("net_share", "net_localgroup", "net_group_domain") and file == "net.exe":
        gap = "  " if rendering in ("cmd", "caret", "batch") else " "
        device.start(at + _seconds(0.015), "net1.exe", f"net1{gap}{issued.partition(' ')[2]}", made)


def _noise(
    device: _Device, background: Sequence[Row], at: Instant, chance: random.Random
) -> list[Row]:
    """Benign rows of other times and devices, moved to this one."""
    if not background:
        return []
    chosen = chance.sample(background, min(BACKGROUND, len(background)))
    moved = []
    for row in chosen:
        time = at + _seconds(chance.uniform(-7200, 7200))
        moved.append({**row, "Timestamp": time, "DeviceId": device.name, "DeviceName": device.name})
    return moved


def _benign(name: str, program: Program, seed: int) -> LabelledSet:
    chance = _chance(f"{seed}/{name}")
    rows: list[Row] = []
    for number in range(3):
        account = "system" if program.account == "system" else "user1"
        device = _Device(f"{name}-{number}", account, chance)
        first = BASE + _seconds(chance.uniform(0, 2 * 86_400))
        services = device.process("services.exe", "services.exe", SYSTEM32, first)
        for round_ in range(program.repeats):
            at = first + _seconds(round_ * program.every * 3600)
            parent = device.process(
                program.parent, program.line, "C:\\Program Files\\X", at, services
            )
            for step in program.steps:
                _run(device, parent, step, program.via, at)
                at = at + _seconds(program.gap * chance.uniform(0.7, 1.3))
        rows += device.rows
    return LabelledSet(f"modelled, {name}", "benign", "modelled", _MODEL, rows, about=program.about)


def _run(device: _Device, parent: _Process, step: str, via: str, at: Instant) -> None:
    by, line = parent, step
    if via == "cmd":
        by = device.start(at, "cmd.exe", f"cmd.exe /c {step}", parent)
        line = rendered(step, "cmd")
    file = step.replace('"', "").split()[0].removesuffix(".exe").lower() + ".exe"
    made = device.start(at + _seconds(0.01), file, line, by)
    if file == "net.exe" and line.split()[1] in ("share", "localgroup"):
        device.start(
            at + _seconds(0.03),
            "net1.exe",
            line.replace("net.exe", "net1").replace("net ", "net1 "),
            made,
        )


def _administrators(seed: int) -> Iterator[LabelledSet]:
    """People who run three of the commands by hand: every choice of three, in each shell."""
    shells = {
        "cmd": ("cmd.exe", '"cmd.exe" ', "cmd"),
        "powershell": ("powershell.exe", "powershell.exe -NoExit", "powershell"),
        "explorer": ("explorer.exe", "Explorer.EXE", "direct"),
    }
    issued = {name: family.issued[0] for name, family in families().families.items()}
    for name, (file, line, rendering) in shells.items():
        chance = _chance(f"{seed}/administrator/{name}")
        rows: list[Row] = []
        for number, chosen in enumerate(combinations(issued, 3)):
            device = _Device(f"admin-{name}-{number:03d}", "adm-hale", chance)
            at = BASE + _seconds(chance.uniform(0, 20 * 86_400))
            logon = device.process("userinit.exe", "userinit.exe", SYSTEM32, at)
            shell = device.process(file, line, "C:\\Windows", at, logon)
            for family in chosen:
                at = at + _seconds(chance.uniform(4, 150))
                _command(device, shell, family, issued[family], _typed(rendering), at)
            rows += device.rows
        yield LabelledSet(
            f"modelled, three commands in {file}", "benign", "modelled", _MODEL, rows,
            about=f"An administrator runs three of the commands from {file}; every choice of three",
        )  # fmt: skip


def _typed(rendering: str) -> str:
    """A command typed into cmd.exe has no wrapper; its text is a batch file's."""
    return "batch" if rendering == "cmd" else rendering


def _chance(seed: str) -> random.Random:
    """Not for secrecy: the same seed draws the same."""
    return random.Random(seed)  # noqa: S311


def _seconds(seconds: float) -> Timespan:
    return Timespan(round(seconds * 10_000_000))


def as_json(row: Row) -> dict[str, Any]:
    """A row as JSON lines hold it."""
    return {k: v.isoformat() if isinstance(v, Instant) else v for k, v in row.items()}
