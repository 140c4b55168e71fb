"""Exports: every format shows the same cells, and nothing in them acts."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.answers.cells import to_text
from qakhunt.answers.run_result import RunResult
from qakhunt.answers.table import Column
from qakhunt.core.safe_text import (
    for_csv,
    for_json,
    for_markdown,
    for_spreadsheet,
    for_terminal,
)
from qakhunt.core.writing import whole_file
from qakhunt.reports.details import ExportOptions
from qakhunt.reports.formats import FORMATS, export_bytes, flat_table
from tests.support.events import MISSION
from tests.support.hostile import ROWS, result_of


def exported(name: str, result: RunResult, **options: Any) -> bytes:
    return export_bytes(result, FORMATS[name], ExportOptions(**options))


_CELL = re.compile(r'(?:"((?:[^"]|"")*)")?(,|\r\n)')


def read_csv(data: bytes) -> list[list[str]]:
    """RFC 4180, NUL included, which Python 3.10's own reader refuses."""
    rows: list[list[str]] = [[]]
    text, at = data.decode(), 0
    while at < len(text):
        cell = _CELL.match(text, at)
        assert cell, text[at : at + 40]
        rows[-1].append((cell[1] or "").replace('""', '"'))
        if cell[2] != ",":
            rows.append([])
        at = cell.end()
    return rows[:-1]


def test_json_csv_and_ndjson_agree_cell_by_cell() -> None:
    result = result_of(ROWS)
    table = flat_table(result)
    document = json.loads(exported("json", result))
    lines = [json.loads(line) for line in exported("ndjson", result).splitlines()]
    assert document["hits"] == lines
    names, *rows = read_csv(exported("csv", result, csv_raw=True))
    assert names == table.names
    for hit, cells, row in zip(document["hits"], rows, table.rows, strict=True):
        assert cells == [to_text(cell) for cell in row]
        for name, text in zip(list(hit["row"]), cells[4:], strict=True):
            assert to_text(hit["row"][name]) == text


@pytest.mark.engine
def test_parquet_agrees_and_keeps_types_and_ticks(tmp_path: Path) -> None:
    import duckdb

    result = result_of(ROWS)
    path = tmp_path / "x.parquet"
    path.write_bytes(exported("parquet", result))
    found = duckdb.execute(f"SELECT *, epoch_ns(T) AS ticks FROM '{path}'")
    names = [column[0] for column in found.description]
    table = flat_table(result)
    assert [name.casefold() for name in names[:-1]] == [n.casefold() for n in table.names]
    times = table.names.index("T")
    for cells, row in zip(found.fetchall(), table.rows, strict=True):
        for position, (cell, expected) in enumerate(zip(cells[:-1], row, strict=True)):
            if position == times:
                continue
            if isinstance(cell, float):
                assert repr(cell) == repr(expected)
            elif isinstance(cell, str):
                assert cell == to_text(expected)
            else:
                assert cell == expected
    first = duckdb.execute(f"SELECT epoch_ns(T) % 1000000000 FROM '{path}' LIMIT 1").fetchone()
    assert first == (123_456_700,)


@pytest.mark.parametrize("name", [n for n, f in FORMATS.items() if f.text])
def test_no_format_carries_a_control_character(name: str) -> None:
    """A CSV cell may hold TAB, LF and CRLF, which are CSV's own inside quotes."""
    data = exported(name, result_of(ROWS)).decode()
    if name == "csv":
        data = data.replace("\r\n", "\n").replace("\t", " ")
        assert "\\x1b[2J" in data
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u200b]", data)


def test_headings_that_data_named_are_as_harmless() -> None:
    columns = (Column("DeviceName", "string"), Column("=1+1\x1b[2J", "string"))
    data = exported("csv", result_of([("d", "x")], columns))
    assert b'"\'=1+1\\x1b[2J"\r\n' in data
    assert b"\x1b" not in data


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_without_hits_a_file_is_still_written(name: str) -> None:
    if name == "parquet":
        pytest.importorskip("duckdb")
    data = exported(name, result_of([]))
    if name in ("ndjson", "ocsf"):
        assert data == b""
    elif name == "json":
        assert json.loads(data)["hits"] == []
    elif name in ("csv", "parquet"):
        assert b"CommandLineList" in data
    elif name == "navigator":
        assert json.loads(data)["techniques"] == []
    else:
        assert b"CLEAN" in data


def from_spreadsheet(cell: str) -> str:
    """What a reader of the guard takes away: one apostrophe in front."""
    return cell.removeprefix("'")


