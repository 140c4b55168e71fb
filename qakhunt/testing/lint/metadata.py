"""Rules about time, QH302 and QH303, and about what stands around the query, QH401 to QH406."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qakhunt.core.errors import QakhuntError, nearest
from qakhunt.hunts.attack import attack
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.window import published
from qakhunt.kql.edits import Edit
from qakhunt.kql.schema import TIME_COLUMN
from qakhunt.kql.syntax import Call, Comparison, Literal, Name, Named, Pipeline, find
from qakhunt.kql.tokens import Kind
from qakhunt.kql.values import TICKS_PER_DAY, Instant, Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qakhunt.kql.syntax import Node, Operator
    from qakhunt.testing.lint.model import Finding, Subject


_LET = re.compile(r"[ \t]*")
_REST = re.compile(r"[^\n]*(?:\n|\Z)")


def check(subject: Subject, owners: Mapping[str, list[str]]) -> Iterator[Finding]:
    """All findings; ``owners`` maps an id to the files of all hunts that have it."""
    yield from _techniques(subject)
    yield from _duplicate_id(subject, owners)
    yield from _unused(subject)
    yield from _entities(subject)
    yield from _notes(subject)


def _techniques(subject: Subject) -> Iterator[Finding]:
    hunt = subject.hunt
    is_silent = subject.document is not None and "relevantTechniques" not in subject.document.value
    if not hunt.techniques and not hunt.notes.software and is_silent:
        yield subject.about(
            "QH401", ("relevantTechniques",), "no ATT&CK technique is named",
            "list them under relevantTechniques; an empty list says that there is none",
        )  # fmt: skip
    known = attack()
    for number, technique in enumerate(hunt.techniques):
        key = ("relevantTechniques", number)
        if technique in known.revoked:
            new = known.revoked[technique]
            yield subject.about(
                "QH402", key, f"ATT&CK has withdrawn {technique}: it is {new} now",
                f"write {new} ({known.techniques.get(new, 'withdrawn too')})",
            )  # fmt: skip
        elif technique in known.deprecated:
            yield subject.about("QH402", key, f"ATT&CK has withdrawn {technique}", "take it out")
        elif technique not in known.techniques:
            hint = nearest(technique, known.techniques) or ""
            message = f"ATT&CK {known.version} has no technique {technique}"
            yield subject.about("QH402", key, message, hint)


def _duplicate_id(subject: Subject, owners: Mapping[str, list[str]]) -> Iterator[Finding]:
    others = [path for path in owners.get(subject.hunt.id.lower(), []) if path != subject.hunt.path]
    if subject.hunt.id and others:
        yield subject.about(
            "QH403",
            ("id",),
            f"this id is also that of {others[0]}",
            "give each hunt an id of its own",
        )


def _unused(subject: Subject) -> Iterator[Finding]:
    query = subject.hunt.query
    script = subject.script
    names = [token.text for token in script.tokens if token.kind is Kind.IDENTIFIER]
    for statement in script.lets:
        if names.count(statement.name) > 1:
            continue
        start = query.rfind("\n", 0, statement.start) + 1
        indent = _LET.match(query, start)
        is_alone = indent is not None and indent.end() == statement.start
        rest = _REST.match(query, statement.end)
        end = rest.end() if rest else statement.end
        after = query[statement.end : end].strip()
        is_whole_line = after == ";" or after.startswith("; //") or after.startswith(";//")
        fix = [Edit(start, end, "")] if is_alone and is_whole_line else []
        name = statement.target
        yield subject.at(
            "QH404", name.start, name.end, f"{statement.name} is declared and never used",
            "take the let out, or use it", fix,
        )  # fmt: skip


def _entities(subject: Subject) -> Iterator[Finding]:
    for product, result in subject.result.items():
        names = _with_time_twins({column.name for column in result})
        for number, mapping in enumerate(subject.hunt.entity_mappings):
            for at, field in enumerate(mapping.fieldMappings or ()):
                if field.columnName not in names:
                    key = ("entityMappings", number, "fieldMappings", at, "columnName")
                    yield subject.about(
                        "QH405", key,
                        f"{mapping.entityType}.{field.identifier} is mapped to "
                        f"{field.columnName!r}, which the result lacks in {product}",
                        nearest(field.columnName, names) or f"it has {', '.join(sorted(names))}",
                    )  # fmt: skip


def _notes(subject: Subject) -> Iterator[Finding]:
    notes = subject.hunt.notes
    named: dict[tuple[str | int, ...], str | None] = {
        ("qakhunt", "result", name): getattr(notes.result, name)
        for name in notes.result.__struct_fields__
    }
    named.update({("qakhunt", "fingerprint", i): name for i, name in enumerate(notes.fingerprint)})
    for product, result in subject.result.items():
        names = _with_time_twins({column.name for column in result})
        for key, name in named.items():
            if name is not None and name not in names:
                yield subject.about(
                    "QH406", key, f"the result has no column {name!r} in {product}",
                    nearest(name, names) or f"it has {', '.join(sorted(names))}",
                )  # fmt: skip


def _with_time_twins(names: set[str]) -> set[str]:
    """The names, with Log Analytics' name of the time column where Defender's is there."""
    return names | {"TimeGenerated"} if "Timestamp" in names else names


_DAYS = 62
_CALENDAR = ("startof", "endof")


def check_time(subject: Subject) -> Iterator[Finding]:
    """All findings about time."""
    yield from _day_dependent(subject)
    for pipeline in find(subject.script, Pipeline):
        for number, operator in enumerate(pipeline.operators):
            yield from _tumbling(subject, operator, pipeline.operators[number + 1 :])


def _day_dependent(subject: Subject) -> Iterator[Finding]:
    calls = find(subject.script, Call)
    calendar = next((call for call in calls if call.name.startswith(_CALENDAR)), None)
    if calendar is None:
        return
    windows = _windows(subject)
    if not windows:
        return
    unfinished = [now for now, window in windows if window.end > now]
    lengths = [(window.end.ticks - window.start.ticks) for _, window in windows]
    if unfinished and len(unfinished) < len(windows):
        first = min(now.to_datetime().day for now in unfinished)
        last = max(now.to_datetime().day for now, w in windows if w.end <= now)
        message = (
            f"up to day {last} of a month the window is the month before, from day {first} "
            "on it is one that is not over yet: days are seen by no run, or by two"
        )
    elif min(lengths) * 2 < max(lengths):
        days = [length // TICKS_PER_DAY for length in (min(lengths), max(lengths))]
        message = f"the window is between {days[0]} and {days[1]} days long, by the day of the run"
    else:
        return
    start, end = _window_span(subject, calendar)
    yield subject.at(
        "QH302", start, end, message,
        "name the bounds under 'qakhunt: window:' and run with --window previous-month",
    )  # fmt: skip


def _windows(subject: Subject) -> list[tuple[Instant, Window]]:
    """The hunt's own window on each day of two months, at noon."""
    values = {name: p.default for name, p in parameters_of(subject.hunt).items()}
    found = []
    noon = subject.now.ticks - subject.now.ticks % TICKS_PER_DAY + TICKS_PER_DAY // 2
    for day in range(_DAYS):
        now = Instant(noon + day * TICKS_PER_DAY)
        try:
            found.append((now, published(subject.hunt, now, values)[0]))
        except QakhuntError:
            return []
    return found


