"""A week of scheduled runs over the emulator, with time given, faults and a crash.

Each day the emulator is started on what had arrived by then, and the program itself
runs with that day's ``--now``. What the receivers got is what counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.schedule.coverage import subtract
from qakhunt.testing.emulator.scenario import load_scenario
from qakhunt.testing.emulator.server import Emulator
from tests.support.cli import ROOT, qakhunt
from tests.support.receivers import Answer, Receiver

START = Instant.parse("2026-11-02T06:00:00Z")
HOUR = Timespan.parse("1h")
DAY = Timespan.parse("1d")
ON_TIME = Timespan(0)
CONTOSO = "aaaaaaaa-0000-4000-8000-000000000001"
FABRIKAM = "aaaaaaaa-0000-4000-8000-000000000002"
TAILSPIN = "aaaaaaaa-0000-4000-8000-000000000003"
FIRST = "bbbbbbbb-0000-4000-8000-000000000001"
SECOND = "bbbbbbbb-0000-4000-8000-000000000002"
THIRD = "bbbbbbbb-0000-4000-8000-000000000003"
RULE, STREAM = "dcr-00000000000000000000000000000001", "Custom-QakhuntFindings_CL"
COMMANDS = ("net view", "arp -a", "ipconfig /all", "whoami /all", "route print")
HUNTS = ("qakbot-post-compromise-commands", "short-burst")
SHORT = """
id: 22222222-0000-4000-8000-000000000022
name: Four commands within the window
query: |
  let Start = ago(1h);
  let End = now();
  DeviceProcessEvents
  | where TimeGenerated >= Start and TimeGenerated < End
  | where ProcessCommandLine in ("net view", "arp -a", "ipconfig /all", "whoami /all")
  | summarize CommandLineList = make_set(ProcessCommandLine), FirstSeen = min(TimeGenerated) by DeviceName, AccountName
  | where array_length(CommandLineList) > 3
qakhunt:
  window: {start: Start, end: End}
  lookback: 1h
  fingerprint: [DeviceName, AccountName]
"""
CONFIG = """
[profiles.contoso]
backend = "log-analytics"
tenant = "{CONTOSO}"
workspaces = ["{FIRST}", "{SECOND}"]
log_analytics_endpoint = "{url}"
ca_file = "{ca}"
sign_in = "none"
longest_gap = "60d"  # little happens there but the bursts
[profiles.contoso.limits]
tries = 1
throttled_tries = 1

[profiles.fabrikam]
backend = "defender"
tenant = "{FABRIKAM}"
graph_endpoint = "{url}"
ca_file = "{ca}"
sign_in = "none"
longest_gap = "60d"  # little happens there but the bursts
[profiles.fabrikam.limits]
tries = 1

[profiles.tailspin]
backend = "log-analytics"
tenant = "{TAILSPIN}"
workspaces = ["{THIRD}"]
log_analytics_endpoint = "{url}"
ca_file = "{ca}"
sign_in = "none"
longest_gap = "60d"  # little happens there but the bursts
[profiles.tailspin.limits]
tries = 1

[schedule]
sign_in = "none"
ca_file = "{ca}"

[sinks.hook]
kind = "webhook"
url = "{hook}"

