"""The README is short, its picture is the program's own, and its two commands are what runs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from qakhunt.answers.ledger import Verdict
from qakhunt.core.errors import ExitCode
from tests.conftest import ROOT
from tests.golden.readme import README, SCREEN, screen

TEXT = README.read_text(encoding="utf-8")


def test_it_has_at_most_200_lines() -> None:
    assert len(TEXT.splitlines()) <= 200


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


def test_every_exit_code_and_verdict_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}
    for verdict in Verdict:
        assert f"| `{verdict.value}` |" in TEXT


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
