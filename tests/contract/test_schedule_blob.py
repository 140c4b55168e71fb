"""The state in a blob, with the real client against Azurite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from qakhunt.core.errors import StateBusyError, StateError
from qakhunt.kql.values import Instant
from qakhunt.schedule import store_blob
from qakhunt.schedule.azure_blob import blob_client
from qakhunt.schedule.store import Store
from qakhunt.schedule.store_blob import open_blob, read_blob
from tests.support import crash_points
from tests.support.receivers import AZURITE_KEY, azurite, azurite_command, make_container

pytest.importorskip("azure.storage.blob", reason="azure-storage-blob is not installed")
pytestmark = pytest.mark.skipif(
    azurite_command() is None, reason="Azurite is not installed: npm install azurite"
)

NOW = Instant.parse("2026-11-05T09:00:00Z")
ENVIRONMENT = {"AZURE_STORAGE_KEY": AZURITE_KEY}


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    with azurite() as url:
        yield url


@pytest.fixture
def container(account: str, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-").lower()[-60:].strip("-")
    return make_container(account, name)


def opened(url: str, **options: Any) -> Store:
    return open_blob(url, NOW, environment=ENVIRONMENT, credential=None, **options)


def content(url: str) -> bytes:
    with blob_client(url, ENVIRONMENT, None) as client:
        data: bytes = client.download_blob().readall()
        return data


def test_it_is_kept_between_runs_and_held_by_one(container: str) -> None:
    url = f"{container}/state.db"
    with contextlib.closing(opened(url)) as store:
        assert store.warnings == []
        store.begin("run", NOW)
        crash_points.commit(store)
        with pytest.raises(StateBusyError):
            opened(url)
    with contextlib.closing(opened(url)) as store:
        assert store.coverage(crash_points.KEY) == crash_points.COVERED
        assert len(store.pending()) == 3
        store.delivered(store.pending()[0], NOW, 1)
    with contextlib.closing(opened(url)) as store:
        assert len(store.pending()) == 2


def test_confirmed_deliveries_survive_a_crash_before_the_state_is_sent(container: str) -> None:
    url = f"{container}/state.db"
    crashed = opened(url)
    crashed.begin("run", NOW)
    crash_points.commit(crashed)
    sent = content(url)
    for pending in crashed.pending()[:2]:
        crashed.delivered(pending, NOW, 1)
    assert content(url) == sent  # the whole state is not sent for each
    with blob_client(url, ENVIRONMENT, None) as client:
        from azure.storage.blob import BlobLeaseClient

        BlobLeaseClient(client).break_lease(0)
    with contextlib.closing(opened(url)) as store:
        assert [pending.key for pending in store.pending()] == ["id-2"]
    with contextlib.suppress(StateError):
        crashed.close()
    with contextlib.closing(opened(url)) as store:
        assert [pending.key for pending in store.pending()] == ["id-2"]


def test_a_blob_is_looked_at_while_a_run_holds_it(container: str) -> None:
    url = f"{container}/state.db"
    with contextlib.closing(opened(url)) as store:
        store.begin("run", NOW)
        crash_points.commit(store)
        store.delivered(store.pending()[0], NOW, 1)
        with contextlib.closing(read_blob(url, environment=ENVIRONMENT, credential=None)) as seen:
            assert len(seen.pending()) == 2
            assert seen.coverage(crash_points.KEY) == crash_points.COVERED
    with pytest.raises(StateError, match="no such state"):
        read_blob(f"{container}/none.db", environment=ENVIRONMENT, credential=None)


def test_an_emptied_blob_is_reported(container: str) -> None:
    url = f"{container}/state.db"
    with blob_client(url, ENVIRONMENT, None) as client:
        client.upload_blob(b"")
    with contextlib.closing(opened(url)) as store:
        assert "empty blob" in store.warnings[0]


def test_a_lease_that_was_taken_away_stops_the_run_from_writing(container: str) -> None:
    url = f"{container}/state.db"
    with contextlib.closing(opened(url)) as store:
        store.begin("run", NOW)
        with blob_client(url, ENVIRONMENT, None) as client:
            from azure.storage.blob import BlobLeaseClient

            BlobLeaseClient(client).break_lease(0)
        with contextlib.closing(opened(url)) as other:
            other.begin("other", NOW)
            before = content(url)
            with pytest.raises(StateError, match="Lease"):
                crash_points.commit(store)
            assert content(url) == before


def test_a_damaged_blob_is_kept_aside(container: str) -> None:
    url = f"{container}/state.db"
    with contextlib.closing(opened(url)) as store:
        store.begin("run", NOW)
        crash_points.commit(store)
    damaged = content(url)[:5000]
    with blob_client(url, ENVIRONMENT, None) as client:
        client.upload_blob(damaged, overwrite=True)
    with contextlib.closing(opened(url)) as store:
        assert "state.db.damaged-20261105T090000" in store.warnings[0]
    assert content(f"{url}.damaged-20261105T090000") == damaged


def test_a_missing_container_or_blob_and_a_wrong_key_are_one_error_each(account: str) -> None:
    with pytest.raises(StateError, match="ContainerNotFound"):
        opened(f"{account}/nowhere/state.db")
    url = f"{make_container(account, 'empty')}/state.db"
    with pytest.raises(StateError, match="no such state"):
        opened(url, create=False)
    wrong = {"AZURE_STORAGE_KEY": "d3Jvbmc="}
    with pytest.raises(StateError, match="403") as caught:
        open_blob(url, NOW, environment=wrong, credential=None)
    assert "d3Jvbmc=" not in str(caught.value)
    assert "Storage Blob Data Contributor" in str(caught.value.hint)


def test_an_account_that_is_away_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_blob, "RETRIES", 0)
    with pytest.raises(StateError, match="cannot be reached"):
        opened("http://127.0.0.1:1/devstoreaccount1/c/state.db")
