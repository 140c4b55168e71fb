"""Logs Ingestion: rows are kept as sent, the documented limits hold."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.testing.emulator.app import MOST_BYTES
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import fetch, guid, scenario_of, tenant_of, token

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/dataCollectionRules/dcr-1/streams/Custom-Findings_CL?api-version=2023-01-01"
TYPE = "application/json"


@pytest.fixture(scope="module")
def emulator(events: str) -> Iterator[Emulator]:
    with Emulator(scenario_of(tenant_of("sink", events))) as served:
        yield served


def send(emulator: Emulator, body: bytes, **headers: str) -> tuple[int, str]:
    bearer = token(emulator, guid("tenant", "sink"), "https://monitor.azure.com")
    headers = {"content_type": TYPE, "authorization": f"Bearer {bearer}", **headers}
    status, _, answer = fetch(emulator, PATH, body, **headers)
    return status, json.loads(answer)["error"]["code"] if answer else ""


def kept(emulator: Emulator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        fetch(emulator, "/emulator/rows/dcr-1/Custom-Findings_CL")[2]
    )
    return rows


def test_rows_are_kept_plain_or_gzipped(emulator: Emulator) -> None:
    first, second = [{"Hunt": "a", "Score": 1}], [{"Hunt": "ü"}, {"Hunt": "c"}]
    assert send(emulator, json.dumps(first).encode()) == (204, "")
    packed = gzip.compress(json.dumps(second).encode())
    assert send(emulator, packed, content_encoding="gzip") == (204, "")
    assert kept(emulator) == first + second


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"[{}]", {"content_type": "text/plain"}, 415, "UnsupportedMediaType"),
        (b"{}", {}, 400, "InvalidRequest"),
        (b"[1]", {}, 400, "InvalidRequest"),
        (b"[{", {}, 400, "InvalidRequest"),
        (b"not gzip", {"content_encoding": "gzip"}, 400, "InvalidRequest"),
        (
            gzip.compress(b'[{"a":"' + b"x" * MOST_BYTES + b'"}]'),
            {"content_encoding": "gzip"},
            413,
            "ContentLengthLimitExceeded",
        ),
        (b"[{}]", {"authorization": "Bearer foreign"}, 401, "InvalidAuthenticationToken"),
        (b"[{}]", {"authorization": ""}, 401, "InvalidAuthenticationToken"),
    ],
)
def test_what_the_service_refuses_is_not_kept(
    emulator: Emulator, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    before = kept(emulator)
    assert send(emulator, body, **headers) == (status, code)
    assert kept(emulator) == before


def test_a_graph_token_does_not_open_the_ingestion(emulator: Emulator) -> None:
    bearer = token(emulator, guid("tenant", "sink"), "https://graph.microsoft.com")
    assert send(emulator, b"[{}]", authorization=f"Bearer {bearer}")[0] == 401
