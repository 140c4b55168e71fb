"""A process that has loaded the program and forks for each run of it.

Loading costs more than most runs do, and hundreds of tests start the program. What it
forks is a process of its own with its own output, environment and folder, and ends as
the program does. One request and one answer per line, as JSON.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import sys
import tempfile
from pathlib import Path
from typing import Any

_LIBRARIES = ("azure.identity", "azure.core.pipeline.transport", "duckdb", "duckdb_kql", "msal")


def _load() -> None:
    import qakhunt.cli

    names = [module.name for module in pkgutil.iter_modules(qakhunt.cli.__path__, "qakhunt.cli.")]
    for name in (*names, "qakhunt.run.execution", "qakhunt.run.live", *_LIBRARIES):
        try:
            importlib.import_module(name)
        except ImportError:  # below 3.11 there is no engine
            continue
    gc.collect()
    gc.freeze()
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise SystemExit("a thread runs after loading: forking is not safe")


def _become(request: dict[str, Any]) -> None:
    """Take the output, environment and folder that the request names."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os.setsid()  # a terminal that is opened now controls this process
    for number, path in enumerate((request["in"], request["out"], request["err"])):
        opened = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    sys.stdout = _text(1, "strict")
    sys.stderr = _text(2, "backslashreplace")
    sys.argv = ["qakhunt", *request["arguments"]]
    tempfile.tempdir = None


def _text(number: int, errors: str) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(number, "wb", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors, line_buffering=number == 2)


def main() -> None:
    """Serve until stdin ends; in a fork, run the program."""
    _load()
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    for line in requests:
        child = os.fork()
        if child == 0:
            requests.close()
            answers.close()
            _become(json.loads(line))
            from qakhunt.__main__ import main as program

            program()
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    main()
