"""What triage makes of the tuning data: generated bursts and modelled programs, as a table.

These are the data that the criteria were made on: the table shows that they separate at
all. How well they do on sequences that nobody tuned on, ``qakhunt evaluate`` measures.
"""

from __future__ import annotations

import pytest

from qakhunt.hunts.catalog import Catalog
from qakhunt.testing.confusion import Judged, judge
from qakhunt.testing.generator import generate
from qakhunt.triage.assessment import Kind

pytestmark = pytest.mark.engine
SEED, PER_RENDERING = 11, 3
MALWARE = (Kind.QAKBOT.value, Kind.LOADER.value)


@pytest.fixture(scope="module")
def table() -> list[Judged]:
    """It costs 20 s and one engine: every alert of the part is assessed, twice at each threshold."""
    (hunt,) = Catalog().find("qakbot-recon-burst")
    return judge(hunt, generate(SEED, PER_RENDERING), "tuning")


def found(table: list[Judged], label: str, *, lowered: bool, context: bool) -> tuple[int, int]:
    """Alerts on sets of the label that are taken for malware, and all."""
    (one,) = [j for j in table if (j.label, j.lowered, j.context) == (label, lowered, context)]
    return sum(one.kinds.get(kind, 0) for kind in MALWARE), one.alerts


@pytest.mark.parametrize("context", [True, False])
def test_bursts_are_told_from_programs_and_administrators(
    table: list[Judged], context: bool
) -> None:
    taken, bursts = found(table, "qakbot", lowered=False, context=context)
    assert bursts >= 24
    assert taken >= 0.95 * bursts
    taken, kin = found(table, "kin", lowered=False, context=context)
    assert taken >= 0.8 * kin
    taken, benign = found(table, "benign", lowered=True, context=context)
    assert benign >= 100
    assert taken <= 0.02 * benign


def test_kin_is_not_called_qakbot(table: list[Judged]) -> None:
    for one in table:
        wrong = Kind.QAKBOT.value if one.label == "kin" else Kind.LOADER.value
        assert one.kinds.get(wrong, 0) == 0 or one.label == "benign"


def test_a_hunt_without_thresholds_to_lower_is_not_judged() -> None:
    (hunt,) = Catalog().find("qakbot-post-compromise-commands")
    assert judge(hunt, generate(SEED, 1), "tuning") == []
