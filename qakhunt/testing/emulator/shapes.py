"""Whole answers of the wrong shape: what is done to the JSON of a true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.cells import encode_body

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[["Body"], None]

_NUMBERS = ("int", "long", "Int32", "Int64")


@dataclass
class Body:
    """A true answer of either service; ``value`` is all of it."""

    value: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        """What holds columns and rows: the first table, or Graph's whole body."""
        found: dict[str, Any] = self.value["tables"][0] if "tables" in self.value else self.value
        return found

    @property
    def columns(self) -> list[dict[str, str]]:
        """The columns, each with ``name`` and ``type``."""
        found: list[dict[str, str]] = self.result["schema" if self.is_graph else "columns"]
        return found

    @property
    def is_graph(self) -> bool:
        """Whether Graph answered, whose rows are objects."""
        return "results" in self.value

    @property
    def rows(self) -> Any:
        """The rows."""
        return self.result["results" if self.is_graph else "rows"]

    @rows.setter
    def rows(self, rows: Any) -> None:
        self.result["results" if self.is_graph else "rows"] = rows


def changed(body: bytes, change: Change) -> bytes:
    """The bytes of an answer after a change of its values."""
    value = msgspec.json.decode(body)
    change(Body(value))
    return encode_body(value)


def beside(**members: Any) -> Change:
    """More members; ``at_`` in a name stands for ``@odata.``."""
    named = {name.replace("at_", "@odata."): item for name, item in members.items()}
    return lambda body: body.value.update(named)


def rows_are(rows: Any) -> Change:
    """Something else in place of the rows."""

    def change(body: Body) -> None:
        body.rows = rows

    return change


def second_table(body: Body) -> None:
    """The rows stand in a second table, and the first has none."""
    first = body.result
    body.value["tables"].append({**first, "name": "SecondaryResult"})
    body.value["tables"][0] = {**first, "rows": []}


def same_table_twice(body: Body) -> None:
    """Two tables of one name."""
    body.value["tables"] *= 2


def no_table(body: Body) -> None:
    """A list of tables without any."""
    body.value["tables"] = []


def no_columns(body: Body) -> None:
    """Columns and rows without any."""
    body.columns.clear()
    body.rows = []


def other_columns(body: Body) -> None:
    """Another query's columns."""
    for number, column in enumerate(body.columns):
        if body.is_graph:
            for row in body.rows:
                row[f"Other{number}"] = row.pop(column["name"], None)
        column["name"] = f"Other{number}"


def twin_columns(body: Body) -> None:
    """Two columns of one name."""
    body.columns[1]["name"] = body.columns[0]["name"]


def short_rows(body: Body) -> None:
    """A cell less than there are columns."""
    body.rows = [row[:-1] for row in body.rows]


def long_rows(body: Body) -> None:
    """A cell more than there are columns."""
    body.rows = [{**r, "Extra": 1} if body.is_graph else [*r, 1] for r in body.rows]


def numbers_are(number: Any) -> Change:
    """Something else in place of each number."""

    def change(body: Body) -> None:
        for position, column in enumerate(body.columns):
            if column["type"] in _NUMBERS:
                for row in body.rows:
                    row[column["name"] if body.is_graph else position] = number

    return change
