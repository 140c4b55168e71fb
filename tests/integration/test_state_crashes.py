"""The state after a process that used it was killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from qakhunt.kql.values import Instant
from qakhunt.schedule.store_file import open_file

NOW = Instant.parse("2026-11-05T09:00:00Z")
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="forks a child per crash point")
def test_a_crash_at_any_statement_leaves_the_state_before_or_after(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.crash_points", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    outcomes = json.loads(done.stdout)
    assert len(outcomes) > 10
    assert set(outcomes[:-1]) == {"before"}
    assert outcomes[-1] == "after"


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    script = (
        "import os, sys; from pathlib import Path; from qakhunt.kql.values import Instant;"
        "from qakhunt.schedule.store_file import open_file;"
        "s = open_file(Path(sys.argv[1]), Instant.parse('2026-11-05'));"
        "s.begin('killed', Instant.parse('2026-11-05')); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT).returncode != 0
    with contextlib.closing(open_file(path, NOW)) as store:
        assert [run.id for run in store.begin("next", NOW)] == ["killed"]
