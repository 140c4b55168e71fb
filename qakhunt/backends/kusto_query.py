"""A query as a Kusto backend sends it: Log Analytics' text, adapted on the syntax tree.

What the Sentinel data lake lacks is refused by name and place; tables of a cluster can be
external ones; and where the service takes no time scope, each source is bounded in the
text. Every edit replaces the span of one table reference; all other bytes stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.edits import Edit, apply, original_offset
from qakhunt.kql.functions import function_names
from qakhunt.kql.literal import encode
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import SENTINEL, columns
from qakhunt.kql.syntax import Call, Let, Name, Operator, Pipeline, Script, find
from qakhunt.kql.tokens import LineIndex
from qakhunt.kql.visitors import Source, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.kql.syntax import Node
    from qakhunt.kql.values import Window

DIALECT = "kusto"
PRODUCT = SENTINEL.name
"""The product whose tables and columns a Kusto database has."""
_TIME = SENTINEL.time_column

_LACKING = frozenset(["adx", "arg", "externaldata", "external_data", "ingestion_time",
                      "estimate_data_size"])  # fmt: skip
ELSEWHERE_HINT = "run it in a workspace, with the backend log-analytics, or write it another way"


class RefusedQuery(Exception):
    """A query that cannot be sent as it has to be: why, and its line and column from 1."""

    def __init__(self, message: str, place: tuple[int, int], hint: str) -> None:
        super().__init__(message)
        self.message, self.place, self.hint = message, place, hint


@dataclass(frozen=True)
class Adapted:
    """A text to send, and the edits that lead to it from the query's own."""

    original: str
    text: str
    edits: tuple[Edit, ...]

    def locate(self, place: tuple[int, int]) -> tuple[int, int]:
        """The place in the query's own text of a line and column of ``text``, from 1."""
        if not self.edits:
            return place
        offset = original_offset(self.edits, LineIndex(self.text).offset(*place))
        return LineIndex(self.original).locate(offset)


def tables_read(text: str) -> set[str]:
    """The names that stand in table position, or may do so."""
    return {one.name for one in sources(parse(text)) if one.kind in ("table", "member")}


def refuse_for_lake(text: str) -> None:
    """Raise RefusedQuery for what the data lake does not have, first come first named."""
    found = min(lacking_in_lake(parse(text)), key=lambda one: one[0].start, default=None)
    if found is not None:
        node, what = found
        raise _refused(text, node, f"the data lake has no {what}", ELSEWHERE_HINT)


def lacking_in_lake(script: Script) -> Iterator[tuple[Node, str]]:
    """What of a query the data lake does not have: where it stands, and in words."""
    own = {let.name for let in find(script, Let)}
    for node in script.walk():
        if isinstance(node, (Call, Operator)) and node.name in _LACKING - own:
            yield node, f"{node.name}()"
        elif isinstance(node, Operator) and node.name == "invoke":
            for call in node.arguments:
                if isinstance(call, Call) and call.name not in own:
                    yield call, f"saved functions, such as {call.name}()"
    for source in sources(script):
        # The body of a function can be a value: what the language has is no saved function.
        known = own | _LACKING | function_names()
        if source.kind == "function" and source.name not in known:
            yield source.node, f"saved functions, such as {source.name}()"


def adapt(text: str, *, external: bool = False, window: Window | None = None) -> Adapted:
    """The text with each table external, where asked for, and within ``window`` if given.

    Raises RefusedQuery where a source cannot be written so, such as a wildcard.
    """
    if not external and window is None:
        return Adapted(text, text, ())
    script = parse(text)
    listed, heads = _listed(script), _heads(script)
    edits = []
    for source in sources(script):
        if source.kind in ("function", "external"):
            continue  # no time scope reaches these either
        if source.kind == "member" and not columns(PRODUCT, source.name):
            continue  # a column, most likely
        if source.kind == "elsewhere" and window is None:
            continue
        if source.kind in ("wildcard", "everything") or id(source.node) in listed:
            raise _refused(
                text, source.node,
                f"{source.name}: each table has to be named alone here, to be "
                f"{'an external one' if external else 'bounded in time'}",
                "name the tables: union (A), (B), without search, find and withsource",
            )  # fmt: skip
        table = _table(text, source, external=external)
        bound = _bound(source, window)
        if bound:
            table = f"{table} | {bound}" if id(source.node) in heads else f"({table} | {bound})"
        edits.append(Edit(source.node.start, source.node.end, table))
    return Adapted(text, apply(text, edits), tuple(edits))


def _listed(script: Script) -> set[int]:
    """Nodes that only a table's own name can stand for: of search, find and withsource."""
    found: set[int] = set()
    for operator in find(script, Operator):
        nodes: tuple[Node, ...] = ()
        if operator.name in ("search", "find"):
            nodes = operator.clause("in") or ()
        elif operator.name == "union" and operator.option("withsource"):
            nodes = operator.arguments
        found.update(id(one) for node in nodes for one in node.walk())
    return found


def _heads(script: Script) -> set[int]:
    """Nodes behind which a bar may follow at once: operands alone need brackets."""
    found: set[int] = set()
    for node in script.walk():
        if isinstance(node, Pipeline):
            found.add(id(node.source))
        elif isinstance(node, Let):
            found.add(id(node.value))
        elif isinstance(node, Script):
            found.update(map(id, node.statements))
    return found


def _table(text: str, source: Source, *, external: bool) -> str:
    node = source.node
    if external and isinstance(node, Name):
        return f"external_table({encode(source.name, 'string')})"
    return text[node.start : node.end]


def _bound(source: Source, window: Window | None) -> str:
    """The filter that shows a source in the window only; empty where it has no time."""
    known = columns(PRODUCT, source.name)
    if window is None or (known and _TIME not in known):
        return ""
    start, end = (encode(one, "datetime") for one in (window.start, window.end))
    # Of a table that no schema knows, nobody knows whether it has a time.
    time = _TIME if known else f'column_ifexists("{_TIME}", {start})'
    return f"where {time} >= {start} and {time} < {end}"


def _refused(text: str, node: Node, message: str, hint: str) -> RefusedQuery:
    return RefusedQuery(message, LineIndex(text).locate(node.start), hint)
