"""The emulator's own page: its example loads, and nothing that exists is left out."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, get_args

from qakhunt.testing.emulator.faults import FAULTS
from qakhunt.testing.emulator.scenario import (
    App,
    CallPath,
    FaultRule,
    Limits,
    Scenario,
    Tenant,
    Throttle,
    Workspace,
    load_scenario,
    single_tenant,
)  # fmt: skip
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import process_events, write_events
from tests.support.cli import qakhunt

if TYPE_CHECKING:
    from pathlib import Path

PAGE = files("qakhunt.testing.emulator").joinpath("README.md").read_text(encoding="utf-8")


def test_the_example_scenario_is_served(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "scenario.yaml"
    path.write_text(example)
    write_events(tmp_path / "contoso" / "DeviceProcessEvents.ndjson", process_events(1))
    write_events(tmp_path / "contoso-processes.ndjson", process_events(2))
    loaded = load_scenario(path)
    with Emulator(loaded) as served:
        assert served.ready_line()["workspaces"] == ["bbbbbbbb-0000-4000-8000-000000000001"]
    for model in (Scenario, Tenant, Workspace, Limits, Throttle, FaultRule, App):
        for key in model.__struct_fields__:
            assert re.search(rf"\b{key}:", example), key


def test_the_example_profile_hunts_at_the_emulator(events: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    with Emulator(single_tenant([events])) as served:
        path = tmp_path / "config.toml"
        path.write_text(example.replace("http://127.0.0.1:8443", served.url))
        done = qakhunt(
            "run", "--config", str(path), "--profile", "emulated", "--now", "2026-11-01",
            "--window", "2026-10-01/2026-10-11", "--json",
        )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["verdict"] == "clean"


def test_the_examples_in_python_import_what_exists() -> None:
    examples = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    found: dict[str, object] = {}
    exec("\n".join(re.findall(r"^(?:from|import) .*$", examples, re.MULTILINE)), found)
    assert {"SkippingClock", "Emulator", "load_scenario"} <= found.keys()


def test_every_fault_and_path_is_named() -> None:
    named = set(re.findall(r"`([\w-]+)`", PAGE))
    assert {n for n in FAULTS if not n.startswith("AADSTS")} <= named
    assert set(get_args(CallPath)) <= named
