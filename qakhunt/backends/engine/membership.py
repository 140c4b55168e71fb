"""``in``, ``has_any`` and ``has_all`` over literal lists, as SQL that DuckDB is fast at.

The translator's own forms mean the same and are right, but cost one regular
expression per term, or a list search per row. Property tests hold both forms to
the same answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Terms of one regular expression: far below the size that RE2 refuses to compile.
_MOST_TERMS = 1000
_MOST_CHARACTERS = 20_000


def install(translate: Any, functions: Any) -> None:
    """Replace the translator's renderings of the lists it can read at translation time."""
    _merge_needles(translate, functions)
    _unroll_membership(translate)


def _merge_needles(translate: Any, functions: Any) -> None:
    """``has_any`` of literals as two regular expressions in place of one per term."""
    original = translate._render_has_list

    def render(node: Any, value: str) -> str:
        needles = None if node.subquery is not None else _needles(translate, node.items)
        if not needles:
            return original(node, value)  # type: ignore[no-any-return]
        needles = list(dict.fromkeys(needles))

        def alone(needle: str) -> str:
            return functions.term_match_sql(  # type: ignore[no-any-return]
                value, translate.quote_string(needle), needle_text=needle
            )

        if node.require_all:
            # Null has no term. Said this way the filter stops at the first term that is not there.
            return f"({value} IS NOT NULL AND {' AND '.join(map(alone, needles))})"
        # Only DuckDB knows whether a letter beyond ASCII makes a term in its Unicode.
        merged = [n for n in needles if functions.can_fold_term_boundary(n)]
        tests = [_any_of(translate, functions, value, part) for part in _parts(merged)]
        tests += [f"coalesce({alone(n)}, FALSE)" for n in needles if n not in set(merged)]
        return f"({' OR '.join(tests)})"

    translate._render_has_list = render


def _needles(translate: Any, items: Any) -> list[str] | None:
    """The terms, where every one of them is text that stands in the query."""
    found: list[str] = []
    for item in items:
        if getattr(item, "kind", None) == "string":
            found.append(str(item.value))
        elif getattr(item, "kind", None) == "dynamic":
            literal = translate._literal_needles(item)
            if literal is None or None in literal:
                return None
            found += literal
        else:
            return None
    return found


def _parts(needles: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for needle in needles:
        if part and (len(part) == _MOST_TERMS or size + len(needle) > _MOST_CHARACTERS):
            yield part
            part, size = [], 0
        part.append(needle)
        size += len(needle)
    if part:
        yield part


def _any_of(translate: Any, functions: Any, value: str, needles: Sequence[str]) -> str:
    """A test that is false for null.

    RE2 is at its fastest with a bare alternation, which nearly all records fail; the
    boundaries cost the more the more often they are written, so terms share them.
    """
    quote = translate.quote_string
    bare = f"regexp_matches({value}, {quote('(?i)' + _alternation(map(_regex_escape, needles)))})"
    exact = f"regexp_matches({value}, {quote(_bounded(functions, needles))})"
    if bare == exact:
        return f"coalesce({bare}, FALSE)"
    # AND alone runs both over all records outside a filter, CASE alone is slower in one.
    test = f"CASE WHEN {bare} THEN {exact} ELSE FALSE END"
    return f"({bare} AND {test})" if _COLUMN.fullmatch(value) else test


_COLUMN = re.compile(r'"(?:[^"]|"")*"')


def _bounded(functions: Any, needles: Sequence[str]) -> str:
    """One expression of all terms, grouped by the boundaries that they need."""
    groups: dict[tuple[bool, bool], list[str]] = {}
    for needle in needles:
        edges = functions.is_term_char(needle[:1]), functions.is_term_char(needle[-1:])
        groups.setdefault(edges, []).append(_regex_escape(needle))
    start, end = functions._TERM_START, functions._TERM_END
    branches = []
    for begins in (True, False):
        inner = []
        if (begins, True) in groups:
            inner.append(_alternation(groups[begins, True]) + end)
        if (begins, False) in groups:
            inner.append(_alternation(groups[begins, False]))
        if inner:
            branches.append((start if begins else "") + _alternation(inner))
    return "(?i)" + _alternation(branches)


def _alternation(patterns: Any) -> str:
    return "(?:" + "|".join(patterns) + ")"


def _unroll_membership(translate: Any) -> None:
    """``in`` over a literal array of strings as IN, which DuckDB can push down and hash."""
    original = translate._render_in_list

    def render(node: Any, value: str) -> str:
        items = node.items
        texts = translate._literal_needles(items[0]) if len(items) == 1 else None
        empty = len(items) == 1 and getattr(items[0], "value", None) == "[]"
        if empty and translate._is_dynamic(items[0]):
            # The value stays, so that its columns must exist.
            return f"({value} IS NULL OR TRUE)" if node.negated else f"({value} IS NULL AND FALSE)"
        if node.subquery is not None or not texts or None in texts:
            return original(node, value)  # type: ignore[no-any-return]
        value = f"CAST({value} AS VARCHAR)"
        quoted = [translate.quote_string(text) for text in texts]
        if node.case_insensitive:
            value, quoted = f"lower({value})", [f"lower({text})" for text in quoted]
        # Null is in no list. Said this way the filter still reaches the Parquet reader.
        if node.negated:
            return f"({value} IS NULL OR {value} NOT IN ({', '.join(quoted)}))"
        return f"({value} IS NOT NULL AND {value} IN ({', '.join(quoted)}))"

    translate._render_in_list = render


def _regex_escape(text: str) -> str:
    """As RE2's QuoteMeta: a backslash before ASCII that is no letter, digit or ``_``."""
    return re.sub(r"([^A-Za-z0-9_\x80-\U0010ffff])", r"\\\1", text).replace("\\\0", "\\x00")
