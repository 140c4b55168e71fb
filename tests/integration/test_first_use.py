"""What a process does first in several threads at once ends as it does in one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from qakhunt.answers import wire_hunting, wire_log_analytics
from qakhunt.answers.table import Column, ResultTable
from tests.support.cli import ROOT

_AT_ONCE = """
import sys, threading
from qakhunt.answers import {wire}
from qakhunt.core.documents import to_model
from qakhunt.hunts.model import HuntFile

sys.setswitchinterval(1e-6)
together = threading.Barrier(16)
seen = []

def work():
    together.wait()
    answer, hunt = {wire}.decode({body!r}), to_model({{"query": "T"}}, HuntFile)
    seen.append((answer.table.rows, hunt.query))

threads = [threading.Thread(target=work) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert seen == [([("x",)], "T")] * 16, seen
"""


@pytest.mark.parametrize("wire", [wire_log_analytics, wire_hunting])
def test_the_first_answers_may_come_at_once(wire: Any) -> None:
    body = wire.encode(ResultTable((Column("c", "string"),), [("x",)]))
    program = _AT_ONCE.format(wire=wire.__name__.rpartition(".")[2], body=body)
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
