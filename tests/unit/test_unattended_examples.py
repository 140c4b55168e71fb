"""The documented examples of unattended jobs: complete, and accepted by what reads them."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorials" / "scheduled.md").read_text(encoding="utf-8")
DOCKER = {
    "FROM", "RUN", "COPY", "USER", "ENV", "ENTRYPOINT", "CMD", "WORKDIR", "ARG", "LABEL", "EXPOSE"
}  # fmt: skip


def example(language: str, start: str) -> str:
    for block in re.findall(rf"```{language}\n(.*?)```", TUTORIAL, re.DOTALL):
        if block.startswith(start):
            return str(block)
    raise AssertionError(f"no example in {language} starts with {start!r}")


def options_of(command: str) -> list[str]:
    """The options of a ``qakhunt run``, once the program accepts them all."""
    from typer.main import get_command

    from qakhunt.cli.app import app

    words = shlex.split(command)
    at = words.index("run")
    run = get_command(app).get_command(None, "run")  # type: ignore[attr-defined]
    known = {name for parameter in run.params for name in parameter.opts}
    options = [word for word in words[at + 1 :] if word.startswith("--")]
    assert set(options) <= known
    return options


def test_the_container() -> None:
    text = example("dockerfile", "# Dockerfile").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    words = [line.split(maxsplit=1) for line in lines]
    assert words[0][0] == "FROM"
    assert {word for word, _ in words} <= DOCKER
    commands = [yaml.safe_load(rest) for word, rest in words if word in ("ENTRYPOINT", "CMD")]
    assert all(isinstance(command, list) for command in commands)
    assert "--state" in options_of(shlex.join(part for command in commands for part in command))


def test_the_workflow() -> None:
    workflow = yaml.safe_load(example("yaml", "# .github/workflows/hunt.yaml"))
    assert workflow["permissions"]["id-token"] == "write"
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert re.fullmatch(r"(\S+ ){4}\S+", workflow[True]["schedule"][0]["cron"])
    steps = workflow["jobs"]["hunt"]["steps"]
    assert {"--state", "--heartbeat"} <= set(options_of(steps[-1]["run"]))


def test_the_systemd_unit() -> None:
    text = example("ini", "# /etc/systemd/system/qakhunt.service")
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    assert set(unit.sections()) == {"Unit", "Service"}
    assert "--state" in options_of(unit["Service"]["ExecStart"])
    timer = re.search(r"OnCalendar=(\S+ \S+ UTC)", text)
    assert timer


def test_the_cron_line() -> None:
    line = example("crontab", "17").strip()
    match = re.fullmatch(r"((?:\S+ ){5})(\w+) (.*)", line)
    assert match
    assert "--state" in options_of(match[3])
