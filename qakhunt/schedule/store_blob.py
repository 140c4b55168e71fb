"""The state as an Azure blob, held by one run through a lease.

The blob is the same SQLite file. It is taken down when the run begins and sent back
after each change, whole, under the lease; a lease that its holder no longer renews
ends by itself within a minute. Confirmed deliveries, of which there can be hundreds,
are appended to a small blob beside it and taken over when the file is next sent.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.core.errors import StateBusyError, StateError
from qakhunt.schedule.azure_blob import blob_client, check_blob_url, error_code
from qakhunt.schedule.store import Store, connect
from qakhunt.schedule.store_file import open_unlocked, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qakhunt.kql.values import Instant

LEASE_SECONDS = 60
RENEW_SECONDS = 20
RETRIES = 3
NOTES = ".confirmed"


def open_blob(
    url: str, now: Instant, *, environment: Mapping[str, str],
    credential: Callable[[], Any] | None, verify: str | bool = True, create: bool = True,
) -> Store:  # fmt: skip
    """Open and hold the state in the blob at ``url``.

    Raises StateBusyError while another run holds the lease, StateError for a blob that
    cannot be used, and for a missing one unless ``create``.
    """
    check_blob_url(url, "--state")
    folder = Path(tempfile.mkdtemp(prefix="qakhunt-state-"))
    closing: list[Callable[[], None]] = [lambda: shutil.rmtree(folder, ignore_errors=True)]
    try:
        client = blob_client(url, environment, credential, verify, retries=RETRIES)
        closing.append(client.close)
        held = _Held(client, url, create=create)
        closing.append(held.release)
        path = folder / "state.db"
        had_content = held.fetch(path)
        store = open_unlocked(path, url, now)
        beside = blob_client(url + NOTES, environment, credential, verify, retries=RETRIES)
        notes = _Notes(beside, url)
        closing.append(notes.close)
        for kept in folder.glob("state.db.damaged-*"):
            name = url + kept.name.removeprefix("state.db")
            with _state_errors(url), blob_client(name, environment, credential, verify) as aside:
                aside.upload_blob(kept.read_bytes(), overwrite=True)
            store.warnings = [w.replace(kept.name, name.rpartition("/")[2]) for w in store.warnings]
        if not held.created and not had_content:
            store.warnings.append(f"the state {url} was an empty blob; a new one was begun in it")
    except BaseException:
        for action in reversed(closing):
            action()
        raise
    for action in closing:
        store.on_close(action)

    def send() -> None:
        held.send(path)
        notes.clear()

    def send_the_last() -> None:
        if notes.waiting:
            send()

    store.on_change(send)
    store.on_close(send_the_last)
    store.on_confirmation(notes.add)
    earlier = notes.read()
    if earlier:
        store.confirm(earlier)
    return store


def read_blob(
    url: str, *, environment: Mapping[str, str], credential: Callable[[], Any] | None,
    verify: str | bool = True,
) -> Store:  # fmt: skip
    """The state in a blob to look at, also while a run holds it; nothing there is changed.

    Raises StateError for a blob that is missing, damaged or cannot be read.
    """
    from azure.core.exceptions import ResourceNotFoundError

    check_blob_url(url, "the state")
    folder = Path(tempfile.mkdtemp(prefix="qakhunt-state-"))
    path = folder / "state.db"
    try:
        beside = blob_client(url + NOTES, environment, credential, verify, retries=RETRIES)
        notes = _Notes(beside, url)
        with contextlib.closing(notes), _state_errors(url):
            confirmed = notes.read()
            with blob_client(url, environment, credential, verify, retries=RETRIES) as client:
                try:
                    path.write_bytes(client.download_blob().readall())
                except ResourceNotFoundError:
                    raise StateError(
                        f"no such state: {url}", hint="'qakhunt run --state' makes it"
                    ) from None
        read_file(path, url).close()  # refuses what is damaged before anything touches it
        store = Store(connect(path, url), url)
        store.confirm(confirmed)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    store.on_close(lambda: shutil.rmtree(folder, ignore_errors=True))
    return store


class _Notes:
    """Confirmed deliveries that the state's blob does not have yet, one line each."""

    def __init__(self, client: Any, url: str) -> None:
        self._client, self._url = client, url
        self.waiting = False

    def read(self) -> list[dict[str, Any]]:
        """What an earlier run noted; a line cut short was not confirmed."""
        from azure.core.exceptions import ResourceNotFoundError

        with _state_errors(self._url):
            try:
                data: bytes = self._client.download_blob().readall()
            except ResourceNotFoundError:
                return []
        self.waiting = True
        return [json.loads(line) for line in data.split(b"\n")[:-1]]

    def add(self, note: dict[str, Any]) -> None:
        """Note one."""
        with _state_errors(self._url):
            if not self.waiting:
                self._client.create_append_blob()
                self.waiting = True
            self._client.append_block(json.dumps(note).encode() + b"\n")

    def clear(self) -> None:
        """The state's blob has them all."""
        if not self.waiting:
            return
        with _state_errors(self._url):
            self._client.delete_blob()
        self.waiting = False

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class _Held:
    """The blob under its lease."""

    def __init__(self, client: Any, url: str, *, create: bool) -> None:
        self._client, self._url = client, url
        self.created = False
        self._stop = threading.Event()
        self._lease = self._acquire(create)
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def fetch(self, path: Path) -> bool:
        """Write the blob's bytes to ``path``; whether there were any."""
        with _state_errors(self._url):
            data = self._client.download_blob(lease=self._lease).readall()
        if data:
            path.write_bytes(data)
        return bool(data)

    def send(self, path: Path) -> None:
        """Replace the blob by the file. Fails when the lease is no longer ours."""
        with _state_errors(self._url), path.open("rb") as stream:
            self._client.upload_blob(stream, overwrite=True, lease=self._lease)

    def release(self) -> None:
        """Let others have it."""
        self._stop.set()
        with contextlib.suppress(StateError), _state_errors(self._url):
            self._lease.release()

    def _acquire(self, create: bool) -> Any:
        from azure.core.exceptions import HttpResponseError, ResourceExistsError

        with _state_errors(self._url):
            if not self._client.exists():
                if not create:
                    raise StateError(
                        f"no such state: {self._url}", hint="'qakhunt run --state' makes it"
                    )
                with contextlib.suppress(ResourceExistsError):
                    self._client.upload_blob(b"", overwrite=False)
                    self.created = True
            try:
                return self._client.acquire_lease(LEASE_SECONDS)
            except HttpResponseError as problem:
                if problem.status_code != 409:
                    raise
                raise StateBusyError(
                    f"another run holds the state {self._url}",
                    hint="it was not looked at; the next run makes up for it",
                ) from None

    def _renew(self) -> None:
        from azure.core.exceptions import AzureError

        while not self._stop.wait(RENEW_SECONDS):
            # A lease that is lost shows when the state is sent: the service refuses it.
            with contextlib.suppress(AzureError):
                self._lease.renew()


@contextlib.contextmanager
def _state_errors(url: str) -> Iterator[None]:
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        yield
    except HttpResponseError as problem:
        code = error_code(problem)
        host = urlsplit(url).hostname
        raise StateError(
            f"the state {url} cannot be used: {host} answered "
            f"{problem.status_code} {code}".rstrip(),
            hint="the identity needs the role Storage Blob Data Contributor on the container"
            if problem.status_code in (401, 403)
            else None,
        ) from None
    except AzureError as problem:
        raise StateError(f"the state {url} cannot be reached: {type(problem).__name__}") from None
