"""What a service answered: a table, an error, and whatever else stands in the answer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import WireError, collector_paused, decode_body, repeated_members
from qakhunt.answers.table import ResultTable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence


_PLACES = (
    re.compile(r"\[line:position\s*=\s*(\d+):(\d+)\]"),
    re.compile(r"on line \[(\d+),\s*(\d+)\]"),
    re.compile(r"\bline (\d+),? position (\d+)", re.IGNORECASE),
)
_DEEPEST = 20
_TOKEN = re.compile(r"\beyJ[\w-]{10,}(?:\.[\w-]*)*", re.ASCII)
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/=-]{16,}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class ServiceError:
    """An error body: its code, its message and the error inside it.

    ``place`` is the line and column, from 1, in the query's text; ``request_id``
    is the service's own id for the call. Both are None where the body has none.
    """

    code: str
    message: str
    inner: ServiceError | None = None
    place: tuple[int, int] | None = None
    request_id: str | None = None

    def chain(self) -> Iterator[ServiceError]:
        """This error and those inside it, outermost first."""
        error: ServiceError | None = self
        while error is not None:
            yield error
            error = error.inner

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes, outermost first."""
        return tuple(error.code for error in self.chain() if error.code)

    @property
    def words(self) -> str:
        """The most telling message: the innermost that is not empty, else the codes."""
        messages = [error.message for error in self.chain() if error.message]
        return messages[-1] if messages else " > ".join(self.codes)

    @property
    def query_place(self) -> tuple[int, int] | None:
        """The innermost place in the query's text, from a field or from the message."""
        found = None
        for error in self.chain():
            found = error.place or _place_in(error.message) or found
        return found

    def mentions(self, *words: str) -> bool:
        """Whether any code or message holds one of ``words``, without regard to case."""
        text = " ".join(f"{error.code} {error.message}" for error in self.chain()).casefold()
        return any(word.casefold() in text for word in words)


def _place_in(message: str) -> tuple[int, int] | None:
    for pattern in _PLACES:
        match = pattern.search(message)
        if match:
            return int(match[1]), int(match[2])
    return None


def decode_error(body: bytes) -> ServiceError | None:
    """The error in a response body, or None where it holds none (empty, HTML, other JSON)."""
    try:
        return error_in(decode_body(body).value)
    except WireError:
        return None


def error_in(value: Any) -> ServiceError | None:
    """The error in a decoded body: ``{"error": {...}}`` or Entra's ``error_description``."""
    if not isinstance(value, dict):
        return None
    error = _get(value, "error")
    if isinstance(error, dict):
        return _read(error, 0)
    if isinstance(error, str):
        return ServiceError(error, _text(value, "error_description"))
    if "code" in value and "message" in value:
        return _read(value, 0)
    return None


def _read(error: dict[str, Any], depth: int) -> ServiceError:
    inner = _get(error, "innererror")
    request_id = None
    inner_error = None
    if isinstance(inner, dict):
        request_id = _text(inner, "request-id") or None
        if depth < _DEEPEST and (_text(inner, "code") or _text(inner, "message")):
            inner_error = _read(inner, depth + 1)
    said = _text(error, "@message")  # Kusto's own words; its message says "Request is invalid"
    if said and inner_error is None:
        inner_error = ServiceError("", said)
    if inner_error is None and depth < _DEEPEST:
        details = _get(error, "details")
        if isinstance(details, list) and details and isinstance(details[0], dict):
            inner_error = _read(details[0], depth + 1)
    return ServiceError(
        code=_text(error, "code"),
        message=_text(error, "message"),
        inner=inner_error,
        place=_place_fields(error),
        request_id=request_id or _text(error, "correlationId") or None,
    )


def _place_fields(error: dict[str, Any]) -> tuple[int, int] | None:
    line, column = _get(error, "line"), _get(error, "pos")
    if isinstance(line, int) and isinstance(column, int) and line > 0:
        return line, max(column, 1)
    return None


def _get(value: dict[str, Any], name: str) -> Any:
    if name in value:
        return value[name]
    for key, item in value.items():
        if key.casefold() == name.casefold():
            return item
    return None


