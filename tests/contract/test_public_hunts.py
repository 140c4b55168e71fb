"""Queries as public hunts are written: each is rendered for both products and asked live."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from qakhunt.core.errors import NotAvailableError
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.schema import columns
from qakhunt.kql.values import Instant
from qakhunt.testing.microsoft_parser import microsoft_parser, why_missing
from tests.support.cli import qakhunt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.testing.emulator.queries import Query

NOW = "2026-10-10T12:00:00Z"
CORPUS = Path(__file__).parents[1] / "support" / "public_hunts.yaml"
UNRESOLVED = frozenset(["KS142", "KS204", "KS211"])  # a name that the schemas do not hold


@dataclass(frozen=True)
class Public:
    """One query of the corpus; ``custom`` reads what no shipped schema has."""

    query: str
    custom: bool = False


def corpus() -> list[Public]:
    entries = yaml.safe_load(CORPUS.read_text(encoding="utf-8"))
    return [Public(**entry) if isinstance(entry, dict) else Public(entry) for entry in entries]


ALL = corpus()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("hunts")
    paths = []
    for number, public in enumerate(ALL):
        path = folder / f"h{number:03d}.kql"
        path.write_bytes(public.query.encode())
        paths.append(path)
    return paths


def test_there_are_enough_of_them() -> None:
    assert len({public.query for public in ALL}) == len(ALL) >= 100


@pytest.mark.skipif(microsoft_parser() is None, reason=str(why_missing()))
def test_microsofts_parser_accepts_each_as_written_and_as_rendered(files: list[Path]) -> None:
    parser = microsoft_parser()
    assert parser is not None

    def errors(text: str, product: str, custom: bool) -> list[str]:
        known = UNRESOLVED if custom else ()
        found = parser.check(text, product).diagnostics
        return [d.message for d in found if d.severity == "error" and d.code not in known]

    for public, path in zip(ALL, files, strict=True):
        written = {p: errors(public.query, p, public.custom) for p in ("log-analytics", "defender")}
        assert not all(written.values()), (public.query, written)
        for product, before in written.items():
            try:
                text = render(load_hunt(path), now=Instant.parse(NOW), product=product).text
            except NotAvailableError:
                continue
            # A query in one product's columns may not be one of the other's; none gets worse.
            assert len(errors(text, product, public.custom)) <= len(before), text


@pytest.mark.parametrize("window", ["published", "30d", "1h", "2025-01-01/2025-02-01"])
@pytest.mark.parametrize("product", ["log-analytics", "defender"])
def test_each_is_rendered(files: list[Path], product: str, window: str) -> None:
    """Refused is only what Defender does not have: a table, or Log Analytics' TenantId."""
    refused = []
    for path in files:
        try:
            rendered = render(
                load_hunt(path), now=Instant.parse(NOW), product=product, window=window
            )
        except NotAvailableError as problem:
            refused.append(problem.message)
            continue
        assert rendered.window.start < rendered.window.end
    for message in refused:
        assert product == "defender"
        kind, name = message.split("which has no ")[1].split(";")[0].split()
        assert (kind, name) == ("column", "TenantId") or (
            kind == "table" and columns("log-analytics", name) and not columns("defender", name)
        )
    assert len(refused) == (28 if product == "defender" else 0)


class Sent:
    """The queries that reached the emulator. What its engine cannot run gets one row."""

    def __init__(self, services: Any) -> None:
        self.queries: list[Query] = []
        self.run = 0
        self._answer = services.answer
        services.answer = self

    def __call__(self, query: Query, fault: Any, at: Any) -> Any:
        from qakhunt.answers import wire_hunting, wire_log_analytics
        from qakhunt.answers.table import Column, ResultTable
        from qakhunt.testing.emulator.replies import JSON, Reply

        self.queries.append(query)
        reply = self._answer(query, fault, at)
        if reply.status == 200:
            self.run += 1
            return reply
        table = ResultTable((Column("DeviceName", "string"),), [("pc-1",)])
        wire: Any = wire_hunting if query.service == "graph" else wire_log_analytics
        return Reply(200, wire.encode(table), {"content-type": JSON})


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Sent, dict[str, str]]]:
    pytest.importorskip("duckdb_kql", reason="the emulator needs the embedded engine")
    pytest.importorskip("uvicorn", reason="the emulator is an extra")
    from qakhunt.testing.emulator.scenario import App, LoadedScenario, Scenario
    from qakhunt.testing.emulator.server import Emulator
    from tests.emulator.support import APP, process_events, tenant_of, write_events

    events = write_events(tmp_path / "DeviceProcessEvents.ndjson", process_events())
    tenant = tenant_of("contoso", events)
    scenario = Scenario(tenants=(tenant,), apps=(App(client_id=APP, secret="s3cret"),), now=NOW)
    with Emulator(LoadedScenario(scenario, tmp_path), tls=True, host="localhost") as served:
        lines = []
        for backend in ("log-analytics", "defender"):
            spaces = f'workspaces = ["{tenant.workspaces[0].id}"]\n'
            lines.append(
                f'[profiles.{backend}]\nbackend = "{backend}"\ntenant = "{tenant.id}"\n'
                f'ca_file = "{served.ca}"\nauthority = "{served.url}"\n'
                f'log_analytics_endpoint = "{served.url}"\ngraph_endpoint = "{served.url}"\n'
                + spaces
                * (backend == "log-analytics")
                + f'sign_in = {{ kind = "client-secret", client_id = "{APP}", '
                'client_secret_env = "HUNTER" }\n'
                f"[profiles.{backend}.limits]\ncalls = 10000\n"
            )
        config = tmp_path / "config.toml"
        config.write_text("\n".join(lines))
        env = {"QAKHUNT_CONFIG": str(config), "HUNTER": "s3cret", "DBUS_SESSION_BUS_ADDRESS": ""}
        yield Sent(served.emulation.queries), env


@pytest.mark.parametrize(
    ("product", "window"), [("log-analytics", "published"), ("defender", "3d")]
)
def test_each_is_asked_live_with_its_window_as_the_span(
    live: tuple[Sent, dict[str, str]], files: list[Path], product: str, window: str
) -> None:
    sent, env = live
    asked = {}
    for path in files:
        try:
            rendered = render(
                load_hunt(path), now=Instant.parse(NOW), product=product, window=window
            )
        except NotAvailableError:
            continue
        asked[str(path)] = rendered
    done = qakhunt(
        "run", *asked, "--profile", product, "--window", window, "--now", NOW, "--json", env=env
    )
    assert not done.error_lines
    document = json.loads(done.out)
    assert len(document["hunts"]) == len(asked)
    assert not {"failed", "not_run"} & {line["status"] for line in document["ledger"]}
    reached = {query.text: query.window for query in sent.queries}
    for rendered in asked.values():
        assert reached[rendered.text] == rendered.window
    # The engine answers most of them itself, coverage checks included.
    assert len(sent.queries) - sent.run < len(sent.queries) / 2
