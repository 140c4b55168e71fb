"""Rules about how texts are compared, and whether an entry can match: QH201 to QH207.

The hunt's own operator decides, on the embedded engine. An entry is dead when it is
plainly meant for a known command and no rendering of any known command matches it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.hunts.command_catalogue import families, known_commands, renderings_of, understand
from qakhunt.kql.edits import Edit
from qakhunt.kql.literal import decode_string, encode
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import SENTINEL, columns
from qakhunt.kql.syntax import Call, Comparison, Group, Literal, Name, Operator, Path, find
from qakhunt.kql.tokens import Kind, tokenize
from qakhunt.kql.values import Instant, Window
from qakhunt.testing.contracts import MatrixEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.backends.engine.session import Session
    from qakhunt.kql.syntax import Node, Script
    from qakhunt.testing.lint.model import Finding, Subject


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
_OPERATORS = _EXACT | _TERM_FAMILY | frozenset((
    "hasprefix_cs", "hassuffix_cs", "contains", "contains_cs", "startswith", "startswith_cs",
    "endswith", "endswith_cs",
))  # fmt: skip
_INSENSITIVE_WRAPPERS = frozenset({"tolower", "toupper"})


@dataclass(frozen=True)
class Text:
    """One text that a comparison looks for, and its literal's span in the query."""

    value: str
    start: int
    end: int


@dataclass(frozen=True)
class StringTest:
    """``column operator texts``, from ``start`` on.

    ``wrapped`` says that the column stands in tolower() or toupper(); ``list_name`` is
    the let that holds the texts, if one does; ``stage`` is the start of its operator.
    """

    node: Comparison
    column: str
    texts: tuple[Text, ...]
    start: int
    wrapped: bool
    list_name: str | None
    stage: int

    @property
    def operator(self) -> str:
        """As spelled in KQL, ``!`` included."""
        return self.node.operator


Texts = tuple[Text, ...]


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
    if not COMMAND_LINE.search(test.column) or test.node.positive not in _EXACT:
        return
    several = [text for text in test.texts if len(text.value.split()) > 1]
    if not several:
        return
    what = f"{len(several)} texts" if len(several) > 1 else repr(several[0].value)
    yield subject.at(
        "QH201", test.start, test.node.end,
        f"{test.operator} compares whole command lines with {what} of several words: a second "
        "space, quotes, .exe or one more argument is missed",
        "match the program by FileName and its arguments by an expression of their own",
    )  # fmt: skip


def _not_one_term(subject: Subject, test: StringTest) -> Iterator[Finding]:
    if test.node.positive not in _TERM_FAMILY:
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
            "QH202", test.start, test.node.end,
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
        return  # a shell's own line holds what it was given to run
    children = _child_files(near)
    wrong = [text for text in test.texts if _is_child_text(text, children)]
    if not wrong:
        return
    words = ", ".join(repr(text.value) for text in wrong[:3])
    yield subject.at(
        "QH204", test.start, test.node.end,
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
        "QH205", *test.node.at,
        f"{test.operator} on {test.column} is case-sensitive, and Windows is not: other spellings "
        "of the same are missed",
        f"write {better}",
        [Edit(*test.node.at, better)],
    )  # fmt: skip


