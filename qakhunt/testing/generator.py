"""Labelled bursts and benign days from one seed, so that nobody tunes to one file.

Orders, parents and timings are those of ``data/bursts.yaml``; every burst stands in
the noise of its device: real benign rows where there are some, else modelled ones.
``data/held_back.yaml`` holds sequences of the same form that nobody tunes on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import msgspec

from qakhunt.hunts.command_catalogue import RENDERINGS, families, rendered, wrapping
from qakhunt.kql.values import Instant, Timespan
from qakhunt.testing.labelled import (
    HELD_BACK,
    KIN,
    POSITIVE,
    TUNING,
    Label,
    LabelledSet,
    Split,
    burst_of,
    packaged,
)

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
_INTERNAL = ("set", "ver", "echo", "type", "dir")
"""Commands of cmd.exe's own: no process but the cmd that is asked for them."""
_NET1 = (
    "accounts", "computer", "config", "continue", "file", "files", "group", "localgroup",
    "session", "sessions", "share", "start", "statistics", "stop", "user", "users",
)  # fmt: skip
"""What net hands to net1."""
_ORIGINAL = {"nltest.exe": "nltestrk.exe", "systeminfo.exe": "sysinfo.exe", "cmd.exe": "Cmd.Exe"}
"""Original file names that are not the file's name (Sigma's rules on renamed programs)."""


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


Basis = Literal["read", "excerpt", "documented", "recalled"]
"""How well its author knew the source of a sequence: see held_back.yaml."""


class Program(_Strict, frozen=True):
    """Something benign that runs some of the commands, or others.

    ``by`` is the line of the process that started the parent.
    """

    about: str
    parent: str
    line: str
    account: Literal["user", "system"]
    via: Literal["direct", "cmd", "batch", "powershell"]
    gap: float
    steps: tuple[str, ...]
    repeats: int = 1
    every: float = 0.0
    source: str = ""
    basis: Basis | None = None
    by: str = "services.exe"
    folder: str = "C:\\Program Files\\X"


class Behaviour(_Strict, frozen=True):
    """Something else that Qakbot does: variants, each the command lines of one go."""

    about: str
    parents: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]


class Issued(_Strict, frozen=True):
    """Commands as a report lists them; ``{domain}`` is the victim's."""

    about: str
    source: str
    basis: Basis
    steps: tuple[str, ...]


Via = Literal[
    "direct", "cmd", "batch", "powershell", "powershell-direct", "start", "conhost", "forfiles",
    "issuers", "powershell-in-cmd", "cmd-in-powershell",
]  # fmt: skip


class Intrusion(_Strict, frozen=True):
    """One burst of Qakbot or of its kin: its commands, or the name of an order of them.

    ``line`` is the issuing process's, ``by`` that of the process that started it;
    ``rename`` begins the names of copies of the programs; ``rendering`` is what its
    outcome is counted under, where that is not ``via``.
    """

    parent: str
    via: Via
    seconds: tuple[float, float]
    order: str = ""
    steps: tuple[str, ...] = ()
    about: str = ""
    malware: str = "Qakbot"
    source: str = ""
    basis: Basis | None = None
    line: str = ""
    folder: str = "C:\\Windows\\SysWOW64"
    by: str = "regsvr32.exe -s calc.dat"
    account: Literal["user", "system"] = "user"
    rename: str = ""
    rendering: str = ""


class Bursts(_Strict, frozen=True):
    """A whole data file."""

    split: Split = TUNING
    sequences: dict[str, Order] = {}
    behaviours: dict[str, Behaviour] = {}
    orders: dict[str, Issued] = {}
    qakbot: dict[str, Intrusion] = {}
    kin: dict[str, Intrusion] = {}
    benign: dict[str, Program] = {}


@cache
def recipes(name: str = "bursts.yaml") -> Bursts:
    """A data file, checked."""
    return packaged(name, Bursts)


@dataclass
class Process:
    """A running process, as its children's records name it."""

    id: int
    file: str
    line: str
    folder: str
    began: Instant
    parent: Process | None = None


class Device:
    """Writes the records of one device."""

    def __init__(self, name: str, account: str, chance: random.Random) -> None:
        self.name, self.account, self.chance = name, account, chance
        self.rows: list[Row] = []
        self.ids = iter(range(chance.randrange(1000, 3000), 10**9, 4))

    def process(
        self, file: str, line: str, folder: str, began: Instant, parent: Process | None = None
    ) -> Process:
        return Process(next(self.ids), file, line, folder, began, parent)

    def start(
        self,
        at: Instant,
        file: str,
        line: str,
        by: Process,
        folder: str = SYSTEM32,
        original: str = "",
    ) -> Process:
        """A process that ``by`` starts, and its record; ``original`` where it was renamed."""
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
                **({"ProcessVersionInfoOriginalFileName": original} if original else {}),
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
    sets += _kin(recipes(), f"{seed}")
    sets += [
        _benign(f"modelled, {name}", program, f"{seed}/{name}")
        for name, program in recipes().benign.items()
    ]
    return [*sets, *_administrators(seed)]


