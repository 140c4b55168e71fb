"""The page docs/reference/s0650.md: each technique, its hunt or reason, and public rules.

``RULES`` retells the conditions of public rules in Python, so that they can be counted on
the same chains; the rules themselves are not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.hunts.catalog import Catalog
from qakhunt.kql.values import Instant
from qakhunt.reports.software import coverage_of
from qakhunt.testing.chains import FILES, chains_of, rows_of
from qakhunt.testing.evidence import evidence_of, recall_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.testing.chains import Chains

_PARENTS = {
    "cmd.exe", "cscript.exe", "curl.exe", "mshta.exe", "powershell.exe", "pwsh.exe", "wscript.exe",
}  # fmt: skip
_FOLDERS = (
    ":\\programdata\\", ":\\users\\public\\", "\\appdata\\local\\temp\\", "\\appdata\\roaming\\",
)  # fmt: skip
_EXPORTS = (
    "aslr", "bind", "drawthemeicon", "gg10", "gl70", "jhbvygftr", "kjhbhkjvydrt", "ls88", "motd",
    "n115", "next", "nikn", "print", "qqqb", "qqqq", "rs32", "test", "time", "updt", "vips",
    "wind", "ww50", "x555", "xl55", "xlautoopen", "xs88",
)  # fmt: skip
_SIGMA = "Sigma proc_creation_win_malware_qakbot"
HUNT = "qakbot-delivery-chain"


def _line(row: dict[str, Any]) -> str:
    return str(row["ProcessCommandLine"]).lower()


def _file(row: dict[str, Any], name: str = "FileName") -> str:
    return str(row.get(name, "")).lower()


def _rundll(row: dict[str, Any]) -> bool:
    by_script = _file(row, "InitiatingProcessFileName") in _PARENTS
    return by_script and _file(row) == "rundll32.exe" and any(f in _line(row) for f in _FOLDERS)


def _calc(row: dict[str, Any]) -> bool:
    line = _line(row)
    return (
        _file(row) == "regsvr32.exe" and (" /s" in line or " -s" in line) and line.endswith(" calc")
    )


def _wa_soc(row: dict[str, Any]) -> bool:
    line = _line(row)
    loads = all(word in line for word in ("regsvr32.exe", ".tmp", "c:\\programdata"))
    return loads or "/c ping.exe -n 6 127.0.0.1 & type" in line


def _excel(row: dict[str, Any]) -> bool:
    names = (_file(row, "InitiatingProcessFileName"), _file(row, "InitiatingProcessParentFileName"))
    loader = _file(row) in ("regsvr32.exe", "rundll32.exe")
    return loader and "excel.exe" in names and "..\\" in _line(row)


def _by_script(row: dict[str, Any]) -> bool:
    parents = _PARENTS - {"curl.exe"} | {"powershell_ise.exe"}
    return _file(row) == "regsvr32.exe" and _file(row, "InitiatingProcessFileName") in parents


RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    f"{_SIGMA}_rundll32_execution": lambda row: _rundll(row) and ".dll" in _line(row),
    f"{_SIGMA}_rundll32_exports": lambda row: _rundll(row) and _line(row).endswith(_EXPORTS),
    f"{_SIGMA}_rundll32_fake_dll_execution": lambda row: _rundll(row) and ".dll" not in _line(row),
    f"{_SIGMA}_regsvr32_calc_pattern": _calc,
    "Sigma proc_creation_win_regsvr32_susp_parent (any regsvr32 that a script or shell starts)": _by_script,
    "WA SOC S0650 - Qakbot: Process executions": _wa_soc,
    "Azure-Sentinel Excel launching anomalous processes": _excel,
}  # fmt: skip
"""Public rule -> its condition on one row of DeviceProcessEvents."""


def found_by_rules(chains: Chains) -> dict[str, set[str]]:
    """Rule -> the chains that it fires on."""
    found: dict[str, set[str]] = {rule: set() for rule in RULES}
    for name, chain in chains.chains.items():
        for row in rows_of(name, chain, Instant.parse("2026-10-05T00:00:00Z")):
            for rule, holds in RULES.items():
                if holds(row):
                    found[rule].add(name)
    return found


def page() -> str:
    """The whole page."""
    listed = coverage_of("S0650", Catalog().all())
    rows = [
        f"| [{t.id}](https://attack.mitre.org/techniques/{t.id.replace('.', '/')}/) {t.name} | "
        f"{', '.join(f'`{hunt}`' for hunt in t.hunts) or t.gap} | {t.table} | {t.closest or '-'} |"
        for t in listed.techniques
    ]
    return (
        "# S0650: what is hunted\n\n"
        f"[{listed.name} (S0650)]({listed.page}) has {len(listed.techniques)} techniques in ATT&CK "
        f"{listed.version}; {listed.hunted} of them are hunted. `qakhunt run s0650` runs the hunts "
        "for behaviour together, `qakhunt hunts coverage --software S0650` shows this list beside "
        "the hunts of your machine. A hunt that needs a table which a workspace lacks makes its "
        "line uncovered, never clean.\n\n"
        "| Technique | Hunts, or why there is none | Table | Closest public rule |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n## On the same chains\n\n"
        "The chains are those of "
        "[published process lists](https://github.com/pr0xylife/Qakbot), rebuilt from "
        "`qakhunt/data/chains.yaml`; every third one is held back from tuning, in a file whose hash "
        "was committed before the first hunt for chains. One source for all of them, and one "
        "author of hunts and rebuild: they show what a rule's condition misses, not how often it "
        "fires on a company's devices.\n\n"
        "| Rule | for tuning | held back |\n|---|---|---|\n"
        + "\n".join(_compared())
        + "\n\nA rule's condition is retold in `tests/golden/s0650.py` and counted on the same rows. "
        "The last line of Sigma fires on every registration that a batch file makes, too; the "
        "hunt asks for more signs there.\n"
    )  # fmt: skip


def _compared() -> list[str]:
    tuning, held = (chains_of(name) for name in FILES)
    ours = _ours()
    first, second = found_by_rules(tuning), found_by_rules(held)
    lines = [f"| `{HUNT}` | {ours[0]} | {ours[1]} |"]
    lines += [
        f"| {rule} | {len(first[rule])} of {len(tuning.chains)} | "
        f"{len(second[rule])} of {len(held.chains)} |"
        for rule in RULES
    ]
    together = [len(set().union(*found.values())) for found in (first, second)]
    lines.append(
        f"| all of these public rules | {together[0]} of {len(tuning.chains)} | "
        f"{together[1]} of {len(held.chains)} |"
    )
    return lines


def _ours() -> tuple[str, str]:
    """What 'qakhunt evaluate --record' counted of the hunt."""
    found = evidence_of(Catalog().find(HUNT)[0])
    if found is None:
        return "not measured", "not measured"
    hunt = found["hunts"][0]
    shares = [recall_of(hunt, split=split).values() for split in ("tuning", "held-back")]
    tuning, held = (f"{sum(s.found for s in p)} of {sum(s.tried for s in p)}" for p in shares)
    return tuning, held
