"""The first minutes with the program: help, completion, configuration, a hunt of one's own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qakhunt.cli.app import COMMANDS
from qakhunt.run.config import load_config
from tests.support.cli import ROOT, qakhunt
from tests.support.events import FOUR, event, write_ndjson

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
WORKSPACE = "bbbbbbbb-0000-4000-8000-000000000001"
GROUPS = {
    "hunts": ("list", "show", "new", "lint", "coverage", "export", "import"),
    "config": ("init", "example", "show", "schema"),
    "state": ("show", "check", "reset", "prune"),
    "suppress": ("add", "list"),
    "runbook": ("build",),
}
CONFIG = f"""\
[groups]
emea = ["one"]
[sinks.spool]
kind = "file"
path = "spool.ndjson"
[profiles.one]
backend = "defender"
tenant = "{TENANT}"
[profiles.other]
backend = "defender"
tenant = "{TENANT}"
"""


def panels(*command: str) -> dict[str, str]:
    """Heading of each panel of a command's help -> its text."""
    done = qakhunt(*command, "--help", env={"COLUMNS": "80"})
    assert done.code == 0, done.err
    assert all(len(line) <= 80 for line in done.out.splitlines())
    found = re.findall(r"╭─ (.+?) ─+╮\n(.*?)╰─", done.out, re.DOTALL)
    return dict(found)


# Help


def test_help_is_grouped_by_what_an_option_is_about() -> None:
    found = panels("run")
    for heading, options in {
        "Target": ("--backend", "--profile", "--recording"),
        "Events": ("--events", "--strict"),
        "Parameters": ("--command", "--set"),
        "Window": ("--window", "--now"),
        "Execution": ("--slice", "--deadline", "--dry-run"),
        "Context": ("--context",),
        "Output": ("--format", "--fail-on-hits"),
        "Schedule": ("--state", "--sink"),
    }.items():
        for option in options:
            assert f"│ {option} " in found[heading]
    assert set(panels()) >= {"Hunting", "Results", "Setup", "Detection engineering"}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in GROUPS])
def test_a_command_of_many_options_leaves_few_without_a_panel(command: str) -> None:
    found = panels(command)
    options = [
        line for line in "".join(found.values()).splitlines() if re.match(r"│ [* ] *-", line)
    ]
    loose = [line for line in found["Options"].splitlines() if re.match(r"│ [* ]*-", line)]
    assert len(loose) < 6 or len(options) < 8


def test_help_has_no_markup_and_every_command_explains_itself() -> None:
    """Rich would swallow what stands in brackets, and stop at a bracket that closes nothing."""
    from typer.main import get_command

    from qakhunt.cli.app import app

    def walk(command: Any) -> None:
        assert command.help
        for parameter in command.params:
            assert "[" not in (parameter.help or ""), parameter.name
            assert parameter.help or parameter.name == "help", (command.name, parameter.name)
        for name in getattr(command, "commands", ()):
            walk(command.commands[name])

    group: Any = get_command(app)
    for name in COMMANDS:
        command = group.get_command(None, name)
        walk(command)
        if name in GROUPS:
            assert set(command.commands) == set(GROUPS[name])


