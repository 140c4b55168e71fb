"""Unattended runs on the command line: what a scheduler sees, and every bad input."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qakhunt.__main__ import run as qakhunt
from qakhunt.kql.values import Instant
from qakhunt.schedule.store_file import open_file
from tests.support.events import FOUR, event, write_ndjson
from tests.support.receivers import Answer, Receiver, hang_up, http_receiver

pytestmark = pytest.mark.engine
NOW = "2026-10-20T06:00:00Z"
NEXT = "2026-10-21T06:00:00Z"


@pytest.fixture
def events(tmp_path: Path) -> Path:
    quiet = [
        event("explorer.exe", TimeGenerated=f"2026-10-{day:02}T00:00:00Z", DeviceName="quiet")
        for day in range(1, 31)
    ]
    return write_ndjson(
        tmp_path / "DeviceProcessEvents.ndjson", [*quiet, *(event(command) for command in FOUR)]
    )


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("QAKHUNT_WEBHOOK_SECRET", "made-up")
    monkeypatch.setattr("qakhunt.schedule.delivery._PAUSES", (0.0, 0.0, 0.0))
    with http_receiver() as made:
        yield made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def run(events: Path, *arguments: str, now: str = NOW) -> int:
    return qakhunt(["run", "--events", str(events), "--now", now, "--quiet", *arguments])


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# The contract that schedulers and monitors build on


def test_exit_codes_and_json_of_a_scheduled_run(
    events: Path, state: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    sinks = ["--sink", f"webhook:{receiver.url}", "--state", str(state), "--json"]
    assert run(events, *sinks) == 0
    first = document(capsys)
    assert (first["verdict"], first["known"], first["suppressed"]) == ("hits", [], 0)
    assert set(first["state"]) == {"run", "findings", "suppressed", "owed", "lost"}
    assert first["state"]["findings"] == {"new": 1, "grown": 0, "again": 0, "known": 0}
    (delivery,) = first["deliveries"]
    assert (delivery["status"], delivery["messages"], delivery["findings"]) == ("delivered", 1, 1)
    assert run(events, *sinks, "--fail-on-hits", now=NEXT) == 0  # known: nothing new to fail on
    second = document(capsys)
    assert (second["verdict"], second["known"]) == ("hits", [0])
    assert second["deliveries"][0]["messages"] == 0


def test_sinks_and_schedule_of_the_configuration_serve_recorded_events_too(
    events: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool, config = tmp_path / "spool.ndjson", tmp_path / "config.toml"
    config.write_text(f'[sinks.spool]\nkind = "file"\npath = "{spool.as_posix()}"\n')
    arguments = ["--state", str(state), "--sink", "spool", "--heartbeat"]
    assert run(events, *arguments) == 2
    assert "no sink named 'spool'" in capsys.readouterr().err
    assert run(events, *arguments, "--config", str(config)) == 0
    sent = [json.loads(line)["schema"] for line in spool.read_text().splitlines()]
    assert sent == ["qakhunt.finding/1", "qakhunt.heartbeat/1"]
    config.write_text('[schedule]\nsign_in = "nobody"\n')
    assert run(events, *arguments, "--config", str(config)) == 2
    assert "config.toml:2" in capsys.readouterr().err


def test_new_findings_fail_with_fail_on_hits(events: Path, state: Path) -> None:
    assert run(events, "--state", str(state), "--fail-on-hits") == 10


def test_an_undelivered_finding_is_exit_code_6_and_the_verdict_stays(
    events: Path, state: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers.extend([Answer(503)] * 4)
    sinks = ["--sink", f"webhook:{receiver.url}", "--state", str(state), "--json"]
    assert run(events, *sinks) == 6
    told = document(capsys)
    assert told["verdict"] == "hits"
    assert told["deliveries"][0]["status"] == "pending"
    assert len(receiver.taken) == 4
    assert len({taken.headers["webhook-id"] for taken in receiver.taken}) == 1
    assert run(events, *sinks, now=NEXT) == 0
    assert document(capsys)["deliveries"][0]["delivered"] == 1


def test_fail_on_hits_comes_before_a_failed_delivery(
    events: Path, state: Path, receiver: Receiver
) -> None:
    receiver.answers.extend([Answer(400)])
    arguments = ["--sink", f"webhook:{receiver.url}", "--state", str(state), "--fail-on-hits"]
    assert run(events, *arguments) == 10


def test_without_a_state_every_hit_is_told_every_time(events: Path, receiver: Receiver) -> None:
    window = ["--window", "2026-10-01/2026-10-20", "--sink", f"webhook:{receiver.url}"]
    assert run(events, *window) == 0
    assert run(events, *window) == 0
    ids = [taken.headers["webhook-id"] for taken in receiver.taken]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_known_hits_are_counted_on_the_screen_and_shown_if_asked(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(events, "--state", str(state)) == 0
    assert "ws-1" in capsys.readouterr().out
    assert run(events, "--state", str(state), now=NEXT) == 0
    screen = capsys.readouterr().out
    assert "ws-1" not in screen
    assert "1 hit on 1 device, 1 of them reported before" in screen
    assert run(events, "--state", str(state), "--show-known", now="2026-10-22T06:00:00Z") == 0
    assert "ws-1" in capsys.readouterr().out


def test_suppressed_hits_are_counted_and_shown_if_asked(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "suppressions.yaml"
    add = ["suppress", "add", "--file", str(file), "--owner", "jd", "--reason", "a test: yes",
           "--expires", "2026-12-01", "--device", "ws-*", "--now", NOW]  # fmt: skip
    assert qakhunt(add) == 0
    assert qakhunt(add) == 0
    assert file.read_text().count("- owner") == 2
    window = ["--window", "2026-10-01/2026-10-20", "--suppressions", str(file)]
    capsys.readouterr()
    assert run(events, *window) == 0
    screen = capsys.readouterr().out
    assert "ws-1" not in screen
    assert "HITS: 0 hits, 1 suppressed" in screen
    assert run(events, *window, "--show-suppressed") == 0
    assert "ws-1" in capsys.readouterr().out
    assert qakhunt(["suppress", "list", "--file", str(file), "--now", "2027-01-01"]) == 0
    assert "EXPIRED 2026-12-01" in capsys.readouterr().out


def test_json_logs_have_run_tenant_slice_and_request_ids(
    events: Path, state: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--state", str(state), "--sink", f"webhook:{receiver.url}", "--log-format", "json"]
    assert run(events, *arguments) == 0
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    names = [record["event"] for record in records]
    assert names == ["run started", "line", "delivery", "run finished"]
    assert len({record["run"] for record in records}) == 1
    line = records[1]
    assert {"slice", "request_ids", "hunt", "status", "start", "end", "attempts"} <= set(line)
    assert records[-1]["exit_code"] == 0


def test_errors_are_json_lines_too_and_keep_their_code(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(events, "--state", str(tmp_path / "no" / "state.db"), "--log-format", "json")
    assert code == 2
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert records[-1]["event"] == "error"
    assert "cannot hold the state" in records[-1]["detail"]


def test_findings_on_standard_output_are_all_that_is_there(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qakhunt", "run", "--events", events, "--now", NOW, "--sink",
         "stdout", "--state", state],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["schema"] == "qakhunt.finding/1"
    assert "HITS" in done.stderr
    assert run(events, "--sink", "stdout", "--json") == 2
    assert "both write to standard output" in capsys.readouterr().err


def test_a_state_that_cannot_take_the_run_hides_no_finding(
    events: Path, state: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from qakhunt.schedule import store as state_store

    real = state_store.connect

    def small(path: Path | None, name: str) -> Any:
        connection = real(path, name)
        if path is not None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    many = [event(c, DeviceName=f"ws-{n}") for n in range(20) for c in FOUR]
    write_ndjson(events, many)
    open_file(state, Instant.parse(NOW)).close()
    monkeypatch.setattr("qakhunt.schedule.store_file.connect", small)
    arguments = ["--state", str(state), "--sink", f"webhook:{receiver.url}", "--json"]
    assert run(events, *arguments) == 2
    told = capsys.readouterr()
    assert len(json.loads(told.out)["hits"]) == 20
    assert "full" in told.err
    assert len(receiver.taken) == 20
    monkeypatch.undo()
    monkeypatch.setenv("QAKHUNT_WEBHOOK_SECRET", "made-up")
    assert run(events, *arguments, now=NEXT) == 0
    ids = [taken.headers["webhook-id"] for taken in receiver.taken]
    assert sorted(ids[:20]) == sorted(ids[20:])  # told again, under the same ids


# The heartbeat, and looking at the state from outside


def test_a_run_that_cannot_begin_says_so_through_its_heartbeat(
    events: Path, state: Path, receiver: Receiver
) -> None:
    with contextlib.closing(open_file(state, Instant.parse(NOW))):  # another run holds it
        code = run(
            events, "--state", str(state), "--sink", f"webhook:{receiver.url}", "--heartbeat",
            "--every", "6h",
        )  # fmt: skip
    assert code == 3
    beat = json.loads(receiver.bodies[0])
    assert beat["status"] == "could not look"
    assert "another run holds" in beat["problem"]
    assert beat["next_expected"] == "2026-10-20T12:00:00.0000000Z"


def test_a_quiet_complete_run_says_that_nothing_was_found(
    tmp_path: Path, state: Path, receiver: Receiver
) -> None:
    quiet = write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", [event("explorer.exe")])
    arguments = ["--state", str(state), "--sink", f"webhook:{receiver.url}", "--heartbeat"]
    assert run(quiet, *arguments) == 0
    (beat,) = map(json.loads, receiver.bodies)
    assert beat["status"] == "looked, complete, nothing found"


def test_check_serves_a_monitor(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(events, "--state", str(state)) == 0
    capsys.readouterr()
    check = ["state", "check", str(state), "--max-age", "26h", "--now"]
    assert qakhunt([*check, NEXT]) == 0
    assert "well" in capsys.readouterr().out
    assert qakhunt([*check, "2026-10-21T08:00:01Z"]) == 1
    said = capsys.readouterr().out
    assert "the last run that came to its end began at 2026-10-20" in said
    assert "complete until 2026-10-20" in said
    assert qakhunt([*check, "2026-10-21T08:00:01Z", "--json"]) == 1
    told = document(capsys)
    assert (told["schema"], told["well"]) == ("qakhunt.state-check/1", False)


def test_a_state_is_looked_at_while_a_run_holds_it_and_never_moved(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(events, "--state", str(state)) == 0
    check = ["state", "check", str(state), "--now", NEXT]
    with contextlib.closing(open_file(state, Instant.parse(NEXT))) as held:
        held.begin("the next", Instant.parse(NEXT))
        assert qakhunt(check) == 0
        assert qakhunt(["state", "show", str(state)]) == 0
    damaged = state.read_bytes()[:5000]
    state.write_bytes(damaged)
    capsys.readouterr()
    assert qakhunt(check) == 2
    assert "is damaged" in capsys.readouterr().err
    assert state.read_bytes() == damaged
    assert run(events, "--state", str(state), "--json", now=NEXT) == 4
    told = document(capsys)
    assert any("was damaged" in warning for warning in told["warnings"])
    backlog = [line for line in told["ledger"] if line["slice"] == "backlog"]
    assert [line["status"] for line in backlog] == ["uncovered"]
    assert "what earlier runs did not answer is unknown" in backlog[0]["detail"]
    assert backlog[0]["gaps"]
    # The run after it knows its backlog again.
    assert run(events, "--state", str(state), now="2026-10-22T06:00:00Z") == 0


def test_a_changed_threshold_does_not_alarm_for_the_old_one(events: Path, state: Path) -> None:
    assert run(events, "--state", str(state), "--threshold", "2") == 0
    assert run(events, "--state", str(state), "--threshold", "1", now=NEXT) == 0
    check = ["state", "check", str(state), "--max-age", "2h", "--now", "2026-10-21T07:00:00Z"]
    assert qakhunt(check) == 0


def test_the_state_is_shown_pruned_and_reset(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(events, "--state", str(state)) == 0
    capsys.readouterr()
    assert qakhunt(["state", "show", str(state), "--json"]) == 0
    shown = document(capsys)
    assert shown["findings"] == 1
    assert shown["coverage"][0]["watermark"].startswith("2026-10-20T06")
    assert qakhunt(["state", "prune", str(state), "--older", "30d", "--now", "2027-01-01"]) == 0
    assert "1 findings, 1 coverage" in capsys.readouterr().out
    assert qakhunt(["state", "reset", str(state), "--yes"]) == 0
    assert qakhunt(["state", "show", str(state)]) == 0
    assert "no run yet" in capsys.readouterr().out


# Bad input: one clear line, a hint, the documented code


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--state", "{tmp}/text.toml"], 2, "is a text file, not a state"),
        (["--state", "{tmp}"], 2, "is a folder"),
        (["--state", "{tmp}/no/s.db"], 2, "cannot hold the state"),
        (["--state", "{tmp}/s.db", "--window", "30d"], 2, "exclude each other"),
        (["--sink", "webhok:https://x"], 2, "did you mean 'webhook'?"),
        (["--sink", "webhook:http://far.example/x"], 2, "plain http"),
        (["--sink", "teams:https://far.example/x?sig=geheim"], 2, "is a secret"),
        (["--sink", "file:{tmp}/no/f.ndjson"], 2, "no such folder"),
        (["--heartbeat"], 2, "--heartbeat needs a --sink"),
        (["--deadline", "soon"], 2, "not a length of time"),
        (["--every", "24", "--sink", "stdout"], 2, "not a length of time"),
        (["--log-format", "xml"], 2, "no log format named 'xml'"),
        (["--suppressions", "{tmp}/none.yaml"], 2, "no such file"),
        (["--suppressions", "{tmp}/bad.yaml"], 2, "owner"),
        (["--state", "https://acct.blob.core.windows.net/c/s.db?sig=geheim"], 2, "signature"),
    ],
)
def test_bad_input_is_one_clear_error(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("QAKHUNT_WEBHOOK_SECRET", "made-up")
    (tmp_path / "text.toml").write_text("[profiles]\n")
    (tmp_path / "bad.yaml").write_text(
        "suppressions:\n  - {reason: r, expires: 2027-01-01, device: d}\n"
    )
    given = [text.replace("{tmp}", str(tmp_path)) for text in arguments]
    assert run(events, *given) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert "geheim" not in err


@pytest.mark.parametrize("options", [["--state", "{tmp}/s.db"], ["--sink", "stdout"]])
def test_the_bundled_sample_is_neither_remembered_nor_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    given = [text.replace("{tmp}", str(tmp_path)) for text in options]
    assert qakhunt(["run", "--backend", "local", *given]) == 2
    assert "is not for the bundled sample" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_clock_set_back_is_said_and_looked_at_again(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(events, "--state", str(state), now=NEXT) == 0
    capsys.readouterr()
    assert run(events, "--state", str(state), "--json", now="2026-10-20T00:00:00Z") == 0
    told = document(capsys)
    assert any("after now" in warning for warning in told["warnings"])
    assert told["ledger"][0]["window"]["end"] == "2026-10-20T00:00:00.0000000Z"


def test_an_overlapping_run_looks_at_nothing_and_says_who_holds_it(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(open_file(state, Instant.parse(NOW))):
        assert run(events, "--state", str(state)) == 3
        err = capsys.readouterr().err
        assert "another run holds the state" in err
        assert "the next run makes up for it" in err
        assert qakhunt(["state", "prune", str(state)]) == 3
    assert qakhunt(["state", "show", f"{state}.none"]) == 2


def test_a_suppression_without_owner_or_expiry_or_of_everything_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["suppress", "add", "--file", str(tmp_path / "s.yaml"), "--now", NOW]
    good = ["--owner", "jd", "--reason", "r", "--expires", "2026-12-01", "--device", "d"]
    for left_out in ("--owner", "--reason", "--expires"):
        at = good.index(left_out)
        assert qakhunt([*base, *good[:at], *good[at + 2 :]]) == 2
        assert left_out in capsys.readouterr().err
    assert qakhunt([*base, *good[:6]]) == 2
    assert "hide everything" in capsys.readouterr().err
    assert qakhunt([*base, *good, "--expires", "2026-01-01"]) == 2
    assert "has passed" in capsys.readouterr().err
    assert not (tmp_path / "s.yaml").exists()


def test_the_deadline_leaves_the_rest_not_run_and_owed(
    events: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(events, "--state", str(state), "--json", "--deadline", "1ms")
    assert code == 3
    told = document(capsys)
    assert {line["status"] for line in told["ledger"]} == {"not_run"}
    assert told["state"]["owed"] == 1
    assert run(events, "--state", str(state), now=NEXT) == 0


def test_a_receiver_that_goes_away_in_mid_request_is_tried_again(
    events: Path, state: Path, receiver: Receiver
) -> None:
    receiver.answers.append(Answer(act=hang_up))
    assert run(events, "--state", str(state), "--sink", f"webhook:{receiver.url}") == 0
    assert len(receiver.taken) == 2
