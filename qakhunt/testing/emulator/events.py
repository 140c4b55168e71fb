"""Recorded events of all tenants, loaded once and asked one query at a time."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from qakhunt.backends.engine.session import Session
from qakhunt.core.safe_text import for_terminal
from qakhunt.kql.tokens import Kind, KqlLexError, tokenize
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from qakhunt.answers.table import ResultTable
    from qakhunt.kql.values import Window

_ANY_TIME = Instant.parse("2000-01-01")


class EventStore:
    """One engine per set of inputs and product, shared by all workspaces that hold it."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[tuple[str, ...], str], tuple[Session, threading.Lock]] = {}
        self._opening = threading.Lock()

    def open(self, inputs: tuple[str, ...], product: str) -> tuple[Session, threading.Lock]:
        """Load the inputs, once. Raises EventsError, EngineError."""
        key = (inputs, product)
        with self._opening:
            if key not in self._sessions:
                session = Session(inputs, product)
                for text in session.inputs.warnings():
                    print(f"warning: {for_terminal(text)}", file=sys.stderr)
                self._sessions[key] = (session, threading.Lock())
            return self._sessions[key]

    def loaded_tables(self, inputs: tuple[str, ...], product: str) -> frozenset[str]:
        """The tables of which the inputs hold records."""
        return frozenset(self.open(inputs, product)[0].loaded_tables)

    def ask(
        self,
        inputs: tuple[str, ...],
        product: str,
        text: str,
        *,
        now: Instant,
        window: Window,
        timeout: float,
        workspace: str | None,
    ) -> ResultTable:
        """Run one query over the inputs; as ``Session.ask``."""
        session, lock = self.open(inputs, product)
        if not _reads_the_clock(text):
            now = _ANY_TIME  # the engine keeps what it translated, by text and time
        with lock:
            return session.ask(text, now=now, window=window, timeout=timeout, workspace=workspace)

    def close(self) -> None:
        """Give back the engines and their temporary files."""
        for session, lock in self._sessions.values():
            with lock:
                session.close()
        self._sessions.clear()


def _reads_the_clock(text: str) -> bool:
    try:
        tokens = tokenize(text)
    except KqlLexError:
        return False
    return any(t.kind is Kind.IDENTIFIER and t.text in ("now", "ago") for t in tokens)
