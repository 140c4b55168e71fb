"""Which columns that were not recorded a changed query needs."""

from __future__ import annotations

from typing import Any

import pytest

from qakhunt.backends.recordings.coverage import columns_missing, pseudonym_ambiguities
from qakhunt.backends.recordings.redact import literal_words
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant

KEPT = ["TimeGenerated", "DeviceName", "FileName"]


@pytest.mark.parametrize(
    "query",
    [
        "T | where FileName == 'x'",
        "T | summarize arg_max(TimeGenerated, *) by DeviceName",
        "T | join kind=inner (U | summarize n = count() by DeviceName) on DeviceName",
        "T | summarize n = count() by DeviceName | join (U | where x) on DeviceName",
        "T | summarize n = count() by DeviceName | join kind=inner U on DeviceName",
        "let U = materialize(T | where FileName == 'x'); U | where DeviceName != ''",
        "union (T | project DeviceName), U",
        "T | extend p = pack_all() | project p",
        "T | extend c = column_ifexists('AccountName', '') | project c",
    ],
)
def test_a_query_that_shows_every_column_misses_those_left_out(query: str) -> None:
    text = query.replace("T |", "DeviceProcessEvents |")
    missing = columns_missing(text, "log-analytics", "DeviceProcessEvents", KEPT)
    assert {"AccountName", "ProcessCommandLine"} <= set(missing)
    assert not {"DeviceName", "FileName"} & set(missing)


@pytest.mark.parametrize(
    "query",
    [
        "T | project DeviceName",
        "T | project DeviceName, FileName | summarize arg_max(FileName, *) by DeviceName",
        "T | summarize n = count() by DeviceName | join kind=leftanti (U | where x) on DeviceName",
        "let U = T | summarize by DeviceName;\nT | summarize n = count() by DeviceName"
        " | join kind=inner U on DeviceName",
        "let U = T | where FileName == 'x'; U | summarize n = count() * 2 by DeviceName",
        "union T, U | project DeviceName",
        "T | where DeviceName in (U | project DeviceName) | count",
        "let f = (d: string) { T | where DeviceName == d | project DeviceName };\nf('x')",
    ],
)
def test_a_query_that_chooses_its_columns_misses_none(query: str) -> None:
    text = query.replace("T |", "DeviceProcessEvents |")
    assert not columns_missing(text, "log-analytics", "DeviceProcessEvents", KEPT)


def test_a_column_that_is_named_is_missed() -> None:
    query = "DeviceProcessEvents | where AccountName == 'x' | project DeviceName"
    missing = columns_missing(query, "log-analytics", "DeviceProcessEvents", KEPT)
    assert missing == ["AccountName"]


@pytest.mark.parametrize(
    ("condition", "recorded", "changed"),
    [
        ("FileName =~ 'whoami.exe'", False, False),
        ("ProcessCommandLine in ('whoami /all', 'cmd /c set')", False, False),
        ("ProcessCommandLine contains '^'", False, False),
        ("ProcessCommandLine contains 'net view'", False, False),
        # A word of its own stays as it is where the recorded hunt has it.
        ("FileName == 'evilthing.exe'", False, True),
        ("tolower(FileName) in ('net.exe', 'evilthing.exe')", False, True),
        ("ProcessCommandLine has_any (dynamic(['whoami', 'frobnicate']))", False, True),
        # These look inside of words, or for letters that are none of a switch.
        ("FileName =~ 'x.exe'", True, True),
        ("FileName startswith 'evil'", True, True),
        ("FileName matches regex '^evil'", True, True),
        ("ProcessCommandLine contains 'hunter'", True, True),
        ("strlen(FileName) == 13", True, True),
    ],
)
def test_comparisons_that_pseudonyms_may_decide_otherwise(
    condition: str, recorded: bool, changed: bool
) -> None:
    query = f"DeviceProcessEvents | where {condition}"
    assert bool(pseudonym_ambiguities(query, "log-analytics", literal_words([query]))) is recorded
    assert bool(pseudonym_ambiguities(query, "log-analytics", ())) is changed


@pytest.mark.parametrize("hunt", Catalog().find_all(["qakbot"]), ids=lambda hunt: str(hunt.name))
def test_the_built_in_hunts_find_on_a_redacted_recording_what_they_found(hunt: Any) -> None:
    for product in hunt.products:
        text = render(hunt, now=Instant.parse("2026-11-01"), product=product).text
        assert not pseudonym_ambiguities(text, product, literal_words([text]))