[sinks.table]
kind = "log-analytics"
endpoint = "{url}"
rule = "{RULE}"
"""


@dataclass(frozen=True)
class Burst:
    """A finding to come: where, when it happened, and when its records arrived."""

    place: str
    device: str
    at: Instant
    late: Timespan = ON_TIME
    commands: Sequence[str] = COMMANDS[:4]


@dataclass
class Row:
    """One run of the week, as the table shows it."""

    day: str
    what: str
    verdict: str
    code: int | str
    complete: str
    news: Counter[str]
    owed: int
    lost: int
    delivered: dict[str, str]


@dataclass
class Week:
    """The laboratory: what happened, and what was seen of it."""

    folder: Path
    receiver: Receiver
    bursts: list[Burst] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    answered: dict[tuple[str, ...], list[Window]] = field(default_factory=dict)
    table: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state.db"

    def run(
        self, now: Instant, what: str, *, faults: dict[str, list[dict[str, Any]]] | None = None,
        kill_after: int | None = None,
    ) -> dict[str, Any] | None:  # fmt: skip
        """One scheduled run; ``kill_after`` messages to the webhook the process dies."""
        with self._emulator(now, faults or {}) as emulator:
            self._configure(emulator)
            arguments = [
                "run", *HUNTS, "--all-profiles",
                "--config", str(self.folder / "config.toml"), "--hunts", str(self.folder / "hunts"),
                "--state", str(self.state), "--now", now.isoformat(), "--json", "--heartbeat",
                "--sink", f"file:{self.folder / 'findings.ndjson'}", "--sink", "hook",
                "--sink", "table", "--quiet", "--force", "--out", str(self.folder / "run.json"),
            ]  # fmt: skip
            environment = {"QAKHUNT_WEBHOOK_SECRET": "made-up"}
            if kill_after is None:
                done = qakhunt(*arguments, env=environment)
                code, errors = done.code, done.err
            else:
                code, errors = self._killed(arguments, environment, kill_after)
            self.receiver.answers.clear()
            self.table += [
                row["FindingId"]
                for row in emulator.emulation.ingestion.rows(RULE, STREAM)
                if row["Kind"] == "finding"
            ]
        return self._noted(now, what, code, errors)

    def _killed(
        self, arguments: Sequence[str], environment: dict[str, str], after: int
    ) -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "qakhunt", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.receiver.answers.extend(Answer() for _ in range(after))
        self.receiver.answers.append(
            Answer(act=lambda _handler: os.kill(process.pid, signal.SIGKILL))
        )
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors

    def _noted(self, now: Instant, what: str, code: int, errors: str) -> dict[str, Any] | None:
        day = f"{now.since(START).ticks // DAY.ticks + 1} {now.isoformat()[11:16]}"
        if code < 0:
            signal_name = signal.Signals(-code).name
            self.rows.append(Row(day, what, "-", signal_name, "-", Counter(), 0, 0, {}))
            return None
        assert code in (0, 3, 4, 6), errors
        document: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        for line in document["ledger"]:
            if line["status"] == "complete":
                key = (line["hunt"], line["tenant"], line["workspace"] or "")
                window = Window(
                    Instant.parse(line["window"]["start"]), Instant.parse(line["window"]["end"])
                )
                self.answered.setdefault(key, []).append(window)
        good = sum(line["status"] == "complete" for line in document["ledger"])
        self.rows.append(Row(
            day, what, document["verdict"], code, f"{good}/{len(document['ledger'])}",
            Counter(document["state"]["findings"]), document["state"]["owed"],
            document["state"]["lost"],
            {d["sink"].partition(":")[0]: f"{d['delivered']}/{d['messages']}" for d in document["deliveries"]},
        ))  # fmt: skip
        return document

    @contextlib.contextmanager
    def _emulator(
        self, now: Instant, faults: dict[str, list[dict[str, Any]]]
    ) -> Iterator[Emulator]:
        def tenant(id_: str, workspaces: Sequence[str]) -> dict[str, Any]:
            return {
                "id": id_, "events": [self._events(id_, now)],
                "workspaces": [{"id": w, "events": [self._events(w, now)]} for w in workspaces],
                "faults": faults.get(id_, []),
            }  # fmt: skip

        scenario = {
            "any_token": True, "now": now.isoformat(),
            "tenants": [
                # Whose events Graph shows without a token that names a tenant: the first's.
                tenant(FABRIKAM, []), tenant(CONTOSO, [FIRST, SECOND]), tenant(TAILSPIN, [THIRD]),
            ],
        }  # fmt: skip
        path = self.folder / "scenario.yaml"
        path.write_text(json.dumps(scenario))
        with Emulator(load_scenario(path), tls=True) as emulator:
            yield emulator

    def _configure(self, emulator: Emulator) -> None:
        (self.folder / "hunts").mkdir(exist_ok=True)
        (self.folder / "hunts" / "short-burst.yaml").write_text(SHORT)
        values = {**globals(), "url": emulator.url, "ca": emulator.ca, "hook": self.receiver.url}
        (self.folder / "config.toml").write_text(CONFIG.format(**values))

    def _events(self, place: str, now: Instant) -> str:
        """What the place holds at ``now``: records that had arrived, stamped as it stamps them."""
        path = self.folder / f"{place}.ndjson"
        records = [_record("quiet", now - Timespan(n * 8 * HOUR.ticks + 1), "x") for n in range(90)]
        for burst in self.bursts:
            if burst.place != place:
                continue
            for number, command in enumerate(burst.commands):
                at = burst.at + Timespan(number * 10_000_000)
                arrived = at + burst.late
                if arrived < now:
                    restamped = place != FABRIKAM and burst.late > Timespan(48 * HOUR.ticks)
                    records.append(_record(burst.device, arrived if restamped else at, command))
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(path)

    # What was seen

    def told(self) -> dict[str, list[str]]:
        """Finding ids by receiver, in the order of their arrival."""
        lines = (self.folder / "findings.ndjson").read_text().splitlines()
        return {
            "file": _ids(map(json.loads, lines)),
            "hook": _ids(json.loads(t.body) for t in self.receiver.taken if not t.refused),
            "table": self.table,
        }

    def unlooked(self) -> dict[tuple[str, ...], tuple[Window, ...]]:
        """What no completely answered window held, by hunt and place."""
        last = max(window.end for windows in self.answered.values() for window in windows)
        missing = {}
        for key, windows in self.answered.items():
            first = START - (
                HOUR if key[0] == "short-burst" and key[1] != FABRIKAM else Timespan(30 * DAY.ticks)
            )
            left = subtract([Window(first, last)], windows)
            if left:
                missing[key] = left
        return missing

    def shown(self) -> str:
        """The table of the week."""
        head = ("run", "what happens", "verdict", "exit", "answered", "new", "grown", "known",
                "owed", "lost", "file", "hook", "table")  # fmt: skip
        lines = [head] + [
            (row.day, row.what, row.verdict, str(row.code), row.complete, str(row.news["new"]),
             str(row.news["grown"]), str(row.news["known"]), str(row.owed), str(row.lost),
             *(row.delivered.get(name, "-") for name in ("file", "hook", "table")))
            for row in self.rows
        ]  # fmt: skip
        widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def _record(device: str, at: Instant, command: str) -> dict[str, Any]:
    return {
        "Timestamp": at.isoformat(), "DeviceId": device, "DeviceName": device,
        "AccountName": "user", "FileName": command.split()[0] + ".exe",
        "ProcessCommandLine": command,
    }  # fmt: skip


def _ids(documents: Any) -> list[str]:
    return [d["id"] for d in documents if d["schema"] == "qakhunt.finding/1"]
