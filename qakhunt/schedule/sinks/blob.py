"""One Azure blob per finding, named by its id; sending one again replaces it by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.schedule.azure_blob import blob_client, check_blob_url
from qakhunt.schedule.sinks.azure_errors import not_taken
from qakhunt.schedule.sinks.base import heartbeat_key, to_json
from qakhunt.schedule.store import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.schedule.sinks.base import Report, Surroundings


class BlobSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A container's URL, with a prefix for the names if wanted."""

    url: str


class BlobSink:
    """Blobs under the container's URL: ``<id>.json`` and ``heartbeat.json``."""

    def __init__(self, name: str, settings: BlobSettings, surroundings: Surroundings) -> None:
        self.name = name
        self._url = check_blob_url(settings.url, f"sink {name}").rstrip("/")
        self._surroundings = surroundings

    def messages(self, report: Report) -> Iterator[Message]:
        """One per finding."""
        for finding in report.findings:
            yield Message(self.name, finding["id"], to_json(finding), findings=(finding["id"],))

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """The document as it is."""
        return [Message(self.name, heartbeat_key(document), to_json(document), "heartbeat")]

    def send(self, message: Message) -> None:
        """Upload the blob whole."""
        name = "heartbeat" if message.kind == "heartbeat" else message.key
        around = self._surroundings
        try:
            client = blob_client(
                f"{self._url}/{name}.json", around.environment, around.credential, around.verify
            )
            with client:
                client.upload_blob(message.payload + b"\n", overwrite=True)
        except Exception as problem:
            raise not_taken(problem, "the blob service") from None

    def close(self) -> None:
        """Nothing is held open."""