@pytest.mark.parametrize("arguments", [["--version"], ["render"]])
def test_what_prints_no_help_loads_no_rich(arguments: list[str]) -> None:
    code = (
        "import sys; from qakhunt.__main__ import run\n"
        f"try: run({arguments!r})\nexcept BaseException: pass\n"
        "print('rich' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "False"


# Completion


def completed(words: str, folder: Path, **environment: str) -> list[str]:
    """What bash is offered for the last word of a line, by its real protocol."""
    env = {
        "_QAKHUNT_COMPLETE": "complete_bash", "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1), "XDG_CONFIG_HOME": str(folder), **environment,
    }  # fmt: skip
    done = qakhunt(cwd=folder, env=env)
    assert (done.code, done.err) == (0, "")
    return done.out.split()


def test_completion_offers_what_an_option_can_be(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "mine.kql").write_text("DeviceProcessEvents", encoding="utf-8")
    for words, expected in (
        ("run qakbot-recon", ["qakbot-recon-burst", "qakbot-recon-injected-parent"]),
        ("render qakbot", ["qakbot-post-compromise-commands", "qakbot"]),
        ("diff qakbot-recon-b", ["qakbot-recon-burst"]),
        ("hunts show --hunts . mi", ["mine"]),
        ("run --config c.toml --profile ", ["one", "other"]),
        ("doctor --config c.toml --group ", ["emea"]),
        ("run --config c.toml --sink ", ["spool"]),
        ("run --format na", ["navigator"]),
        ("run --backend l", ["local", "log-analytics"]),
        ("render --dialect d", ["defender"]),
        ("report x.json --format ta", []),
        ("hunts coverage --format j", ["json"]),
        ("evaluate --format m", ["markdown"]),
        ("run --slice a", ["auto"]),
    ):
        found = completed(f"qakhunt {words}", tmp_path)
        assert set(expected) <= set(found), (words, found)
        assert all(name.startswith(words.rpartition(" ")[2]) for name in found)


def test_completion_of_a_broken_configuration_is_silent(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("profiles = 3\n[", encoding="utf-8")
    for words in ("run --config c.toml --profile ", "run --config none.toml --group "):
        assert completed(f"qakhunt {words}", tmp_path) == []
    broken = {"QAKHUNT_CONFIG": str(tmp_path / "c.toml")}
    assert completed("qakhunt run qak", tmp_path, **broken) == []


# Configuration


def test_a_configuration_is_written_once_and_is_right(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    options = ("--tenant", TENANT, "--workspace", WORKSPACE, "--sign-in", "azure-cli")
    done = qakhunt("config", "init", *options, "--no-doctor", env=env)
    path = tmp_path / "qakhunt" / "config.toml"
    assert (done.code, done.out, done.err) == (0, f"{path}\n", "")
    text = path.read_text(encoding="utf-8")
    assert "# Entra tenant id of the customer" in text
    shown = json.loads(qakhunt("config", "show", "--json", env=env).out)
    values = {k: v["value"] for k, v in shown["profiles"]["default"].items()}
    assert (values["tenant"], values["workspaces"]) == (TENANT, WORKSPACE)
    again = qakhunt("config", "init", *options, env=env)
    assert again.code == 2
    assert again.error_lines == [f"error: {path} exists and is not overwritten"]
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--tenant is missing"),
        (("--tenant", TENANT), "--workspace is missing"),
        (("--tenant", 'x"\n[sinks.evil]', "--backend", "defender"), "not a GUID"),
        (("--tenant", TENANT, "--backend", "kust"), "no such value: 'kust'"),
        (("--tenant", TENANT, "--backend", "defender", "--profile", 'a"]\nx'), "profile"),
        (("--tenant", TENANT, "--backend", "defender", "--sign-in", "client-secret"), "client_id"),
    ],
)
def test_a_bad_configuration_is_not_written(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = qakhunt("config", "init", "--out", "c.toml", *options, cwd=tmp_path)
    assert done.code == 2
    assert words in done.err.replace("workspaces", "--workspace")
    assert len(done.error_lines) == 1
    assert not list(tmp_path.iterdir())


def test_a_person_is_asked_and_the_doctor_comes_last(tmp_path: Path) -> None:
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "QAKHUNT_GRAPH_ENDPOINT": "http://127.0.0.1:9",
        "AZURE_CONFIG_DIR": str(tmp_path / "az"), "PATH": str(tmp_path),
    }  # fmt: skip
    keeper, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "qakhunt", "config", "init", "--out", "c.toml"],
        cwd=tmp_path, env=env, stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True,
    ) as program:  # fmt: skip
        os.close(terminal)
        screen = b""
        for question, answer in (
            (b"Service to query", "defender"), (b"Entra tenant id", TENANT),
            (b"Sign-in", "azure-cli"), (b"Name of the profile", ""),
        ):  # fmt: skip
            screen += _until(keeper, question)
            os.write(keeper, answer.encode() + b"\n")
        screen += _until(keeper, None)
        program.wait(60)
    os.close(keeper)
    text = screen.decode()
    assert "Workspace" not in text
    assert "ok       default  configuration: defender, the tenant, http://127.0.0.1:9" in text
    assert "failed   default  token" in text
    assert program.returncode == 1
    assert load_config(tmp_path / "c.toml").profiles["default"].tenant == TENANT


def _until(stream: int, words: bytes | None) -> bytes:
    """What a terminal shows up to some words, or to the end."""
    seen = b""
    while words is None or words not in seen:
        if not select.select([stream], [], [], 60)[0]:
            raise AssertionError(f"{words!r} never came: {seen!r}")
        try:
            more = os.read(stream, 65536)
        except OSError:  # Linux's end of a terminal
            more = b""
        if not more:
            assert words is None, seen
            return seen
        seen += more
    return seen


def test_the_example_is_the_repositorys_and_is_right(tmp_path: Path) -> None:
    done = qakhunt("config", "example")
    assert done.out == (ROOT / "config.example.toml").read_text(encoding="utf-8")
    path = tmp_path / "c.toml"
    path.write_text(done.out, encoding="utf-8")
    assert qakhunt("config", "show", "--config", str(path)).code == 0


# Hunts


