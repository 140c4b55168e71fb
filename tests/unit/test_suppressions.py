"""Suppressions hide what somebody vouches for, and nothing that nobody did."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.answers.hits import Hit
from qakhunt.answers.table import Column
from qakhunt.core.errors import ConfigError
from qakhunt.hunts.command_catalogue import understand
from qakhunt.kql.values import Instant
from qakhunt.triage.suppressions import (
    Suppression,
    as_entry,
    load_suppressions,
    parse_suppressions,
)

NOW = Instant.parse("2026-11-05")
HEAD = "suppressions:\n"


def hit(
    *, device: str | None = "srv-inv-01", account: str | None = "svc-inventory",
    commands: tuple[str, ...] = ("ipconfig /all", "route print"), parent: str | None = None,
    tenant: str | None = "11111111-1111-1111-1111-111111111111",
) -> Hit:  # fmt: skip
    columns = (Column("InitiatingProcessFileName", "string"),) if parent is not None else ()
    return Hit(
        "hunt", "profile", tenant, None, device, account, tuple(map(understand, commands)), (),
        None, None, len(commands), None, columns, (parent,) if parent is not None else (),
    )  # fmt: skip


def covers(conditions: str, found: Hit) -> bool:
    entry = f"  - {{owner: jd, reason: agent, expires: 2027-01-01, {conditions}}}\n"
    shown, hidden = parse_suppressions(HEAD + entry, "s.yaml").split([found], NOW)
    assert len(shown) + len(hidden) == 1
    return bool(hidden)


def test_every_condition_must_hold() -> None:
    assert covers("device: SRV-INV-*", hit())
    assert covers("device: srv-inv-?1, account: svc-inventory", hit())
    assert not covers("device: srv-inv-01, account: somebody", hit())
    assert covers("device: [other, srv-inv-01]", hit())
    assert covers("tenant: 11111111-*, hunt: hunt", hit())


def test_a_command_nobody_vouched_for_is_never_hidden() -> None:
    families = "family: [ipconfig_all, route_print]"
    assert covers(families, hit())
    assert not covers(families, hit(commands=("ipconfig /all", "route print", "whoami /all")))
    assert not covers(families, hit(commands=("ipconfig /all", "evil.exe")))
    assert not covers(families, hit(commands=()))


def test_what_a_hit_lacks_never_matches() -> None:
    assert not covers("device: '*inv*'", hit(device=None))
    assert not covers("parent: agent.exe", hit())
    assert covers("parent: agent.exe", hit(parent="Agent.exe"))
    assert not covers("parent: agent.exe", hit(parent=""))


def test_expired_entries_stop_applying_and_are_reported() -> None:
    text = HEAD + "  - {owner: jd, reason: agent, expires: 2026-11-05, device: srv-inv-01}\n"
    loaded = parse_suppressions(text, "s.yaml")
    assert loaded.split([hit()], NOW)[1] == []
    assert loaded.expired(NOW) == [
        "s.yaml:2:5: this suppression of jd expired on 2026-11-05 and no longer applies (agent)"
    ]
    assert loaded.expired(Instant.parse("2026-11-04T23:59:59Z")) == []


@pytest.mark.parametrize(
    ("entry", "message", "line"),
    [
        ("{reason: r, expires: 2027-01-01, device: d}", "owner", 2),
        ("{owner: o, reason: r, device: d}", "expires", 2),
        ("{owner: '', reason: r, expires: 2027-01-01, device: d}", "needs a owner", 2),
        ("{owner: o, reason: r, expires: soon, device: d}", "not a date", 2),
        ("{owner: o, reason: r, expires: 2027-01-01}", "hide everything", 2),
        ("{owner: o, reason: r, expires: 2027-01-01, device: '*'}", "hide everything", 2),
        ("{owner: o, reason: r, expires: 2027-01-01, hunt: x}", "hide everything", 2),
        ("{owner: o, reason: r, expires: 2027-01-01, family: ipconfig}", "no command family", 2),
        ("{owner: o, reason: r, expires: 2027-01-01, devise: d}", "unknown key 'devise'", 2),
    ],
)
def test_an_entry_that_cannot_be_reviewed_is_refused(entry: str, message: str, line: int) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_suppressions(f"{HEAD}  - {entry}\n", "s.yaml")
    assert caught.value.location is not None
    assert caught.value.location.line == line


TEXT = st.text(min_size=1).filter(lambda t: bool(t.strip()) and bool(t.strip("*? \n")))


@given(TEXT, TEXT, TEXT)
def test_an_added_entry_reads_back_as_it_was_given(owner: str, reason: str, device: str) -> None:
    entry = Suppression(owner=owner, reason=reason, expires="2027-01-01", device=device)
    read = parse_suppressions(HEAD + as_entry(entry), "s.yaml").entries
    assert read == (entry,)


@given(st.text(min_size=1).filter(lambda t: t.strip() == t))
def test_a_pattern_matches_itself_literally_apart_from_its_wildcards(text: str) -> None:
    literal = text.replace("*", "x").replace("?", "x")
    entry = Suppression(owner="o", reason="r", expires="2027-01-01", device=literal)
    assert entry.covers(hit(device=literal))
    assert not entry.covers(hit(device=literal + "."))


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_suppressions(tmp_path / "none.yaml")
