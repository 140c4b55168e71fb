"""What rewriting asks of an open session: columns, rows, and files for addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.sql_types import kql_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.backends.engine.external import ExternalFiles
    from qakhunt.backends.engine.session import Session
    from qakhunt.kql.schema import Columns
    from qakhunt.kql.values import Instant


class SessionHost:
    """A session at one moment. Its queries are single SELECTs, as all of the session's are."""

    def __init__(self, session: Session, now: Instant) -> None:
        self._session = session
        self._now = now
        self.product = session.product
        self.parameters: dict[str, Any] = {}

    @property
    def tables(self) -> Mapping[str, Columns]:
        """Every table that a query may read."""
        return self._session.known_tables

    @property
    def loaded(self) -> Sequence[str]:
        """Tables that the inputs hold records of."""
        return self._session.loaded_tables

    def sql(self, text: str, tables: Mapping[str, Columns]) -> str:
        """A query in SQL, in the order of its own rows. Raises Unreadable."""
        self._session.supply_named_tables(text)
        found = self._session.sql_of(text, self._now, tables, steady=False)
        self.parameters |= found.parameters
        return str(found.sql)

    def describe(self, sql: str, text: str) -> Columns:
        """The columns of a SELECT, made of that query. Raises Unreadable."""
        found = self._session.columns_of(self.parameters, sql, text)
        return {name: kql_type(kind) for name, kind in found}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""
        return self._session.rows_of(self.parameters, sql)

    @property
    def external(self) -> ExternalFiles:
        """The files that stand for addresses."""
        return self._session.external

    def keep(self, columns: Columns, rows: Sequence[Sequence[str | None]]) -> str:
        """A relation of these texts, read as the columns' types."""
        return self._session.keep(columns, rows)
