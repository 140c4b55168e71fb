"""``run --slice``, ``--explain`` and ``--dry-run`` as a user meets them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import qakhunt

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine


def test_slices_find_what_the_whole_finds() -> None:
    whole = json.loads(qakhunt("run", "--json").out)
    sliced = qakhunt("run", "--json", "--slice", "devices:3")
    found = json.loads(sliced.out)
    assert sliced.code == 0
    assert found["hits"] == whole["hits"]
    assert [entry["slice"] for entry in found["ledger"]] == [
        "devices 1/3", "devices 2/3", "devices 3/3",
    ]  # fmt: skip


def test_a_plan_is_told_and_nothing_is_asked() -> None:
    told = qakhunt("run", "--dry-run", "--slice", "10d")
    assert told.code == 0
    assert "4 calls" in told.out
    assert "nothing was queried" in told.out
    document = json.loads(qakhunt("run", "--dry-run", "--slice", "10d", "--json").out)
    assert document["schema"] == "qakhunt.plan/1"
    assert document["lines"][0]["calls"] == len(document["lines"][0]["slices"]) == 4


def test_explain_says_which_way_is_exact_and_why_another_is_not(tmp_path: Path) -> None:
    assert qakhunt("run", "--explain").out.count("exact: ") == 2
    path = tmp_path / "all.kql"
    path.write_text("DeviceProcessEvents | where TimeGenerated > ago(1d) | summarize count()")
    told = qakhunt("run", str(path), "--explain")
    assert told.code == 0
    assert "by device: not exact: the summarize does not group by DeviceName" in told.out
    assert "source query of DeviceProcessEvents" in told.out


def test_a_slice_that_is_none_is_one_clear_error() -> None:
    told = qakhunt("run", "--slice", "1x")
    assert told.code == 2
    assert told.error_lines == [
        "error: --slice: '1x' is not a slice: expected 1d, 6h, devices:8, auto or none"
    ]
    assert not told.out