def test_csv_guards_formulas_and_gives_them_back() -> None:
    result = result_of(ROWS)
    guarded, raw = (
        read_csv(exported("csv", result)),
        read_csv(exported("csv", result, csv_raw=True)),
    )
    kinds = [column.kql_type for column in flat_table(result).columns]
    for safe, plain in zip(guarded[1:], raw[1:], strict=True):
        for kind, cell, original in zip(kinds, safe, plain, strict=True):
            if kind in ("string", "dynamic", "timespan", "guid"):
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
                assert from_spreadsheet(cell) == for_csv(original)
            else:
                assert cell == original


def test_csv_tells_null_from_empty_text() -> None:
    line = exported("csv", result_of([ROWS[1]])).decode().splitlines()[1]
    assert line.startswith(f'"{MISSION}","p",,"w",,"",,')


def test_long_command_lines_are_never_cut() -> None:
    for name in ("json", "ndjson", "csv", "markdown"):
        assert b"a" * 40_000 in exported(name, result_of(ROWS))


def _cells_of_markdown(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
    return cells[1:-1]


def test_the_markdown_result_agrees_cell_by_cell() -> None:
    text = exported("markdown", result_of(ROWS)).decode()
    section = text[text.index("## Result") :]
    _, _, *rows = [line for line in section.splitlines() if line.startswith("| ")]
    table = flat_table(result_of(ROWS))
    for line, row in zip(rows[: len(ROWS)], table.rows, strict=True):
        cells = [cell.strip() for cell in _cells_of_markdown(line)]
        assert cells == [for_markdown(to_text(cell)).strip() for cell in row]


def test_markdown_renders_hostile_text_as_text() -> None:
    """Read by a real Markdown parser it has the report's own elements and links alone."""
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(
        exported("markdown", result_of(ROWS)).decode()
    )  # fmt: skip
    own = "p strong ul ol li table thead tbody tr th td h1 h2 h3 pre code a"
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= set(own.split())
    links = re.findall(r'href="([^"]*)"', html)
    assert links
    for link in links:
        assert link.startswith(("https://security.microsoft.com/", "https://attack.mitre.org/",
                                "https://portal.azure.com/", "https://github.com/",
                                "https://www.trendmicro.com/")), link  # fmt: skip


@given(st.text())
def test_terminal_text_has_no_control_and_loses_nothing(text: str) -> None:
    shown = for_terminal(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    if text.isprintable():
        assert shown == text


@given(st.recursive(st.text() | st.none() | st.integers(), st.lists, max_leaves=5))
def test_escaped_json_has_the_same_value(value: Any) -> None:
    assert json.loads(for_json(json.dumps(value, ensure_ascii=False))) == value


@given(st.text())
def test_the_spreadsheet_guard_is_reversible(text: str) -> None:
    assert from_spreadsheet(for_spreadsheet(text)) == text


_AHEAD = st.text(
    st.sampled_from(" \t\r\n\x00\x0b\x1b\xa0\xad\u2003\u200b\u200e\u202e\u2060\u3000\ufeff")
)


@given(_AHEAD, st.sampled_from("=+-@\uff1d\uff0b\uff0d\uff20"), st.text())
def test_nothing_ahead_of_a_formula_keeps_it_from_being_guarded(
    ahead: str, sign: str, rest: str
) -> None:
    assert for_spreadsheet(ahead + sign + rest).startswith("'")


@given(st.text())
def test_what_a_csv_cell_shows_moves_no_cursor_and_hides_nothing(text: str) -> None:
    shown = for_csv(text)
    shown.encode()  # no lone surrogate is left
    kept = shown.replace("\r\n", "").replace("\n", "").replace("\t", "")
    assert for_terminal(kept) == kept


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_any_text_is_plain_in_markdown(text: str) -> None:
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(
        f"| a |\n| --- |\n| x{for_markdown(text)}x |\n"
    )  # fmt: skip
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert html.count("<td>") == 1


@pytest.mark.parametrize("mask", [0, 0o022])
def test_a_written_file_is_its_owners_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        for named in (False, True):
            with whole_file(tmp_path / f"{named}", named=named) as temporary:
                temporary.write_bytes(b"x")
        with whole_file(tmp_path / "sarif", private=False) as temporary:
            temporary.write_bytes(b"x")
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("True", "False")} == {0o600}
    assert (tmp_path / "sarif").stat().st_mode & 0o777 == 0o666 & ~mask
