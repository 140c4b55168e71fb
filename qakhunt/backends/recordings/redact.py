"""Names out of what is recorded, pseudonyms in.

Texts are read word by word, where a word is a term as Kusto has it: what is of the
vocabulary stays, all else becomes a pseudonym, and every separator, space and quote
stays where it is. A column of names keeps no word but those of well-known principals.
The vocabulary says what was done and names nobody.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.table import ResultTable
from qakhunt.hunts.command_catalogue import families
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.literal import decode, encode, literal_type
from qakhunt.kql.tokens import Kind, Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from qakhunt.answers.table import Column
    from qakhunt.backends.recordings.pseudonyms import Pseudonyms


@cache
def kept_columns() -> frozenset[str]:
    """Columns of the products' tables that are kept; a query's own columns are kept, too."""
    data = files("qakhunt").joinpath("data/recorded_columns.yaml").read_bytes()
    found = msgspec.yaml.decode(data, type=dict[str, list[str]])
    process = found["process"]
    return frozenset([*found["others"], *process, *(f"InitiatingProcess{one}" for one in process)])


_IDENTITY_PARTS = (
    "devicename", "computer", "hostname", "deviceid", "accountname", "accountdomain", "accountupn",
    "accountsid", "accountobjectid", "username", "upn", "tenantid", "workspace", "localip",
    "remoteip", "ipaddress", "publicip", "loggedonusers", "domain", "account", "user", "host",
    "email", "mail",
)  # fmt: skip
_NO_IDENTITY = frozenset(["usersfolder", "accounts"])


def names_someone(column: str) -> bool:
    """Whether a column's cells are names of devices, people, domains or addresses."""
    folded = column.casefold()
    return folded not in _NO_IDENTITY and any(part in folded for part in _IDENTITY_PARTS)


WORD = re.compile(r"[^\W_]+(?:\^+[^\W_]+)*")
"""A run of letters and digits, as Kusto's terms are; cmd's carets do not end one."""

PRINCIPALS = frozenset(
    [
        "system", "local", "network", "service", "administrator", "administrators", "guest",
        "guests", "nt", "authority", "builtin", "window", "manager", "dwm", "umfd", "font",
        "driver", "host", "everyone", "anonymous", "logon", "users", "domain", "admins",
        "trustedinstaller", "defaultaccount", "wdagutilityaccount", "iusr", "virtual",
    ]
)  # fmt: skip
"""Names of accounts and groups that every machine has."""

# Stands for any domain in the known commands.
_EXAMPLES = frozenset(["contoso"])


@cache
def vocabulary() -> frozenset[str]:
    """Lower-case words that stay readable in command lines, paths and enumerations."""
    text = files("qakhunt").joinpath("data/command_vocabulary.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    found = {word for line in lines for word in words_of(line)}
    return frozenset(found | family_words() | PRINCIPALS)


@cache
def family_words() -> frozenset[str]:
    """The words of the known discovery commands; without them nothing would match."""
    data = families()
    texts = [*data.parents.shells, *data.parents.injected]
    for name, family in data.families.items():
        texts += [name, *family.files, *family.issued]
    return frozenset(word for text in texts for word in words_of(text)) - _EXAMPLES


def words_of(text: str) -> set[str]:
    """The lower-case words of a text."""
    return {match[0].replace("^", "").casefold() for match in WORD.finditer(text)}


_SHAPES = (
    r"(?P<sid>(?<![\w-])S-1-\d+(?:-\d+)+(?![\w-]))"
    r"|(?P<guid>(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f]))"
    r"|(?P<address>(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}"
    r"|(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{0,4}|\d{1,3}(?:\.\d{1,3}){3}))(?![\w:]))"
    r"|(?P<hexadecimal>(?<![^\W_])(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![^\W_]))"
)
_PARTS = re.compile(f"{_SHAPES}|(?P<word>{WORD.pattern})", re.IGNORECASE)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,7})?Z", re.ASCII)
_LOOSE = re.compile(
    rf"'[^']*'|\"[^\"]*\"|[^\s'\"]+@[^\s'\"]+|{_SHAPES}|{WORD.pattern}", re.IGNORECASE
)


def literal_words(texts: Iterable[str]) -> frozenset[str]:
    """The words of all string literals of queries, and the literals themselves."""
    found: set[str] = set()
    for text in texts:
        for literal in _strings(tokenize(text)):
            found |= words_of(literal)
            found |= {m[0].casefold() for m in _PARTS.finditer(literal) if m.lastgroup != "word"}
    return frozenset(found)


def literal_texts(texts: Iterable[str]) -> frozenset[str]:
    """The string literals of queries, each as a whole."""
    return frozenset(literal for text in texts for literal in _strings(tokenize(text)))


def _strings(tokens: Iterable[Token]) -> Iterable[str]:
    for token in tokens:
        kind = literal_type(token)
        if kind in ("string", "dynamic", "guid"):
            yield from _inside(decode(token.text)[1])


