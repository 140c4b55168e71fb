"""The page docs/reference/s0650.md: each technique, its hunt or reason, and public rules.

``RULES`` retells the conditions of public rules in Python, so that they can be counted on
the same chains; the rules themselves are not copied.
"""

from __future__ import annotations

import re
from collections import defaultdict
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.schema import SENTINEL
from qakhunt.kql.values import Instant
from qakhunt.reports.software import coverage_of
from qakhunt.testing.cases import Clock, build_tables, cases_beside, load_suite
from qakhunt.testing.chains import FILES, chains_of, rows_of
from qakhunt.testing.evidence import evidence_of, kin_of, raised_of, recall_of
from qakhunt.testing.generator import held_back
from qakhunt.testing.labelled import KIN, LABELS, POSITIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qakhunt.testing.chains import Chains
    from qakhunt.testing.evaluation import Share

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


def _onenote(row: dict[str, Any]) -> bool:
    """The rule names 40 programs; of those, the chains have shells, script hosts and loaders."""
    started = _file(row) in {*_PARENTS, "msiexec.exe", "regsvr32.exe", "rundll32.exe"}
    return _file(row, "InitiatingProcessFileName") == "onenote.exe" and started


RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    f"{_SIGMA}_rundll32_execution": lambda row: _rundll(row) and ".dll" in _line(row),
    f"{_SIGMA}_rundll32_exports": lambda row: _rundll(row) and _line(row).endswith(_EXPORTS),
    f"{_SIGMA}_rundll32_fake_dll_execution": lambda row: _rundll(row) and ".dll" not in _line(row),
    f"{_SIGMA}_regsvr32_calc_pattern": _calc,
    "Sigma proc_creation_win_regsvr32_susp_parent (any regsvr32 that a script or shell starts)": _by_script,
    "WA SOC S0650 - Qakbot: Process executions": _wa_soc,
    "Azure-Sentinel Excel launching anomalous processes": _excel,
    "Sigma proc_creation_win_office_onenote_susp_child_processes": _onenote,
    "Sigma proc_creation_win_msiexec_web_install": lambda row: (
        " msiexec" in _line(row) and "://" in _line(row)
    ),
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


Row = dict[str, Any]
_PIPE = re.compile(
    r"\\\{[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{8}", re.IGNORECASE
)
_PIPE_HOSTS = {
    "calc.exe", "notepad.exe", "rdpclip.exe", "explorer.exe", "wermgr.exe", "ping.exe",
    "onedrivesetup.exe", "dxdiag.exe", "mobsync.exe", "msra.exe", "xwizard.exe",
}  # fmt: skip


def _any(text: str, *words: str) -> bool:
    return any(word in text for word in words)


def _pipe(row: Row) -> bool:
    name = (row.get("AdditionalFields") or {}).get("PipeName", "")
    return _file(row, "InitiatingProcessFileName") in _PIPE_HOSTS and bool(_PIPE.search(name))


def _hollowing(row: Row) -> bool:
    hosts = ("wermgr.exe", "sndvol.exe", "wwahost.exe", "searchprotocolhost.exe")
    return _file(row, "InitiatingProcessFileName") == "rundll32.exe" and _file(row) in hosts


def _task(row: Row) -> bool:
    line = f"{_line(row)} "
    timed = _any(line, " onlogon ", " onstart ", " once ", " onidle ")
    return _file(row) == "schtasks.exe" and timed and _any(line, "nt aut", " system", "highest")


def _esentutl(row: Row) -> bool:
    line = _line(row)
    named = row.get("FileName") == "esentutl.exe"  # the rule compares with ==
    return named and "webcache" in line and _any(line, " v01", "/s", "/d")


def _eml(row: Row) -> bool:
    by_ping = _file(row, "InitiatingProcessFileName") == "ping.exe"
    return by_ping and _file(row).endswith(".eml")


def _excluded_key(row: Row) -> bool:
    written = row.get("ActionType") == "RegistryValueSet"
    key = str(row.get("RegistryKey", "")).lower()
    return written and "\\microsoft\\windows defender\\exclusions" in key


def _excluded_by_powershell(row: Row) -> bool:
    line = _line(row)
    asked = _any(line, "add-mppreference ", "set-mppreference ")
    return asked and _any(line, " -exclusionpath ", " -exclusionextension ", " -exclusionprocess ")


def _service(row: Row) -> bool:
    image = str(row.get("ProcessCommandLine") or "").lower()
    installed = row.get("ActionType") == "ServiceInstalled"
    return (
        installed
        and _any(image, " -c ", " -r ", " -k ", " /c ", " /r ", " /k ")
        and _any(image, "cscript", "mshta", "powershell", "pwsh", "regsvr32", "rundll32", "wscript")
    )


def _payload_in_registry(row: Row) -> bool:
    line = _line(row)
    named = "schtasks.exe" in (_file(row), _file(row, "ProcessVersionInfoOriginalFileName"))
    encoded = _any(line, "frombase64string", "encodedcommand")
    read = _any(line, "get-itemproperty", " gp ")
    return (
        named and "/create" in line and encoded and read and _any(line, "hkcu:", "hklm:", "hkey_")
    )