def _text(value: dict[str, Any], name: str) -> str:
    found = _get(value, name)
    if found is None or isinstance(found, (dict, list)):
        return ""
    return without_tokens(str(found).strip())


def without_tokens(text: str) -> str:
    """``text`` with what looks like an access token or its header masked."""
    return _TOKEN.sub("[token]", _BEARER.sub(r"\1[token]", text))


NO_TABLE = ResultTable((), [])
_TROUBLE = frozenset(
    ["error", "errors", "warning", "warnings", "exceptions", "oneapierrors"]
)  # fmt: skip
_MORE = frozenset(
    """truncated istruncated partial ispartial partialresults hasmore hasmoreresults hasmorerows
    continuationtoken skiptoken nextpagetoken cursor""".split()  # noqa: SIM905
)
_MOST_WORDS = 3


@dataclass(frozen=True)
class Response:
    """A result and what is wrong with it.

    ``partial`` is the service's own error beside the rows, ``faults`` are signs that
    the rows are not all or not as they should be, one clause each; ``damaged`` says that
    bytes of the body were not UTF-8. Each of them makes the answer partial; ``unknown``
    names members of the body that the format does not have, and does not.
    """

    table: ResultTable
    partial: ServiceError | None = None
    damaged: bool = False
    faults: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def signs(value: Mapping[str, Any], known: Collection[str]) -> Response:
    """What the members of a body, or of a table in it, say beside the ``known`` (casefolded)."""
    partial: ServiceError | None = None
    faults, unknown = [], []
    for name, item in value.items():
        folded = name.casefold()
        if folded in known:
            continue
        if folded in _TROUBLE:
            partial = partial or _trouble(name, item)
        elif (bare := folded.replace("_", "").lstrip("$")).endswith("nextlink") or bare in _MORE:
            if item not in (None, "", False, 0, [], "false"):
                faults.append(f"there is more than this answer holds ({name:.80})")
        elif not folded.startswith(("@odata.", "odata.")):
            unknown.append(f"{name:.80}")
    return Response(NO_TABLE, partial, faults=tuple(faults), unknown=tuple(unknown))


def _trouble(name: str, item: Any) -> ServiceError | None:
    """The first error of a member such as ``error`` or ``Warnings``; None where it is empty."""
    if item is None or item is False or item in ("", []):
        return None
    for one in item if isinstance(item, list) else [item]:
        found = (error_in(one) if isinstance(one, dict) else None) or error_in({"error": one})
        if found is not None and found.words:
            return found
    texts = [text for text in item if isinstance(text, str)] if isinstance(item, list) else []
    words = "; ".join(without_tokens(text) for text in texts[:_MOST_WORDS])
    return ServiceError("", words or f"the service sent {name!r:.80} without words")


def decoded_by(read: Callable[[Any], Response], body: bytes, inner: str = "") -> Response:
    """What ``read`` makes of a body's JSON, and what is wrong with its bytes. Raises WireError."""
    with collector_paused():
        decoded = decode_body(body)
        found = replace(read(decoded.value), damaged=decoded.damaged)
        del decoded  # before the collector comes back and walks it
    return without_twins(found, body, inner)


def without_twins(response: Response, body: bytes, inner: str = "") -> Response:
    """The response; it is at fault where its body has a member more than once."""
    names = repeated_members(body, inner)
    if not names:
        return response
    said = ", ".join(f"{name!r:.80}" for name in names[:_MOST_WORDS])
    return replace(response, faults=(f"the answer has {said} more than once", *response.faults))


def table_faults(named: Sequence[tuple[Any, Response]]) -> list[str]:
    """The faults of an answer's tables, and that there are several where one was asked for."""
    faults = [fault for _, part in named for fault in part.faults]
    if len(named) > 1:
        names = ", ".join(f"{name!r:.80}" for name, _ in named[:5])
        left_out = sum(len(part.table) for _, part in named[1:])
        faults.append(
            f"the answer has {len(named)} tables ({names}) instead of one; "
            f"{left_out} rows of the others are not shown"
        )
    return faults


def column_faults(names: Iterable[str]) -> list[str]:
    """Faults of a result's column names."""
    again = [name for name, times in Counter(names).items() if times > 1]
    return [f"several columns are called {', '.join(map(repr, again))}"] if again else []