def _inside(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _inside(item)
    elif isinstance(value, list):
        for item in value:
            yield from _inside(item)


class Redactor:
    """Redacts the answers, queries and account of one recording.

    ``kept`` are words and texts that the recorded hunts' own literals hold; they stay
    readable, since nothing would match without them. ``own`` are those literals: where a
    query holds one as it is, it stays whole. Safe from several threads.
    """

    def __init__(
        self, pseudonyms: Pseudonyms, kept: Collection[str] = (), own: Collection[str] = ()
    ) -> None:
        self._pseudonyms = pseudonyms
        self._own = frozenset(own)
        self._kept = frozenset(kept)
        self._known = vocabulary() | self._kept
        self._needed = family_words() | self._kept | PRINCIPALS
        self._names: set[str] = set()
        self._whole_names: set[str] = set()

    @property
    def key_id(self) -> str:
        """Of the key that the pseudonyms are made under."""
        return self._pseudonyms.key_id

    def table(self, table: ResultTable, query: str) -> tuple[ResultTable, list[str]]:
        """The table with its listed columns, and the names of those left out.

        A column is listed if it is one of ``kept_columns`` or ``query`` names it.
        """
        wanted = kept_columns() | {t.text for t in tokenize(query) if t.kind is Kind.IDENTIFIER}
        places = [at for at, c in enumerate(table.columns) if c.name in wanted]
        hidden = self._learn(table, places)
        readers = [(at, self._reader(table.columns[at], hidden)) for at in places]
        rows = [tuple(read(row[at]) for at, read in readers) for row in table.rows]
        left_out = [c.name for c in table.columns if c.name not in wanted]
        return ResultTable(tuple(table.columns[at] for at in places), rows), left_out

    def _learn(self, table: ResultTable, places: Iterable[int]) -> frozenset[str]:
        """Words of the table's names: in its command lines, too, they are names."""
        found: set[str] = set()
        for at in places:
            if names_someone(table.columns[at].name):
                cells = {row[at] for row in table.rows if isinstance(row[at], str)}
                found |= {word for cell in cells for word in words_of(cell)}
                self._whole_names |= {cell.casefold() for cell in cells}
        hidden = frozenset(word for word in found - self._needed if len(word) > 1)
        self._names |= hidden
        return hidden

    def _reader(self, column: Column, hidden: frozenset[str]) -> Callable[[Any], Any]:
        if column.kql_type not in ("string", "guid", "dynamic"):
            return lambda cell: cell
        names = names_someone(column.name)

        @lru_cache(maxsize=1 << 14)
        def redacted(cell: str) -> str:
            return self.name(cell) if names else self._text(cell, hidden)

        def read(cell: Any) -> Any:
            if isinstance(cell, str):
                return redacted(cell)
            if isinstance(cell, list):
                return [read(item) for item in cell]
            if isinstance(cell, dict):
                return {self._text(key, hidden): read(item) for key, item in cell.items()}
            return cell

        return read

    def text(self, text: str) -> str:
        """A command line, a path or the like."""
        return self._text(text, frozenset())

    def _text(self, text: str, hidden: frozenset[str]) -> str:
        def kept(word: str, before: str, after: str) -> bool:
            if len(word) == 1:
                return word.isdecimal() or before in ("-", "/") or after == ":"
            return word in self._known and word not in hidden

        return self._replaced(text, kept)

    def name(self, text: str) -> str:
        """A name of someone or something: no word of it stays but a well-known principal's."""

        def kept(word: str, _before: str, _after: str) -> bool:
            return word in PRINCIPALS or word in self._kept or (len(word) == 1 and word.isdecimal())

        return self._replaced(text, kept)

    def _replaced(self, text: str, kept: Callable[[str, str, str], bool]) -> str:
        def one(match: re.Match[str]) -> str:
            found = match[0]
            if match.lastgroup != "word":
                return self._shaped(match, kept)
            word = found.replace("^", "")
            before, after = text[: match.start()][-1:], text[match.end() :][:1]
            return found if kept(word.casefold(), before, after) else self._pseudonyms.word(word)

        return _PARTS.sub(one, text)

    def _shaped(self, match: re.Match[str], kept: Callable[[str, str, str], bool]) -> str:
        found, shape = match[0], match.lastgroup
        if found.casefold() in self._kept:
            return found
        if shape == "address":
            try:
                ipaddress.ip_address(found)
            except ValueError:  # a time, a version: words like any other
                return WORD.sub(
                    lambda m: (
                        m[0] if kept(m[0].casefold(), "", "") else self._pseudonyms.word(m[0])
                    ),
                    found,
                )
            return self._pseudonyms.address(found)
        return str(getattr(self._pseudonyms, str(shape))(found))

    def value(self, value: Any) -> Any:
        """A parameter's value: every text in it.

        A name that an answer holds is the name that it is there, and a time is a time:
        a question about an answer is the same question after redaction.
        """
        if isinstance(value, str):
            if value in self._own or _INSTANT.fullmatch(value):
                return value
            return self.name(value) if value.casefold() in self._whole_names else self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value

    def query(self, text: str) -> str:
        """A query: every literal in it that holds a text."""
        edits = []
        for token in tokenize(text):
            if literal_type(token) not in ("string", "dynamic", "guid"):
                continue
            kind, value = decode(token.text)
            redacted = self.value(value)
            if redacted != value:
                edits.append(Edit(token.start, token.end, encode(redacted, kind)))
        return apply(text, edits)

    def sentence(self, text: str) -> str:
        """An account in words: what it quotes, what has the shape of a name, known names."""

        def one(match: re.Match[str]) -> str:
            found = match[0]
            if found[0] in "'\"" or "@" in found:
                return self.text(found)
            if match.lastgroup:
                return self._shaped(match, lambda *_: False)
            return self._pseudonyms.word(found) if found.casefold() in self._names else found

        return _LOOSE.sub(one, text)

    def identifier(self, text: str | None) -> str | None:
        """A profile, a tenant or a workspace; its words are names from now on."""
        if text is None:
            return None
        self._names |= {word for word in words_of(text) - self._needed if len(word) > 1}
        return self.name(text)
