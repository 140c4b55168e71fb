"""A decoded response, and what in it says that it is not the whole answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.json_body import repeated_members
from qakhunt.answers.service_error import ServiceError, error_in, without_tokens

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from qakhunt.answers.table import ResultTable

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


@dataclass(frozen=True)
class Signs:
    """What the members beside the rows say; see ``Response``."""

    partial: ServiceError | None = None
    faults: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def signs(value: Mapping[str, Any], known: Collection[str]) -> Signs:
    """Members of a body, or of a table in it, beside those that are ``known`` (casefolded)."""
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
    return Signs(partial, tuple(faults), tuple(unknown))


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


def without_twins(response: Response, body: bytes, inner: str = "") -> Response:
    """The response; it is at fault where its body has a member more than once."""
    names = repeated_members(body, inner)
    if not names:
        return response
    said = ", ".join(f"{name!r:.80}" for name in names[:_MOST_WORDS])
    return replace(response, faults=(f"the answer has {said} more than once", *response.faults))


def repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, each once."""
    seen: set[str] = set()
    again: dict[str, None] = {}
    for name in names:
        if name in seen:
            again[name] = None
        seen.add(name)
    return list(again)


def column_faults(names: Iterable[str]) -> list[str]:
    """Faults of a result's column names."""
    again = repeated(names)
    return [f"several columns are called {', '.join(map(repr, again))}"] if again else []