def _contains(subject: Subject, test: StringTest) -> Iterator[Finding]:
    if test.node.positive not in ("contains", "contains_cs"):
        return
    for text in test.texts:
        if _WHOLE_TERM.fullmatch(text.value):
            better = test.operator.replace("contains", "has")
            yield subject.at(
                "QH206", *test.node.at,
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


# The comparisons of a query; lists behind a let are followed to their literals


def string_tests(text: str) -> list[StringTest]:
    """All comparisons of a column with literal texts, in order."""
    script = parse(text)
    lists = _lists(script)
    operators = list(find(script, Operator))
    found = []
    for node in find(script, Comparison):
        left, right = _left(node.left), _right(node.right, lists)
        if node.positive not in _OPERATORS or left is None or right is None or not right[0]:
            continue
        column, start, wrapped = left
        texts, list_name = right
        stage = max((o.start for o in operators if o.start <= node.start < o.end), default=0)
        found.append(StringTest(node, column, texts, start, wrapped, list_name, stage))
    return sorted(found, key=lambda test: test.node.at)


def _left(node: Node) -> tuple[str, int, bool] | None:
    """Column, start and wrapping of what stands left of the operator."""
    if isinstance(node, Path):
        node = node.steps[-1]
    if isinstance(node, Name):
        return node.name, node.start, False
    if isinstance(node, Call) and len(node.arguments) == 1:
        (argument,) = node.arguments
        if isinstance(argument, Name):
            return argument.name, node.start, node.name in _INSENSITIVE_WRAPPERS
    return None


def _right(node: Node, lists: dict[str, Texts]) -> tuple[Texts, str | None] | None:
    """The texts right of the operator, and the let that holds them."""
    if isinstance(node, Name) and node.name in lists:
        return lists[node.name], node.name
    if isinstance(node, Literal) and node.type == "string":
        return _texts(node), None
    if not isinstance(node, Group):
        return None
    texts: list[Text] = []
    name = None
    for item in node.items:
        if isinstance(item, Name) and item.name in lists:
            texts += lists[item.name]
            name = item.name
        elif isinstance(item, Literal) and item.type in ("string", "dynamic"):
            texts += _texts(item)
        else:
            return None
    return tuple(texts), name


def _texts(node: Literal) -> Texts:
    """A string, or the strings of a ``dynamic([...])``, each at its own place."""
    if node.type == "string":
        return (Text(node.text, node.start, node.end),)
    if not isinstance(node.value, list):
        return tuple(Text(one, node.start, node.end) for one in node.strings)
    text = node.tokens[0].text
    offset = text.index("(") + 1
    base = node.start + offset
    return tuple(
        Text(decode_string(inner.text), base + inner.start, base + inner.end)
        for inner in tokenize(text[offset:-1])
        if inner.kind is Kind.STRING
    )


def list_entries(text: str) -> dict[str, Texts]:
    """Each leading let that holds a list of texts, with its entries."""
    return {name: texts for name, texts in _lists(parse(text)).items() if len(texts) != 1}


def _lists(script: Script) -> dict[str, Texts]:
    return {
        let.name: _texts(let.value)
        for let in script.leading_lets
        if isinstance(let.value, Literal) and let.value.type in ("string", "dynamic")
    }


_TABLE = "DeviceProcessEvents"
_COLUMNS = ("ProcessCommandLine",)
_LEAST_TELLING = 4
"""Letters from which on a part of a command says which one is meant."""
_MOMENT = Instant.parse("2024-01-01T00:00:00Z")
_WINDOW = Window(Instant.parse("2023-01-01T00:00:00Z"), Instant.parse("2025-01-01T00:00:00Z"))


@dataclass(frozen=True)
class Matrix:
    """Entries by renderings, under one comparison of a hunt; an entry for each of its texts."""

    test: StringTest
    renderings: tuple[str, ...]
    entries: tuple[MatrixEntry, ...]


def matrices(subject: Subject, session: Session) -> list[Matrix]:
    """One matrix per comparison of the recorded command line with a list of texts."""
    found = []
    for test in string_tests(subject.hunt.query):
        is_list = len(test.texts) > 1 and not test.operator.startswith("!")
        if is_list and test.column in _COLUMNS and test.column in columns(SENTINEL.name, _TABLE):
            found.append(_matrix(subject.hunt.query, test, session))
    return found


def _matrix(query: str, test: StringTest, session: Session) -> Matrix:
    known = [(command, None) for command in [*known_commands(), *_programs()]]
    own = [(text.value, n) for n, text in enumerate(test.texts) if _is_command(text.value)]
    recorded = [
        (rendering, line, number)
        for command, number in [*known, *own]
        for rendering, lines in renderings_of(command).items()
        for line in lines
    ]
    session.put(
        _TABLE,
        [
            {"TimeGenerated": _MOMENT, "ReportId": number, "ProcessCommandLine": line}
            for number, (_, line, _) in enumerate(recorded)
        ],
    )
    left = query[test.start : test.node.at[0]].strip()
    flags = [
        f"m{number} = {left} {test.operator} {_operand(test, text)}"
        for number, text in enumerate(test.texts)
    ]
    answer = session.ask(
        f"{_TABLE}\n| project ReportId, {', '.join(flags)}", now=_MOMENT, window=_WINDOW
    )
    session.put(_TABLE, [])
    hits: list[set[str]] = [set() for _ in test.texts]
    possible: set[int] = set()
    for row in answer.rows:
        rendering, _, whose = recorded[row[0]]
        for number, flag in enumerate(row[1:]):
            if flag and whose is None:
                hits[number].add(rendering)
            elif flag and whose == number:
                possible.add(number)
    renderings = tuple(families().renderings)
    entries = tuple(
        _entry(text.value, [name for name in renderings if name in own], possible=n in possible)
        for n, (text, own) in enumerate(zip(test.texts, hits, strict=True))
    )
    return Matrix(test, renderings, entries)


def _programs() -> list[str]:
    """Programs of the families that public reports show in no command, by their name alone."""
    shown = {command.split()[0].lower().removesuffix(".exe") for command in known_commands()}
    named = [file for family in families().families.values() for file in family.files]
    return [name for name in dict.fromkeys(named) if name not in shown]


def _operand(test: StringTest, text: Text) -> str:
    literal = encode(text.value, "string")
    return f"({literal})" if test.node.positive in ("in", "in~", "has_any", "has_all") else literal


def _is_command(entry: str) -> bool:
    """Whether the entry begins with a program that known commands run."""
    first = (
        entry.split(maxsplit=1)[0].strip('"').lower().removesuffix(".exe") if entry.split() else ""
    )
    shown = {command.split()[0].lower().removesuffix(".exe") for command in known_commands()}
    return first in shown.union(_programs())


def _entry(entry: str, matched: list[str], *, possible: bool) -> MatrixEntry:
    """Alive where a rendering of a known command matches it, dead where it is meant for one.

    ``possible`` says that it matches a command of its own, which no report shows.
    """
    meant = None if matched or possible else _meant(entry)
    return MatrixEntry(
        entry, "alive" if matched else "dead" if meant else "unproven", matched, meant
    )


def _meant(entry: str) -> str | None:
    """The known command that an entry is plainly written for."""
    compact = _compact(entry)
    if len(compact) < _LEAST_TELLING:
        return None
    for command in known_commands():
        if compact in _compact(command):
            return command
    family = understand(entry).family
    return families().families[family].issued[0] if family else None


def _compact(text: str) -> str:
    return "".join(text.lower().replace('"', "").split())


def check_entries(subject: Subject, found: list[Matrix]) -> Iterator[Finding]:
    """QH203 for every dead entry."""
    for matrix in found:
        for text, entry in zip(matrix.test.texts, matrix.entries, strict=True):
            if entry.life == "dead":
                yield subject.at(
                    "QH203", text.start, text.end,
                    f"the entry {text.value!r} can never match: under "
                    f"{matrix.test.operator} no recorded form of a known command fits it",
                    f"it seems to be meant for {entry.meant!r}, which is recorded whole",
                )  # fmt: skip
