"""Rules about how texts are compared: QH201, QH202, QH204 to QH207."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qakhunt.families.commands import understand
from qakhunt.families.data import families
from qakhunt.kql.edits import Edit
from qakhunt.proving.lint.string_tests import StringTest, Text, list_entries, string_tests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.proving.lint.model import Finding, Subject

COMMAND_LINE = re.compile(r"CommandLine$")
_NAME = re.compile(
    r"(?:CommandLine|FileName|FolderPath|ProcessName|OriginalFileName|DeviceName|AccountName|"
    r"AccountUpn|AccountDomain|^Computer|^Process|Image|RegistryKey|RegistryValueName)$"
)
_PARENT = re.compile(r"^(?:InitiatingProcess|Parent)")
_SHELLS = frozenset({"cmd", "powershell", "pwsh", "wscript", "cscript", "mshta"})
_EXACT = frozenset({"==", "=~", "in", "in~"})
_TERM_FAMILY = frozenset({"has", "has_cs", "has_any", "has_all", "hasprefix", "hassuffix"})
_INSENSITIVE = {
    "==": "=~", "!=": "!~", "in": "in~", "!in": "!in~", "has_cs": "has",
    "contains_cs": "contains", "startswith_cs": "startswith", "endswith_cs": "endswith",
}  # fmt: skip
_WHOLE_TERM = re.compile(r"[A-Za-z0-9]{3,}")


def check(subject: Subject) -> Iterator[Finding]:
    """All findings about string comparisons."""
    tests = string_tests(subject.hunt.query)
    for test in tests:
        yield from _exact_command_line(subject, test)
        yield from _not_one_term(subject, test)
        yield from _parent_for_child(subject, test, tests)
        yield from _case_sensitive(subject, test)
        yield from _contains(subject, test)
    yield from _repeated(subject, tests)


def _exact_command_line(subject: Subject, test: StringTest) -> Iterator[Finding]:
    if not COMMAND_LINE.search(test.column) or test.positive not in _EXACT:
        return
    several = [text for text in test.texts if len(text.value.split()) > 1]
    if not several:
        return
    what = f"{len(several)} texts" if len(several) > 1 else repr(several[0].value)
    yield subject.at(
        "QH201", test.start, test.end,
        f"{test.operator} compares whole command lines with {what} of several words: a second "
        "space, quotes, .exe or one more argument is missed",
        "match the program by FileName and its arguments by an expression of their own",
    )  # fmt: skip


def _not_one_term(subject: Subject, test: StringTest) -> Iterator[Finding]:
    if test.positive not in _TERM_FAMILY:
        return
    empty = [text for text in test.texts if not any(char.isalnum() for char in text.value)]
    for text in empty:
        yield subject.at(
            "QH202", text.start, text.end,
            f"{test.operator} looks for a term, and {text.value!r} holds no letter or digit",
            "use contains, or matches regex",
        )  # fmt: skip
    several = [text for text in test.texts if len(text.value.split()) > 1]
    if several:
        words = ", ".join(repr(text.value) for text in several[:3])
        more = f" and {len(several) - 3} more" if len(several) > 3 else ""
        yield subject.at(
            "QH202", test.start, test.end,
            f"{test.operator} looks for one term, but these hold several words: {words}{more}; a "
            "second space or a quote between them is missed",
            "test each word (has_all), or the program and its arguments apart",
        )  # fmt: skip


def _parent_for_child(
    subject: Subject, test: StringTest, tests: Sequence[StringTest]
) -> Iterator[Finding]:
    if not _PARENT.search(test.column) or not COMMAND_LINE.search(test.column):
        return
    if test.operator.startswith("!"):
        return
    near = [one for one in tests if one.stage == test.stage]
    if any(_PARENT.search(one.column) and _names_shell(one) for one in near):
        return  # a shell's own line holds what it was told to run
    children = _child_files(near)
    wrong = [text for text in test.texts if _is_child_text(text, children)]
    if not wrong:
        return
    words = ", ".join(repr(text.value) for text in wrong[:3])
    yield subject.at(
        "QH204", test.start, test.end,
        f"{test.column} is the parent's command line, but {words} stands in the child's",
        f"test {test.column.replace('Initiating', '', 1)} instead",
    )  # fmt: skip


def _names_shell(test: StringTest) -> bool:
    return any(_stem(text.value) in _SHELLS for text in test.texts)


def _child_files(tests: Sequence[StringTest]) -> set[str]:
    return {
        _stem(text.value)
        for test in tests
        if test.column == "FileName" and not test.operator.startswith("!")
        for text in test.texts
    }


def _stem(name: str) -> str:
    return re.split(r"[\\/]", name.strip().lower())[-1].removesuffix(".exe")


def _is_child_text(text: Text, children: set[str]) -> bool:
    command = understand(text.value)
    if command.family is not None and _stem(command.normalised.split()[0]) not in _SHELLS:
        return True
    words = text.value.lower().split()
    for family in families().families.values():
        if not children.intersection(family.files) or not words:
            continue
        for issued in family.issued:
            arguments = issued.lower().split()[1:]
            if arguments and all(word in arguments for word in words):
                return True
    return False


def _case_sensitive(subject: Subject, test: StringTest) -> Iterator[Finding]:
    better = _INSENSITIVE.get(test.operator)
    if better is None or test.wrapped or not _NAME.search(test.column):
        return
    if not any(char.isalpha() for text in test.texts for char in text.value):
        return
    yield subject.at(
        "QH205", *test.operator_span,
        f"{test.operator} on {test.column} is case-sensitive, and Windows is not: other spellings "
        "of the same are missed",
        f"write {better}",
        [Edit(*test.operator_span, better)],
    )  # fmt: skip


def _contains(subject: Subject, test: StringTest) -> Iterator[Finding]:
    if test.positive not in ("contains", "contains_cs"):
        return
    for text in test.texts:
        if _WHOLE_TERM.fullmatch(text.value):
            better = test.operator.replace("contains", "has")
            yield subject.at(
                "QH206", *test.operator_span,
                f"{text.value!r} is a whole term: {better} finds it by the index, and not inside "
                "longer words",
                f"write {better}, if longer words are not wanted",
            )  # fmt: skip


def _repeated(subject: Subject, tests: Sequence[StringTest]) -> Iterator[Finding]:
    lists = list(list_entries(subject.hunt.query).values())
    lists += [test.texts for test in tests if test.list_name is None]
    for texts in lists:
        seen: dict[str, Text] = {}
        for at, text in enumerate(texts):
            if text.value in seen:
                before = texts[at - 1]
                yield subject.at(
                    "QH207", text.start, text.end, f"{text.value!r} stands in the list already",
                    "take it out", [Edit(before.end, text.end, "")],
                )  # fmt: skip
            seen.setdefault(text.value, text)
