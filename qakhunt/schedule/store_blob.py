"""The state as an Azure blob, held by one run through a lease.

The blob is the same SQLite file. It is taken down when the run begins and sent back
after each change, whole, under the lease; a lease that its holder no longer renews
ends by itself within a minute.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.errors import StateBusyError, StateError
from qakhunt.schedule.azure_blob import blob_client, check_blob_url, error_code
from qakhunt.schedule.store_file import open_unlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qakhunt.kql.values import Instant
    from qakhunt.schedule.store import Store

LEASE_SECONDS = 60
RENEW_SECONDS = 20
RETRIES = 3


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
        fresh = held.fetch(path)
        store = open_unlocked(path, url, now)
        for kept in folder.glob("state.db.damaged-*"):
            name = url + kept.name.removeprefix("state.db")
            with _told(url), blob_client(name, environment, credential, verify) as aside:
                aside.upload_blob(kept.read_bytes(), overwrite=True)
            store.warnings = [w.replace(kept.name, name.rpartition("/")[2]) for w in store.warnings]
        if fresh:
            store.warnings.clear()  # an empty blob is how a new state begins
    except BaseException:
        for action in reversed(closing):
            action()
        raise
    for action in closing:
        store.on_close(action)
    store.on_change(lambda: held.send(path))
    return store


class _Held:
    """The blob under its lease."""

    def __init__(self, client: Any, url: str, *, create: bool) -> None:
        self._client, self._url = client, url
        self._stop = threading.Event()
        self._lease = self._acquire(create)
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def fetch(self, path: Path) -> bool:
        """Write the blob's bytes to ``path``; whether it was new, and so empty."""
        with _told(self._url):
            data = self._client.download_blob(lease=self._lease).readall()
        if data:
            path.write_bytes(data)
        return not data

    def send(self, path: Path) -> None:
        """Replace the blob by the file. Fails when the lease is no longer ours."""
        with _told(self._url):
            self._client.upload_blob(path.read_bytes(), overwrite=True, lease=self._lease)

    def release(self) -> None:
        """Let others have it."""
        self._stop.set()
        with contextlib.suppress(StateError), _told(self._url):
            self._lease.release()

    def _acquire(self, create: bool) -> Any:
        from azure.core.exceptions import HttpResponseError, ResourceExistsError

        with _told(self._url):
            if not self._client.exists():
                if not create:
                    raise StateError(
                        f"no such state: {self._url}", hint="'qakhunt run --state' makes it"
                    )
                with contextlib.suppress(ResourceExistsError):
                    self._client.upload_blob(b"", overwrite=False)
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
def _told(url: str) -> Iterator[None]:
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        yield
    except HttpResponseError as problem:
        code = error_code(problem)
        host = urlsplit(url).hostname
        raise StateError(
            f"the state {url} cannot be used: {host} answered {problem.status_code} {code}".rstrip(),
            hint="the identity needs the role Storage Blob Data Contributor on the container"
            if problem.status_code in (401, 403)
            else None,
        ) from None
    except AzureError as problem:
        raise StateError(f"the state {url} cannot be reached: {type(problem).__name__}") from None