def _run_key(row: Row) -> bool:
    """Of the rule's filters, none is about a value that a case has."""
    path = f"{row.get('RegistryKey', '')}\\{row.get('RegistryValueName', '')}".lower()
    below = "\\software\\microsoft\\windows\\currentversion" in path
    written = row.get("ActionType") == "RegistryValueSet"
    return written and below and _any(path, "\\run\\", "\\runonce\\")


def _wmi_elsewhere(row: Row) -> bool:
    """The cases name no file: the line's first word stands for it."""
    line = _line(row)
    named = line.split(" ")[0] in ("wmic", "wmic.exe")
    return named and "/node:" in line and not _any(line, "/node:127.0.0.1 ", "/node:localhost ")


_NOT_OUTSIDE = [
    ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fe80::/10", "fc00::/7", "20.0.0.0/8", "51.103.0.0/16", "51.104.0.0/16",
        "51.105.0.0/16",
    )
]  # fmt: skip


def _rundll_outside(row: Row) -> bool:
    if _file(row, "InitiatingProcessFileName") != "rundll32.exe" or not row.get("RemoteIP"):
        return False
    address = ip_address(row["RemoteIP"])
    return not any(address in network for network in _NOT_OUTSIDE)


CASE_RULES: dict[str, dict[str, tuple[str, Callable[[Row], bool]]]] = {
    "qakbot-injection": {
        "Splunk Windows App Layer Protocol Qakbot NamedPipe": ("DeviceEvents", _pipe),
        "Sigma proc_creation_win_malware_pikabot_rundll32_hollowing": (
            "DeviceProcessEvents", _hollowing,
        ),
    },
    "qakbot-persistence": {
        "Sigma proc_creation_win_schtasks_schedule_type_system": ("DeviceProcessEvents", _task),
        "Sigma proc_creation_win_schtasks_reg_loader_encoded": (
            "DeviceProcessEvents", _payload_in_registry,
        ),
        "Sigma registry_set_asep_reg_keys_modification_currentversion": (
            "DeviceRegistryEvents", _run_key,
        ),
    },
    "qakbot-network": {
        "Sigma net_connection_win_rundll32_net_connections": (
            "DeviceNetworkEvents", _rundll_outside,
        ),
    },
    "qakbot-follow-up": {
        "Sigma proc_creation_win_wmic_remote_execution": ("DeviceProcessEvents", _wmi_elsewhere),
    },
    "qakbot-collection": {
        "Azure-Sentinel qakbot-campaign-esentutl": ("DeviceProcessEvents", _esentutl),
        "Azure-Sentinel Qakbot email theft": ("DeviceFileEvents", _eml),
    },
    "qakbot-defender-settings": {
        "Sigma registry_set_defender_exclusions": ("DeviceRegistryEvents", _excluded_key),
        "Sigma proc_creation_win_powershell_defender_exclusion": (
            "DeviceProcessEvents", _excluded_by_powershell,
        ),
    },
    "qakbot-lateral-service": {
        "Sigma win_system_susp_service_installation_script (its event as ServiceInstalled)": (
            "DeviceEvents", _service,
        ),
    },
}  # fmt: skip
"""Hunt -> public rule -> the table that it reads, and its condition on a row."""


_ASKED = re.compile(
    r"(?<![a-z0-9])(?:whoami /all|cmd /c set|arp -a|ipconfig /all|net view /all|"
    r"nslookup -querytype=all -timeout=10|net share|route print|netstat -nao|net localgroup)"
    r"(?![a-z0-9])"
)
BURST = "qakbot-recon-burst"


def _eight_programs(rows: Iterable[Row]) -> bool:
    """One bare-named process asks by eight programs on one day."""
    programs: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in rows:
        issuer = str(row.get("InitiatingProcessFileName", ""))
        if issuer == row.get("InitiatingProcessCommandLine") and _ASKED.search(_line(row)):
            day = str(row["Timestamp"])[:10]
            programs[row["DeviceId"], day, issuer].add(str(row["FileName"]))
    return any(len(names) >= 8 for names in programs.values())


def _asks_by_wmic(rows: Iterable[Row]) -> bool:
    def holds(row: Row) -> bool:
        named = (_file(row), _file(row, "ProcessVersionInfoOriginalFileName"))
        words = _line(row).replace('"', "").split()
        return "wmic.exe" in named and {"/namespace:\\\\root\\securitycenter2", "get"} <= {*words}

    return any(map(holds, rows))


SEQUENCE_RULES: dict[str, Callable[[Iterable[Row]], bool]] = {
    "Azure-Sentinel Qakbot reconnaissance activities": _eight_programs,
    "Elastic discovery_security_software_wmic": _asks_by_wmic,
}
"""Public rule -> its condition on the rows of a device."""

