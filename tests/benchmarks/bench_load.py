"""Fifty profiles of twelve slices each, against the emulator at 200 ms an answer.

The wall time as a ratio to the ideal given the concurrency of the one identity
(calls x latency / concurrency).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.backends.profile import Limits, Profile
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.run.execution import execute
from qakhunt.run.live import LiveBackends, targets_of
from qakhunt.run.plan import PlanLine
from qakhunt.run.settings import ProfileSettings
from qakhunt.run.slicing.strategies import read_slices
from tests.benchmarks.table import Row
from tests.support.events import FOUR, event, write_ndjson

if TYPE_CHECKING:
    from collections.abc import Iterator

LATENCY = 0.2
CONCURRENCY = 5
NOW = Instant.parse("2026-11-05T09:00:00Z")


def guid(kind: str, number: int) -> str:
    """A made-up id: ``a`` for tenants, ``b`` for workspaces."""
    return f"{kind * 8}-0000-4000-8000-{number:012d}"


def scenario(events: Path, profiles: int) -> str:
    """A tenant with one workspace per profile, each as slow as the others."""
    tenants = [
        {
            "id": guid("a", n), "latency": LATENCY, "events": [str(events)],
            "workspaces": [{"id": guid("b", n), "events": [str(events)]}],
        }
        for n in range(1, profiles + 1)
    ]  # fmt: skip
    return json.dumps({"now": str(NOW), "any_token": True, "tenants": tenants})


def profile(url: str, number: int) -> ProfileSettings:
    """A profile of the emulator; all of them are one identity."""
    limits = Limits(concurrency=CONCURRENCY, calls=100_000, per_seconds=1.0)
    made = Profile(
        backend="log-analytics", tenant=guid("a", number), workspaces=[guid("b", number)],
        sign_in="none", log_analytics_endpoint=url, limits=limits,
    )  # fmt: skip
    return ProfileSettings(f"p{number}", made, {})


def rows(profiles: int = 50, slices: int = 12) -> Iterator[Row]:
    """Serve and run."""
    with tempfile.TemporaryDirectory(prefix="qakhunt-bench-") as folder:
        events = write_ndjson(Path(folder) / "e.ndjson", [event(command) for command in FOUR])
        path = Path(folder) / "scenario.yaml"
        path.write_text(scenario(events, profiles), encoding="utf-8")
        command = [sys.executable, "-m", "qakhunt", "emulate", "--scenario", str(path)]
        server = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            yield measure(url, profiles, slices)
        finally:
            server.terminate()
            server.wait()


def measure(url: str, profiles: int, slices: int) -> Row:
    """Warm the emulator's engines, then run the whole plan once."""
    rendered = render(Catalog().find("qakbot-post-compromise-commands")[0], now=NOW)
    live = LiveBackends(NOW)
    try:
        chosen = [profile(url, n) for n in range(1, profiles + 1)]
        backends = [live.open(settings) for settings in chosen]
        wish = read_slices(f"devices:{slices}")
        plan = [
            PlanLine(rendered, backend, target, wish)
            for settings, backend in zip(chosen, backends, strict=True)
            for target in targets_of(settings)
        ]
        execute(plan)
        started = time.perf_counter()
        result = execute(plan)
        wall = time.perf_counter() - started
    finally:
        live.close()
    calls = sum(line.attempts for line in result.ledger.lines)
    ideal = calls * LATENCY / CONCURRENCY
    hits = f"{len(result.hits)} hits, {result.verdict.value}"
    note = f"{profiles} x {slices} slices, {calls} calls, {hits}"
    return Row(
        "run many profiles", "calls x latency / concurrency", wall, ideal, wall / ideal, 1.15, note
    )
