"""The README says what the program does: its help, its picture, its two commands."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from qakhunt.core.errors import ExitCode
from qakhunt.reports.formats import FORMATS
from tests.conftest import ROOT
from tests.golden.readme import README, SCREEN, screen, with_help

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.skipif(not version("typer").startswith("0.28"), reason="another typer words it so")
def test_help_blocks_are_the_programs_own() -> None:
    assert with_help(TEXT) == TEXT


@pytest.mark.engine
def test_the_picture_is_the_programs_own() -> None:
    assert screen() == SCREEN.read_text(encoding="utf-8")


def test_the_two_commands_are_single_lines() -> None:
    for name in ("run", "test"):
        done = subprocess.run(
            [sys.executable, ".ci/readme_command.py", name],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.count("\n") == 1
        assert done.stdout.startswith("python3 -m venv")


def test_every_exit_code_and_format_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}
    for name in FORMATS:
        assert f"| `{name}` |" in TEXT


def test_nothing_names_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    hosts = ["pypi" + ".org", "python" + "hosted", "registry." + "npmjs", "deb.debian" + ".org"]
    for name in listed:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".yml", ".json", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not any(host in text for host in hosts), name


def test_tool_versions_agree() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pinned = re.search(r'"ruff==([\d.]+)"', project)
    assert pinned
    assert set(re.findall(r"ruff==([\d.]+)", hooks)) == {pinned[1]}