NOT_COUNTED = {
    "Elastic defense_evasion_suspicious_execution_from_mounted_device": "it reads a process's "
    "working directory, which no table of Defender has",
    "Elastic initial_access_evasion_suspicious_htm_file_creation": "it reads the size and entropy "
    "of the page; the published chains name the page, not its size",
}
"""Public rule -> why its condition cannot be judged on our rows."""


def on_sequences() -> list[tuple[str, ...]]:
    """The hunt and each rule: held-back sequences found, by what issued them."""
    devices: dict[str, dict[str, list[Row]]] = {POSITIVE: {}, KIN: {}, "benign": {}}
    for one in held_back():
        bursts = {burst.device for burst in one.bursts}
        for row in one.rows:
            # An administrator's sequence is a set: alerts on its devices are one.
            name = row["DeviceId"] if row["DeviceId"] in bursts else one.name
            if bursts and name == one.name:
                continue
            devices[one.label].setdefault(name, []).append(row)
    found = evidence_of(Catalog().find(BURST)[0])
    rows = [] if found is None else [(f"`{BURST}`", *map(_of, _burst_shares(found["hunts"][0])))]
    for rule, holds in SEQUENCE_RULES.items():
        counts = [f"{sum(map(holds, of.values()))} of {len(of)}" for of in devices.values()]
        rows.append((rule, *counts))
    return rows


def _burst_shares(hunt: dict[str, Any]) -> list[Share]:
    recall = recall_of(hunt, split="held-back").values()
    kin = kin_of(hunt, split="held-back").values()
    first, second = (sum(list(shares)[1:], next(iter(shares))) for shares in (recall, kin))
    return [first, second, raised_of(hunt, "benign", split="held-back")]


def _of(share: Share) -> str:
    return f"{share.found} of {share.tried}"


def on_cases(hunt: str) -> list[tuple[str, str, str]]:
    """Rule, the hunt's firing cases with such rows that it finds, silent cases it alerts on."""
    catalog = Catalog()
    (found,) = catalog.find(hunt)
    suite = load_suite(cases_beside(found), catalog)
    firing = {rule: [0, 0] for rule in CASE_RULES[hunt]}
    silent = {rule: [0, 0] for rule in CASE_RULES[hunt]}
    for case in suite.cases:
        if "ExcludedParents" in case.parameters:
            continue
        window = render(found, now=case.now, window=case.window).window
        tables = build_tables(case, SENTINEL.name, Clock(case.now, window))
        counts = silent if case.expect.none else firing
        for rule, (table, holds) in CASE_RULES[hunt].items():
            rows = tables.get(table)
            if rows:
                counts[rule][0] += any(map(holds, rows))
                counts[rule][1] += 1
    return [
        (rule, f"{firing[rule][0]} of {firing[rule][1]}", f"{silent[rule][0]} of {silent[rule][1]}")
        for rule in CASE_RULES[hunt]
    ]


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
        "[published process lists](https://github.com/pr0xylife/Qakbot), rebuilt in "
        "`qakhunt/data/chains.yaml`; every third one is held back from tuning, in a file whose hash "
        "was committed before the first hunt for chains. One source for all of them, and one "
        "author of hunts and rebuild: they show what a rule's condition misses, not how often it "
        "fires on a company's devices.\n\n"
        "| Rule | for tuning | held back |\n|---|---|---|\n"
        + "\n".join(_compared())
        + "\n\nA rule's condition is retold in `tests/golden/s0650.py` and counted on the same rows. "
        "The last line of Sigma fires on every registration that a batch file makes, too; the "
        "hunt asks for more signs there.\n\n"
        "## On the same cases\n\n"
        "The hunts' own test cases (`queries/tests/`) with rows of the rule's table: those in which "
        "the hunt fires, and those in which it must stay silent. The hunt itself finds all of the "
        "first and none of the second, since they are its cases.\n\n"
        "| Hunt | Rule | firing cases found | silent cases with an alert |\n|---|---|---|---|\n"
        + "\n".join(
            f"| `{hunt}` | {' | '.join(row)} |" for hunt in CASE_RULES for row in on_cases(hunt)
        )
        + "\n\n## On the same sequences\n\n"
        "The sequences of commands that are held back from tuning "
        "(`qakhunt/data/held_back.yaml`), modelled on reports and published scripts: those in "
        "which a rule fires.\n\n"
        f"| Rule | {LABELS[POSITIVE]} | {LABELS[KIN]} | {LABELS['benign']} |\n|---|---|---|---|\n"
        + "\n".join(f"| {' | '.join(row)} |" for row in on_sequences())
        + "\n\nThe rule of Azure-Sentinel asks for a process whose line is its bare name and eight "
        "programs on one day, so that a wrapper around each command or a rendering with other "
        "arguments hides them; in return it is silent on administration. Elastic's is a building "
        "block, one sign among others.\n\n"
        "## Not counted\n\n"
        + "\n".join(f"- {rule}: {reason}." for rule, reason in NOT_COUNTED.items())
        + "\n"
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