def held_back(background: Sequence[Row] = ()) -> list[LabelledSet]:
    """The sequences that nobody tunes on; the same on every call.

    Their names are numbers, so that evidence gives none of them away.
    """
    data = recipes("held_back.yaml")
    by_rendering: dict[str, list[tuple[str, Intrusion]]] = {}
    for name, case in data.qakbot.items():
        by_rendering.setdefault(_rendering(case), []).append((name, case))
    sets = [
        _intrusions(
            f"held back, Qakbot, {rendering}", cases, data, POSITIVE, "held back", background
        )
        for rendering, cases in sorted(by_rendering.items())
    ]
    sets += _kin(data, "held back")
    sets += [
        _benign(f"held back, administration {number:02d}", program, f"held back/{name}", HELD_BACK)
        for number, (name, program) in enumerate(sorted(data.benign.items()), 1)
    ]
    return sets


def _positive(rendering: str, seed: int, count: int, background: Sequence[Row]) -> LabelledSet:
    chance = _chance(f"{seed}/{rendering}")
    names = list(recipes().sequences)
    rows: list[Row] = []
    bursts = []
    for number in range(count):
        device = Device(
            f"{rendering}-{number:03d}", chance.choice(["user1", "user2", "system"]), chance
        )
        at = BASE + _seconds(chance.uniform(0, 20 * 86_400))
        sequence = recipes().sequences[names[number % len(names)]]
        _burst(device, sequence, rendering, at)
        bursts.append(burst_of(device.name, device.rows))
        rows += device.rows
        rows += _noise(device, background, at, chance)
    rows.sort(key=lambda row: row["Timestamp"].ticks)
    return LabelledSet(
        f"generated, {rendering}", "qakbot", "modelled", _SOURCE, rows, rendering,
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
        device = Device(f"{name}-{rendering}-{number:03d}", "user1", chance)
        at = BASE + _seconds(chance.uniform(0, 20 * 86_400))
        loader = device.process("rundll32.exe", "rundll32.exe x.dll,#1", SYSTEM32, at)
        host = chance.choice(behaviour.parents)
        parent = device.process(host, host, SYSTEM32, at, loader)
        for issued in variants[number % len(variants)]:
            # A line of cmd.exe's own is its wrapper already.
            family = "env_set" if issued.startswith("cmd") else ""
            _command(device, parent, family, issued, rendering, at)
            at = at + _seconds(chance.uniform(0.1, 2))
        bursts.append(burst_of(device.name, device.rows))
        rows += device.rows
    return LabelledSet(
        f"generated, {name}, {rendering}", "qakbot", "modelled", _MODEL, rows, rendering,
        behaviour.about, name, tuple(bursts),
    )  # fmt: skip


def _burst(device: Device, sequence: Order, rendering: str, at: Instant) -> None:
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


def _issuer(device: Device, sequence: Order, rendering: str, at: Instant) -> Process:
    chance = device.chance
    long_ago = at - _seconds(chance.uniform(60, 5000))
    loader = device.process("regsvr32.exe", "regsvr32.exe -s calc.dat", SYSTEM32, long_ago)
    file = chance.choice(sequence.parents)
    host = device.process(file, file, sequence.folder, long_ago + _seconds(20), loader)
    return _shell(device, host, rendering, at)


def _shell(device: Device, host: Process, via: str, at: Instant) -> Process:
    """The shell that the host starts to run the commands, else the host itself."""
    if via == "batch":
        line = 'cmd.exe /c ""C:\\ProgramData\\list.bat" "'
        return device.start(at - _seconds(0.2), "cmd.exe", line, host)
    if via == "powershell":
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
    device: Device, issuer: Process, family: str, issued: str, rendering: str, at: Instant
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
    device: Device, background: Sequence[Row], at: Instant, chance: random.Random
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


def _kin(data: Bursts, seed: str) -> list[LabelledSet]:
    """The bursts of other malware, a set for each."""
    start = "held back" if data.split == HELD_BACK else "modelled"
    return [
        _intrusions(f"{start}, kin {number:02d}", [(name, case)], data, KIN, seed)
        for number, (name, case) in enumerate(sorted(data.kin.items()), 1)
    ]


def _rendering(case: Intrusion) -> str:
    return case.rendering or ("renamed" if case.rename else case.via)


def _intrusions(
    title: str,
    cases: Sequence[tuple[str, Intrusion]],
    data: Bursts,
    label: Label,
    seed: str,
    background: Sequence[Row] = (),
) -> LabelledSet:
    """Bursts of one rendering or one kind of malware, a device for each."""
    rows: list[Row] = []
    bursts = []
    for number, (name, case) in enumerate(cases):
        chance = _chance(f"{seed}/{name}")
        account = "system" if case.account == "system" else "user1"
        key = title.replace(", ", "-").replace(" ", "-").lower()
        device = Device(f"{key}-{number:02d}", account, chance)
        at = BASE + _seconds(chance.uniform(0, 20 * 86_400))
        _intrude(device, case, data.orders[case.order].steps if case.order else case.steps, at)
        bursts.append(burst_of(device.name, device.rows))
        rows += device.rows
        rows += _noise(device, background, at, chance)
    rows.sort(key=lambda row: row["Timestamp"].ticks)
    first = cases[0][1]
    return LabelledSet(
        title, label, "modelled", first.source or _SOURCE, rows, _rendering(first),
        first.about, bursts=tuple(bursts), split=data.split,
        malware=first.malware if label == KIN else "",
    )  # fmt: skip


def _intrude(device: Device, case: Intrusion, steps: Sequence[str], at: Instant) -> None:
    chance = device.chance
    loader = _ancestor(device, case.by, at - _seconds(chance.uniform(60, 5000)))
    began = at - _seconds(20)
    host = device.process(case.parent, case.line or case.parent, case.folder, began, loader)
    by = _shell(device, host, case.via, at)
    domain = chance.choice(["contoso.example", "corp.fabrikam.example", _WORKGROUP])
    whole = chance.uniform(*case.seconds)
    offsets = [0.0, *sorted(chance.uniform(0.03, whole) for _ in steps[1:])]
    copies: dict[str, str] = {}
    for offset, step in zip(offsets, steps, strict=True):
        when = at + _seconds(offset)
        if case.via == "issuers":
            by = device.start(when - _seconds(0.02), host.file, host.line, loader, host.folder)
        _issue(device, by, step.replace("{domain}", domain), case, when, copies)


_WRAPPED: dict[str, tuple[tuple[str, str], ...]] = {
    "cmd": (("cmd.exe", "cmd.exe /c {}"),),
    "start": (("cmd.exe", "cmd.exe /c start /b {}"),),
    "conhost": (("conhost.exe", "conhost.exe --headless cmd /c {}"), ("cmd.exe", "cmd /c {}")),
    "forfiles": (
        ("forfiles.exe", 'forfiles.exe /p c:\\windows\\system32 /m notepad.exe /c "cmd /c {hex}"'),
        # forfiles does not hand on the first word (Sigma: forfiles child process masquerading).
        ("cmd.exe", "/c {}"),
    ),
    "powershell-in-cmd": (
        ("cmd.exe", 'cmd.exe /c powershell -nop -c "{}"'),
        ("powershell.exe", 'powershell  -nop -c "{}"'),
    ),
    "cmd-in-powershell": (
        ("powershell.exe", 'powershell.exe -nop -c "cmd /c {}"'),
        ("cmd.exe", '"cmd.exe" /c {}'),
    ),
}
"""The processes around a command, outermost first, with their lines."""

_TEXT = {
    "direct": "direct", "issuers": "direct", "powershell": "powershell",
    "powershell-direct": "powershell", "powershell-in-cmd": "powershell",
}  # fmt: skip


_SHELLED = ("cmd", "conhost", "forfiles", "cmd-in-powershell")
"""Ways whose innermost wrapper runs a command of cmd.exe's own by itself."""


def _issue(
    device: Device, by: Process, step: str, case: Intrusion, at: Instant, copies: dict[str, str]
) -> None:
    """One command in its wrappers, its own process, and the net1 that a net starts.

    ``copies`` are the names that copies of programs have got so far.
    """
    via = case.via
    if via in _SHELLED:
        step = step.removeprefix("cmd /c ")
    file = _file_of(step)
    internal = file.removesuffix(".exe") in _INTERNAL
    name = file
    if case.rename and not internal:
        name = copies.setdefault(file, f"{case.rename}{len(copies) + 1}.exe")
    if name != file:
        step = " ".join([name.removesuffix(".exe"), *step.split(" ")[1:]])
    for shell, line in _WRAPPED.get(via, ()):
        text = line.format(step, hex=step.replace('"', "0x22"))
        by = device.start(at, shell, text, by)
        at = at + _seconds(0.02)
    if not internal:
        _program(device, by, step, _TEXT.get(via, "cmd"), at, file)


def _file_of(step: str) -> str:
    return step.replace('"', "").split()[0].lower().removesuffix(".exe") + ".exe"


def _program(
    device: Device, by: Process, step: str, rendering: str, at: Instant, file: str
) -> None:
    """The process of a command, and the net1 that a net starts.

    ``file`` is what the program is by its version information.
    """
    name = _file_of(step)
    renamed = name != file
    line = step if step.startswith('"') else rendered(step, rendering)
    made = device.start(
        at,
        name,
        line,
        by,
        "C:\\ProgramData\\Oweboiqnb" if renamed else SYSTEM32,
        _ORIGINAL.get(file, file) if renamed else "",
    )
    words = step.split()
    if file == "net.exe" and len(words) > 1 and words[1].lower() in _NET1:
        gap = "  " if rendering in ("cmd", "batch") else " "
        rest = step.partition(" ")[2]
        device.start(at + _seconds(0.015), "net1.exe", f"net1{gap}{rest}", made)


def _ancestor(device: Device, line: str, began: Instant) -> Process:
    """A process that is known by its line alone."""
    file = line.replace('"', "").split()[0]
    return device.process(file, line, SYSTEM32, began)


def _benign(title: str, program: Program, seed: str, split: Split = TUNING) -> LabelledSet:
    chance = _chance(seed)
    rows: list[Row] = []
    key = title.partition(", ")[2].replace(" ", "-")
    for number in range(3):
        account = "system" if program.account == "system" else "user1"
        device = Device(f"{key}-{number}", account, chance)
        first = BASE + _seconds(chance.uniform(0, 2 * 86_400))
        ancestor = _ancestor(device, program.by, first)
        for round_ in range(program.repeats):
            at = first + _seconds(round_ * program.every * 3600)
            parent = device.process(program.parent, program.line, program.folder, at, ancestor)
            for step in program.steps:
                _run(device, parent, step, program.via, at)
                at = at + _seconds(program.gap * chance.uniform(0.7, 1.3))
        rows += device.rows
    return LabelledSet(
        title, "benign", "modelled", program.source or _MODEL, rows, about=program.about,
        split=split,
    )  # fmt: skip


def _run(device: Device, parent: Process, step: str, via: str, at: Instant) -> None:
    """One command of a program; one that begins with cmd /c has a shell of its own."""
    by, rendering = parent, via
    if via == "cmd" or step.startswith("cmd /c "):
        step = step.removeprefix("cmd /c ")
        by, rendering = device.start(at, "cmd.exe", f"cmd.exe /c {step}", parent), "cmd"
        if step.split()[0] in _INTERNAL:
            return
    _program(device, by, step, rendering, at + _seconds(0.01), _file_of(step))


def _administrators(seed: int) -> Iterator[LabelledSet]:
    """People who run three of the commands by hand: every choice of three, in each shell."""
    # A command typed into cmd.exe has no wrapper; its text is a batch file's.
    shells = {
        "cmd": ("cmd.exe", '"cmd.exe" ', "batch"),
        "powershell": ("powershell.exe", "powershell.exe -NoExit", "powershell"),
        "explorer": ("explorer.exe", "Explorer.EXE", "direct"),
    }
    issued = {name: family.issued[0] for name, family in families().families.items()}
    for name, (file, line, rendering) in shells.items():
        chance = _chance(f"{seed}/administrator/{name}")
        rows: list[Row] = []
        for number, chosen in enumerate(combinations(issued, 3)):
            device = Device(f"admin-{name}-{number:03d}", "adm-hale", chance)
            at = BASE + _seconds(chance.uniform(0, 20 * 86_400))
            logon = device.process("userinit.exe", "userinit.exe", SYSTEM32, at)
            shell = device.process(file, line, "C:\\Windows", at, logon)
            for family in chosen:
                at = at + _seconds(chance.uniform(4, 150))
                _command(device, shell, family, issued[family], rendering, at)
            rows += device.rows
        yield LabelledSet(
            f"modelled, three commands in {file}", "benign", "modelled", _MODEL, rows,
            about=f"An administrator runs three of the commands from {file}; every choice of three",
        )  # fmt: skip


def _chance(seed: str) -> random.Random:
    """Not for secrecy: the same seed draws the same."""
    return random.Random(seed)  # noqa: S311


def _seconds(seconds: float) -> Timespan:
    return Timespan(round(seconds * 10_000_000))
