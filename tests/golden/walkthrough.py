"""The tutorials, carried out: their commands run in a shell, their output is the program's own.

A fenced block is carried out where a comment stands above it:

    <!-- run -->            its ``$`` commands, each of which must exit with 0
    <!-- run: exit 4 -->    the last of them exits with 4
    <!-- start -->          one command that prints a line when it is ready, and goes on
    <!-- file: NAME -->     written to this file

``python -m tests.golden.refresh`` writes the output anew; tests/integration/test_walkthroughs.py
compares it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))

_BLOCK = re.compile(
    r"<!-- (?P<what>run|start|file)(?:: (?P<how>[^>]+?))? -->\n```\w*\n(?P<body>.*?)```",
    re.DOTALL,
)
_PORT = "8443"
_VARYING = re.compile(r"\b\d+\.\d+ s\b")


class Walkthrough:
    """One tutorial in a folder of its own; use as a context manager, which stops its servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        """Commands that exited with another code than the page says."""
        self._port = _free_port()
        self._servers: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True)
        shutil.copytree(ROOT / "queries", folder / "queries")
        shutil.copytree(
            ROOT / "qakhunt" / "data" / "sample", folder / "qakhunt" / "data" / "sample"
        )
        home = folder.parent / f"{folder.name}-home"
        home.mkdir()
        self._environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(home), "COLUMNS": "80", "TERM": "dumb", "LANG": "C.UTF-8",
        }  # fmt: skip

    def __enter__(self) -> Walkthrough:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=30)

    def carry_out(self, text: str) -> str:
        """The page's text with the output of its commands as it is now."""
        return _BLOCK.sub(self._block, text)

    def _block(self, match: re.Match[str]) -> str:
        body = match["body"]
        if match["what"] == "file":
            (self.folder / match["how"]).write_text(self._here(body), encoding="utf-8")
            return match[0]
        head = match[0][: match.start("body") - match.start()]
        if match["what"] == "start":
            (command,) = _commands(body)
            return f"{head}$ {command}\n{self._start(command)}```"
        commands = _commands(body)
        wanted = int((match["how"] or "exit 0").split()[1])
        shown = []
        for command in commands:
            code, output = self._run(command)
            if code != (wanted if command is commands[-1] else 0):
                self.problems.append(f"exit {code}: {command}\n{output}")
            shown.append(f"$ {command}\n{output}")
        return f"{head}{''.join(shown)}```"

    def _run(self, command: str) -> tuple[int, str]:
        script = f"{self._here(command)}\ncode=$?\nexport -p > ../exported\nexit $code\n"
        exported = self.folder.parent / "exported"
        if exported.exists():
            script = f". ../exported\n{script}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
        )  # fmt: skip
        lines = [line.rstrip() for line in self._shown(done.stdout).splitlines()]
        return done.returncode, "".join(f"{line}\n" for line in lines)

    def _start(self, command: str) -> str:
        server = subprocess.Popen(
            shlex.split(self._here(command)), cwd=self.folder, env=self._environment, text=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self._servers.append(server)
        assert server.stdout is not None
        return self._shown(server.stdout.readline())

    def _here(self, text: str) -> str:
        return text.replace(_PORT, self._port)

    def _shown(self, text: str) -> str:
        text = text.replace(self._port, _PORT).replace(f"{self.folder}/", "")
        return text.replace(f"{ROOT}/", "")


def carried_out(page: Path) -> tuple[str, list[str]]:
    """The page's text as the program writes it now, and what went wrong."""
    with tempfile.TemporaryDirectory() as around:
        folder = Path(around) / "clone"
        with Walkthrough(folder) as walk:
            text = page.read_text(encoding="utf-8")
            new = walk.carry_out(text)
            return (text if steady(new) == steady(text) else new), walk.problems


def steady(text: str) -> str:
    """The text without what differs from run to run: how long something took."""
    return _VARYING.sub("N s", text)


def _commands(body: str) -> list[str]:
    """The commands of a block, those that go on in the next line as a whole."""
    commands: list[str] = []
    goes_on = False
    for line in body.splitlines():
        if goes_on:
            commands[-1] += f"\n{line}"
        elif line.startswith("$ "):
            commands.append(line[2:])
        goes_on = (goes_on or line.startswith("$ ")) and line.endswith("\\")
    return commands


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
