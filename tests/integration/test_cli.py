"""The program as its users meet it: its screen, its streams and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import HAS_ENGINE
from tests.support.cli import ROOT, on_terminal, qakhunt
from tests.support.events import FOUR, OCTOBER, event, write_ndjson

SAMPLE_WORDS = "bundled sample"


@pytest.mark.engine
def test_without_arguments_the_sample_is_hunted(tmp_path: Path) -> None:
    done = qakhunt("run", cwd=tmp_path)
    assert done.code == 0
    for words in (
        "ws-fin-042.contoso.example",
        "09:12:03, 55 s",
        "HITS: 2 hits on 2 devices",
        SAMPLE_WORDS,
    ):
        assert words in done.out
    assert done.err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.engine
def test_the_sample_is_the_same_on_every_day_and_says_so(tmp_path: Path) -> None:
    documents = [json.loads(qakhunt("run", "--json", "-q", cwd=tmp_path).out) for _ in range(2)]
    for document in documents:
        document["ledger"][0].pop("elapsed")
    assert documents[0] == documents[1]
    assert documents[0]["schema"] == "qakhunt.run/1"
    assert documents[0]["sample"] is True
    assert documents[0]["now"] == "2026-11-05T09:00:00.0000000Z"


@pytest.mark.engine
def test_events_of_ones_own_are_no_sample(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event(c) for c in FOUR])
    done = qakhunt("run", "--events", str(path), "--window", OCTOBER, "--json")
    document = json.loads(done.out)
    assert document["sample"] is False
    assert document["hits"][0]["device"] == "ws-1"
    assert "HITS: 1 hit" in done.err


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--fail-on-hits",), 10),
        (("--threshold", "9"), 0),
        (("--window", "2020-01-01/2020-02-01"), 4),
        (("--window", "2020-01-01/2020-02-01", "--fail-on-hits"), 4),
        (("--command", "a", "--threshold", "0"), 0),
        (("--threshold", "many"), 2),
        (("nope",), 2),
    ],
)
def test_exit_codes_are_the_documented_ones(options: tuple[str, ...], code: int) -> None:
    assert qakhunt("run", "-q", *options).code == code


@pytest.mark.engine
def test_an_uncovered_window_is_never_clean() -> None:
    done = qakhunt("run", "--window", "2020-01-01/2020-02-01")
    assert "INCOMPLETE" in done.out
    assert "CLEAN" not in done.out
    assert "holds no records in the window" in " ".join(done.out.split())


@pytest.mark.engine
def test_options_shape_the_list(tmp_path: Path) -> None:
    events = [event("x"), event("y"), event("z")]
    path = str(write_ndjson(tmp_path / "e.ndjson", events))
    listed = tmp_path / "list.txt"
    listed.write_text("# ours\nx\n\ny\n", encoding="utf-8")
    common = ("run", "--events", path, "--window", OCTOBER, "--json", "-q", "--threshold", "1")
    for options, distinct in (
        (("--command", "x", "--command", "y"), 2),
        (("--commands", str(listed)), 2),
        (("--commands", str(listed), "--add-command", "z"), 3),
        (("--add-command", "x", "--add-command", "y"), 2),
        (("--set", 'QakBotCommands=["x", "z"]'), 2),
    ):
        hits = json.loads(qakhunt(*common, *options).out)["hits"]
        assert [hit["row"]["TotalUniqueCommandsFound"] for hit in hits] == [distinct], options


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "hunt": (("qakbot-post-comand",), "did you mean 'qakbot-post-compromise-commands'?"),
    "parameter": (("--set", "Treshold=1"), "did you mean 'Threshold'?"),
    "value": (("--set", "Threshold=abc"), "Threshold is a long: expected a whole number"),
    "no value": (("--set", "Threshold"), "expected NAME=VALUE"),
    "threshold": (("--threshold", "abc"), "'--threshold': 'abc'"),
    "hopeless threshold": (("--threshold", "11"), "can never be found"),
    "empty list": (("--set", "QakBotCommands=[]"), "the command list is empty"),
    "blank command": (("--command", " "), "must be text"),
    "empty file": (("--commands", os.devnull), "the command list is empty"),
    "window order": (("--window", "2026-11-01/2026-10-01"), "before it starts"),
    "window": (("--window", "soon"), "a window is published"),
    "zone": (("--time-zone", "Mars/Base"), "no time zone named"),
    "now": (("--now", "tomorrow"), "not an ISO 8601"),
    "dialect": (("--dialect", "sentinel"), "no product named"),
    "backend": (("--backend", "locl"), "did you mean 'local'?"),
    "format": (("--format", "jsn"), "did you mean 'json'?"),
    "suffix": (("--out", "x.foo"), "no format has the suffix"),
    "two formats": (("--json", "--format", "csv"), "exclude each other"),
    "folder": (("--out", "no/such/x.json"), "make the folder first"),
    "events": (("--events", "missing.ndjson"), "no such file: missing.ndjson"),
    "option": (("--frobnicate",), "no such option"),
    "hunts": (("--hunts", "nowhere"), "no such folder of hunts"),
}


@pytest.mark.engine
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_a_hint_and_code_2(case: str, tmp_path: Path) -> None:
    options, words = BAD[case]
    done = qakhunt("run", *options, cwd=tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert len(done.error_lines) == 1
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.engine
def test_a_syntax_error_is_told_at_the_hunts_line(tmp_path: Path) -> None:
    path = tmp_path / "h.yaml"
    path.write_text(
        "name: x\nquery: |\n  DeviceProcessEvents\n  | where TimeGenerated > ago(1d)\n  | where x ===== 2\n",
        encoding="utf-8",
    )
    done = qakhunt("run", str(path))
    assert done.code == 5
    assert done.out == ""
    assert done.error_lines == [f"error: {path}:5:15: syntax error: mismatched input '=='"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_a_pipe_or_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    done = qakhunt("hunts", "coverage", "--out", str(pipe), "--force")
    assert done.code == 2
    assert "not a regular file" in done.err
    assert pipe.is_fifo()


@pytest.mark.engine
def test_a_file_appears_whole_and_is_not_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    assert qakhunt("run", "--out", str(target)).code == 0
    first = target.read_text(encoding="utf-8")
    refused = qakhunt("run", "--out", str(target))
    assert (refused.code, refused.error_lines) == (2, [f"error: {target} exists"])
    assert qakhunt("run", "--out", str(target), "--force", "--threshold", "4").code == 0
    assert target.read_text(encoding="utf-8") != first
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.engine
@pytest.mark.parametrize("suffix", ["json", "ndjson", "csv", "md", "parquet", "html", "txt"])
def test_the_format_follows_the_suffix(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out.{suffix}"
    done = qakhunt("run", "--out", str(target))
    assert done.code == 0
    assert done.out == ""
    assert "HITS" in done.err
    start = {
        "json": b"{",
        "ndjson": b'{"hunt"',
        "csv": b'"hunt"',
        "md": b"# S0650",
        "html": b"<!doctype html>",
        "txt": b"HITS",
        "parquet": b"PAR1",
    }
    assert target.read_bytes().startswith(start[suffix])


@pytest.mark.engine
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    code = (
        "import resource, sys; from qakhunt.__main__ import run; import qakhunt.reports.formats as f\n"
        "write = f.FORMATS['json'].write\n"
        "def limited(*a):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); write(*a)\n"
        "object.__setattr__(f.FORMATS['json'], 'write', limited)\n"
        f"sys.exit(run(['run', '--out', {str(target)!r}]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 2
    assert f"error: cannot write {target}: File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def started(writer: int, *arguments: str, unbuffered: str = "") -> subprocess.Popen[bytes]:
    """The program with the pipe's end, which it then has alone, as stdout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "qakhunt", *arguments]
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=environment)
    os.close(writer)
    return process