def _window_span(subject: Subject, calendar: Call) -> tuple[int, int]:
    notes = subject.hunt.notes.window
    for let in subject.script.leading_lets if notes is not None else ():
        if notes is not None and let.name == notes.start:
            return let.value.start, let.value.end
    return calendar.start, calendar.start + len(calendar.name)


def _tumbling(subject: Subject, operator: Operator, later: Sequence[Operator]) -> Iterator[Finding]:
    if operator.name != "summarize" or not any(_is_threshold(one) for one in later):
        return
    for item in operator.clause("by") or ():
        call = item.value if isinstance(item, Named) else item
        if not isinstance(call, Call) or call.name != "bin" or len(call.arguments) != 2:
            continue
        column, width = call.arguments
        if not isinstance(column, Name) or column.name not in TIME_COLUMN.values():
            continue
        size = _size(subject, width)
        if size is None or not 0 < size.ticks < TICKS_PER_DAY:
            continue
        lost = min(100, round(100 * 60 / size.seconds))
        yield subject.at(
            "QH303", item.start, item.end,
            f"bins of {subject.hunt.query[width.start : width.end]} stand edge to edge: of "
            f"bursts that last a minute {lost}% are cut in two, and neither half may pass",
            "let bins overlap by half (two bins per event), or look back from each event",
        )  # fmt: skip


def _is_threshold(operator: Operator) -> bool:
    comparisons = find(operator, Comparison)
    return operator.name == "where" and any(one.operator in (">", ">=") for one in comparisons)


def _size(subject: Subject, width: Node) -> Timespan | None:
    if isinstance(width, Name):
        lets = {let.name: let.value for let in subject.script.leading_lets}
        width = lets.get(width.name, width)
    value = width.value if isinstance(width, Literal) else None
    return value if isinstance(value, Timespan) else None