def test_the_list_fits_80_columns_with_qakbot_first_and_context_on_request() -> None:
    done = qakhunt("hunts", "list", env={"COLUMNS": "80"})
    lines = done.out.splitlines()
    assert lines[0] == "Set qakbot"
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert "context-rarity" not in done.out
    assert "--all adds 9 context hunts" in lines[-1]
    everything = qakhunt("hunts", "list", "--all").out
    assert everything.index("qakbot-recon-burst") < everything.index("context-rarity")
    named = {hunt["name"] for hunt in json.loads(qakhunt("hunts", "list", "--json").out)["hunts"]}
    assert {"context-rarity", "qakbot-recon-burst"} <= named


def test_ones_own_hunts_are_listed_after_qakbots(tmp_path: Path) -> None:
    (tmp_path / "a-first.kql").write_text("SecurityEvent", encoding="utf-8")
    done = qakhunt("hunts", "list", "--hunts", str(tmp_path))
    assert done.out.index("qakbot-recon-burst") < done.out.index("a-first")
    assert "Hunts in no set" in done.out


@pytest.mark.engine
def test_a_new_hunt_comes_with_a_case_that_fires_and_one_that_is_silent(tmp_path: Path) -> None:
    done = qakhunt("hunts", "new", "my-hunt", cwd=tmp_path)
    assert done.out.splitlines() == ["my-hunt.yaml", "tests/my-hunt.yaml"]
    assert qakhunt("hunts", "new", "my-hunt", cwd=tmp_path).code == 2
    found = json.loads(qakhunt("test", "my-hunt.yaml", "--json", cwd=tmp_path).out)
    assert len({case["name"] for case in found["cases"]}) == 2
    assert {case["outcome"] for case in found["cases"]} == {"passed"}
    hunt = tmp_path / "my-hunt.yaml"
    for before, after in (("Threshold = 1", "Threshold = 2"), ("Threshold = 1", "Threshold = 0")):
        text = hunt.read_text()
        hunt.write_text(text.replace(before, after))
        assert qakhunt("test", "my-hunt.yaml", cwd=tmp_path).code == 1, after
        hunt.write_text(text)


# Options that would have no effect


@pytest.mark.parametrize("backend", [(), ("--backend", "local")])
@pytest.mark.parametrize(
    "option", [("--strict",), ("--date-order", "day-first"), ("--max-expanded", "1")]
)
def test_options_of_events_need_events(option: tuple[str, ...], backend: tuple[str, ...]) -> None:
    done = qakhunt("run", *backend, *option)
    assert (done.code, done.out) == (2, "")
    assert done.error_lines == [f"error: {option[0]} applies to --events, and none are given"]


@pytest.mark.parametrize("option", [("--format", "csv"), ("--out", "x.json")])
@pytest.mark.parametrize("plan", ["--dry-run", "--explain"])
def test_a_plan_is_no_result_to_format(option: tuple[str, ...], plan: str, tmp_path: Path) -> None:
    done = qakhunt("run", plan, *option, cwd=tmp_path)
    assert done.code == 2
    assert "--out and --format have no effect" in done.err
    assert not list(tmp_path.iterdir())


# One run


@pytest.mark.engine
def test_the_window_and_its_reason_are_one_line(tmp_path: Path) -> None:
    done = qakhunt("run", cwd=tmp_path, env={"COLUMNS": "140"})
    window = "2026-10-01T00:00:00Z to 2026-11-01T00:00:00Z (UTC), the hunt's own window"
    assert f"qakbot-post-compromise-commands: {window}" in done.out
    assert done.out.count("the hunt's own") == 1
    chosen = qakhunt("run", "--window", "30d", cwd=tmp_path, env={"COLUMNS": "140"})
    assert "2026-11-05T09:00:00Z (UTC)\n" in chosen.out
    saved = tmp_path / "r.json"
    saved.write_text(qakhunt("run", "--json", "-q").out, encoding="utf-8")
    again = qakhunt("triage", str(saved), "-q", env={"COLUMNS": "140"})
    assert again.out.count("the hunt's own window") == 1


@pytest.mark.engine
def test_a_dry_run_of_a_job_touches_neither_state_nor_sink(tmp_path: Path) -> None:
    events = write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", [event(c) for c in FOUR])
    options = ("--events", str(events), "--now", "2026-10-20", "--state", str(tmp_path / "s.db"))
    spool = tmp_path / "spool.ndjson"
    done = qakhunt("run", *options, "--sink", f"file:{spool}", "--dry-run", "--heartbeat")
    assert done.code == 0
    assert "nothing was queried" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["DeviceProcessEvents.ndjson"]


@pytest.mark.engine
def test_a_plain_run_loads_no_schedule() -> None:
    code = (
        "import sys; from qakhunt.__main__ import run; run(['run', '-q'])\n"
        "print([m for m in sys.modules if m in ('qakhunt.schedule.job', 'sqlite3')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