@pytest.mark.engine
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX pipe")
@pytest.mark.parametrize("format_", ["json", "table"])
def test_a_closed_pipe_changes_no_exit_code(format_: str) -> None:
    reader, writer = os.pipe()
    process = started(writer, "run", "--format", format_, "-q", "--fail-on-hits")
    os.close(reader)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (10, b"")


@pytest.mark.engine
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX pipe")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_takes_little_at_a_time_gets_all(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, b"x" * 60_000)  # so that it has little room
    process = started(writer, "run", "--format", "html", "-q", unbuffered=unbuffered)
    found = b""
    while block := os.read(reader, 1_000 if found else 60_000):
        found += block
    os.close(reader)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.decode()) == (0, "")
    assert found.rstrip().endswith(b"</html>")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("unbuffered", "arguments"),
    [("", ["--help"]), ("", ["hunts", "list", "--json"]), ("1", ["hunts", "list"])],
)
def test_a_stdout_that_takes_nothing_is_one_error(unbuffered: str, arguments: list[str]) -> None:
    process = started(os.open("/dev/full", os.O_WRONLY), *arguments, unbuffered=unbuffered)
    _, err = process.communicate(timeout=60)
    expected = b"error: cannot write to standard output: No space left on device\n"
    assert (process.returncode, err) == (2, expected)


@pytest.mark.engine
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_findings_that_stdout_did_not_take_are_sent_by_the_next_run(tmp_path: Path) -> None:
    hunt = tmp_path / "each.yaml"
    hunt.write_text(
        "name: each\nqakhunt:\n  lookback: 1d\n  window: {start: S, end: E}\nquery: |\n"
        "  let S = ago(1d);\n  let E = now();\n  DeviceProcessEvents\n"
        "  | where TimeGenerated >= S and TimeGenerated < E\n"
        "  | summarize n = count() by DeviceName\n",
        encoding="utf-8",
    )
    records = [event("x", DeviceName=f"d{n}") for n in range(3)]
    path = write_ndjson(tmp_path / "e.ndjson", records)
    arguments = [
        "run", str(hunt), "--events", str(path), "--state", str(tmp_path / "state"),
        "--sink", "stdout", "--now",
    ]  # fmt: skip
    process = started(os.open("/dev/full", os.O_WRONLY), *arguments, "2026-10-05T12:00:00Z")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 6
    assert b"0 of 3 messages delivered" in err
    again = qakhunt(*arguments, "2026-10-05T13:00:00Z")
    assert len(again.out.splitlines()) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_closed_stdout_is_one_error_where_it_is_needed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"exec {sys.executable} -m qakhunt hunts coverage"
    for rest, code, words in (
        ("", 2, "error: cannot write to standard output: it is closed\n"),
        (f"--out {tmp_path}/navigator.json", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", f"{command} {rest} >&-"],
            env=environment, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, words)


def _asks(pid: int) -> bool:
    """Whether the process has used its processor for a while: loading takes far less."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return False
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 1.5


@pytest.mark.engine
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("command", ["run", "diff"])
def test_ctrl_c_ends_in_order(tmp_path: Path, command: str) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event(f"c{i}") for i in range(1500)])
    hunt = tmp_path / "slow.kql"
    hunt.write_text(
        "let T = DeviceProcessEvents | where TimeGenerated > ago(90d) | extend k = 1;\n"
        "T | join kind=inner (T) on k | join kind=inner (T) on k\n"
        "| summarize n = dcount(strcat(ProcessCommandLine, ProcessCommandLine1, DeviceName2))",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    hunts = [str(hunt)] if command == "run" else [str(hunt), str(hunt)]
    process = subprocess.Popen(
        [sys.executable, "-m", "qakhunt", command, *hunts, "--events", str(path), "--now", "2026-11-05"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not _asks(process.pid):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 130
    assert "Traceback" not in err + out
    assert "interrupted" in err + out


@pytest.mark.engine
@pytest.mark.skipif(
    sys.platform != "linux", reason="is not for other systems: a terminal by its name"
)
def test_a_terminal_gets_colour_and_a_sign_of_life_unless_told_otherwise() -> None:
    coloured = on_terminal("run", columns=100)
    assert "\x1b[1;31m" in coloured
    plain = on_terminal("run", "-q", columns=100, env={"NO_COLOR": "1"})
    assert "\x1b[1;31m" not in plain
    assert "HITS: 2 hits" in plain


@pytest.mark.engine
@pytest.mark.skipif(
    sys.platform != "linux", reason="is not for other systems: a terminal by its name"
)
def test_exports_on_a_terminal_are_escaped(tmp_path: Path) -> None:
    records = [event(f"c{i} \x1b]0;owned\x07") for i in range(3)]
    path = write_ndjson(tmp_path / "e.ndjson", records)
    options = ["--window", OCTOBER, "--threshold", "1"]
    for record in records:
        options += ["--command", str(record["ProcessCommandLine"])]
    for name in ("table", "csv", "json", "ndjson", "markdown"):
        shown = on_terminal(
            "run",
            "--events",
            str(path),
            *options,
            "-q",
            "--format",
            name,
            columns=200,
            env={"NO_COLOR": "1"},
        )
        assert "owned" in shown, name
        assert "\x1b]0" not in shown, name
        assert "\x07" not in shown, name


def test_render_prints_the_query_and_nothing_else() -> None:
    done = qakhunt("render", "qakbot-post-compromise-commands", "--now", "2026-11-05T09:00:00Z")
    window = "2026-10-01T00:00:00Z/2026-11-01T00:00:00Z"
    assert done.err == f"note: window {window}: the hunt's own window\n"
    assert qakhunt("render", "--now", "2026-11-05T09:00:00Z") == done
    golden = ROOT / "tests" / "golden" / "qakbot-post-compromise-commands.log-analytics.kql"
    assert done.out == golden.read_text(encoding="utf-8")


def test_render_warns_where_run_refuses() -> None:
    done = qakhunt(
        "render", "qakbot-post-compromise-commands", "--threshold", "11", "--now", "2026-11-05"
    )
    assert done.code == 0
    assert "let Threshold = 11;" in done.out
    assert "can never be found" in done.err


def test_render_for_a_product_that_a_hunt_is_not_for(tmp_path: Path) -> None:
    path = tmp_path / "h.kql"
    path.write_text("SecurityEvent\n| where TimeGenerated > ago(1d)", encoding="utf-8")
    done = qakhunt("render", str(path), "--dialect", "defender")
    assert done.code == 2
    assert done.out == ""
    assert "not available for defender" in done.err
    assert f"{path}:1:1" in done.err


def test_render_loads_no_engine_no_azure_and_no_table_library() -> None:
    code = (
        "import sys; from qakhunt.__main__ import run; run(['render', 'qakbot-post-compromise-commands'])\n"
        "heavy = {'duckdb', 'duckdb_kql', 'azure', 'msal', 'rich', 'jinja2', 'starlette', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_hunts_can_be_listed_for_programs() -> None:
    document = json.loads(qakhunt("hunts", "list", "--json").out)
    assert document["schema"] == "qakhunt.hunts/1"
    first = next(h for h in document["hunts"] if h["name"] == "qakbot-post-compromise-commands")
    assert set(first) == {"name", "title", "id", "version", "products", "source"}
    assert first["version"] == "2.0"


def test_a_hunt_shows_what_it_is() -> None:
    done = qakhunt("hunts", "show", "qakbot-post-compromise-commands")
    flat = " ".join(done.out.split())
    for words in (
        "QakBotCommands: dynamic", "Threshold: long = 3", "(--threshold)", "startofmonth(ago(15d))",
        "T1069.001 Permission Groups Discovery: Local Groups", "S0650", "DS0017", "Triage",
        "Known limits", "Two entries can never match",
    ):  # fmt: skip
        assert words in flat


def test_the_published_page_is_shown(mission_page: Path) -> None:
    done = qakhunt("hunts", "show", str(mission_page))
    assert done.code == 0
    assert "collect information on the device(s)" in " ".join(done.out.split())


def test_a_new_hunt_is_written_once(tmp_path: Path) -> None:
    assert qakhunt("hunts", "new", "my-hunt", cwd=tmp_path).code == 0
    assert qakhunt("hunts", "new", "my-hunt", cwd=tmp_path).code == 2
    assert qakhunt("hunts", "new", "../evil", cwd=tmp_path).code == 2
    done = qakhunt("render", "my-hunt.yaml", cwd=tmp_path)
    assert done.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-hunt.yaml", "tests"]


def test_ones_own_folder_of_hunts_is_found(tmp_path: Path) -> None:
    qakhunt("hunts", "new", "my-hunt", "--in", str(tmp_path))
    assert qakhunt("render", "my-hunt", "--hunts", str(tmp_path)).code == 0
    assert qakhunt("render", "my-hunt", env={"QAKHUNT_HUNTS": str(tmp_path)}).code == 0
    config = tmp_path / "config.toml"
    config.write_text('hunts_folders = ["."]\n', encoding="utf-8")
    assert qakhunt("render", "my-hunt", env={"QAKHUNT_CONFIG": str(config)}).code == 0
    if HAS_ENGINE:
        local = ("--config", str(config), "--backend", "local")
        assert qakhunt("run", "my-hunt", "-q", *local).code == 0
    assert qakhunt("render", "my-hunt").code == 2


def test_version_and_help() -> None:
    from qakhunt import __version__

    assert qakhunt("--version").out == f"qakhunt {__version__}\n"
    assert "Usage: qakhunt" in qakhunt("--help").out
    unknown = qakhunt("rnu")
    assert unknown.code == 2
    assert "did you mean 'run'?" in unknown.err


def test_completion_is_offered() -> None:
    # The shell that runs the tests need not be one that typer knows.
    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = qakhunt("--show-completion", "bash", env=told)
    completed = qakhunt(
        env={"_QAKHUNT_COMPLETE": "complete_bash", "COMP_WORDS": "qakhunt re", "COMP_CWORD": "1"}
    )
    assert "qakhunt" in done.out + done.err
    assert "render" in completed.out
