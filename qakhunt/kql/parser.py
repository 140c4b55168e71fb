"""Text to syntax tree. Any text has one: what is not understood is kept as it stands.

Expressions follow Kusto's ranks (``or``, ``and``, equality and ``in``, ``<``, ``+``,
``*``, then the string operators). Brackets are paired before anything is read, so that
an error inside one pair stays inside it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from qakhunt.kql.literal import literal_type
from qakhunt.kql.syntax import (
    Call,
    Chain,
    Clause,
    Comparison,
    Declaration,
    Directive,
    Function,
    GraphPattern,
    Group,
    Index,
    Interval,
    Let,
    Literal,
    Name,
    Named,
    Node,
    Operator,
    Option,
    Ordered,
    Path,
    Pipeline,
    Script,
    Unary,
    Unparsed,
    Wildcard,
)
from qakhunt.kql.tokens import Kind, KqlLexError, Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    Parts = list[Node | Token]

NodeType = TypeVar("NodeType", bound=Node)

DEEPEST = 60
"""Brackets within brackets beyond which nothing is read."""

_PAIRS = {")": "(", "]": "[", "}": "{"}
_OPENING = frozenset(_PAIRS.values())
_DIRECTIVES = frozenset(["set", "declare", "alias", "restrict", "pattern"])
_HEADS = frozenset(["union", "print", "range", "find", "search", "evaluate"])
_TABLE_LITERALS = frozenset(["datatable", "externaldata", "external_data"])
_LITERALS = frozenset([Kind.STRING, Kind.NUMBER, Kind.TIMESPAN, Kind.TYPED])

_OR, _AND, _EQUALITY, _RELATION, _SUM, _PRODUCT, _TEXT = range(1, 8)
_RANKS = {
    "or": _OR, "and": _AND,
    "==": _EQUALITY, "!=": _EQUALITY, "<>": _EQUALITY,
    "<": _RELATION, ">": _RELATION, "<=": _RELATION, ">=": _RELATION,
    "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT,
    "=~": _TEXT, "!~": _TEXT, ":": _TEXT,
    **dict.fromkeys(["in", "has_any", "has_all", "between"], _EQUALITY),
    **dict.fromkeys([
        "has", "has_cs", "hasprefix", "hasprefix_cs", "hassuffix", "hassuffix_cs", "contains",
        "contains_cs", "containscs", "notcontains", "notcontainscs", "startswith",
        "startswith_cs", "endswith", "endswith_cs", "matches", "like", "likecs", "notlike",
        "notlikecs",
    ], _TEXT),
}  # fmt: skip
_CHAINED = frozenset([_OR, _AND, _SUM, _PRODUCT])

_CLAUSES: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for names, words in {
        "where filter extend project project-away project-keep project-rename distinct take limit "
        "count sample as getschema consume serialize invoke fork print union project-reorder": "",
        "sort order top summarize": "by",
        "join": "on where", "lookup": "on", "top-hitters": "of by",
        "top-nested": "of with by", "sample-distinct": "of", "reduce": "by with",
        "mv-expand mvexpand": "to limit", "mv-apply mvapply": "to limit on id",
        "make-series": "default on from to step in by", "range": "from to step",
        "parse parse-where": "with", "parse-kv": "as with", "partition": "by",
        "facet": "by with", "render": "with by", "evaluate": ":", "externaldata": "with",
        "find": "in where project project-smart project-away", "search": "in",
        "scan": "order partition by declare with", "make-graph": "with on",
        "graph-match graph-shortest-paths": "where project",
    }.items()
    for name in names.split()
}  # fmt: skip
_ANY_CLAUSE = frozenset(["by", "on", "with", "of", "from", "to", "step"])
OPERATORS = frozenset(_CLAUSES) - {"externaldata"}
"""Operators that the parser knows; any other word behind a bar is one, too."""

# Clauses of one argument, behind which the operator's own may go on.
_SHORT = frozenset(["to", "limit", "in", "of", "from", "step", "default", "id", ":"])
# Operators whose arguments no comma parts: in a list, one ends the query.
_SINGLE = frozenset([
    "where", "filter", "take", "limit", "count", "top", "sample", "as", "getschema", "consume",
    "sample-distinct", "invoke",
])  # fmt: skip
_TAKE_OPTIONS = frozenset([
    "join", "lookup", "union", "mv-expand", "mvexpand", "mv-apply", "mvapply", "parse",
    "parse-where", "parse-kv", "find", "search", "make-series", "scan", "evaluate",
    "make-graph",
])  # fmt: skip
_OPTIONS = frozenset(["kind", "withsource", "with_source", "isfuzzy", "bagexpansion", "flags",
                      "with_itemindex", "decodeblocks", "expandoutput", "datascope",
                      "with_match_id", "with_step_name", "with_node_id"])  # fmt: skip
_GRAPHS = frozenset(["make-graph", "graph-match", "graph-shortest-paths"])
_PATTERNS = frozenset(["union", "project-away", "project-keep", "project-reorder", "find",
                       "search"])  # fmt: skip
_SUBQUERIES = {("partition", "by"), ("mv-apply", "on"), ("mvapply", "on"), ("facet", "with")}


@lru_cache(maxsize=32)
def parse_tokens(text: str) -> Script:
    """The tree of a whole text. Raises KqlLexError where it cannot be split into tokens."""
    return _Parser(tokenize(text)).script()


@lru_cache(maxsize=32)
def parse(text: str) -> Script:
    """The tree of a whole text. Never raises: what cannot be split into tokens is Unparsed."""
    readable = len(text)
    while True:
        try:
            if readable == len(text):
                return parse_tokens(text)
            tokens = tokenize(text[:readable])
            break
        except KqlLexError as problem:
            readable = problem.offset
    tokens.append(Token(Kind.PUNCTUATION, readable, len(text), text[readable:]))
    return _Parser(tokens).script()


def _node(kind: type[NodeType], parts: Sequence[Node | Token], *fields: Any) -> NodeType:
    return kind(parts[0].start, parts[-1].end, tuple(parts), *fields)


def _closings(tokens: Sequence[Token]) -> dict[int, int]:
    """Position of each opening bracket that is closed -> of what closes it."""
    found: dict[int, int] = {}
    stack: list[int] = []
    waiting = dict.fromkeys(_OPENING, 0)
    for at, token in enumerate(tokens):
        if token.kind is not Kind.PUNCTUATION:
            continue
        if token.text in _OPENING:
            stack.append(at)
            waiting[token.text] += 1
        elif token.text in _PAIRS and waiting[_PAIRS[token.text]]:
            while True:
                opened = stack.pop()
                waiting[tokens[opened].text] -= 1
                if tokens[opened].text == _PAIRS[token.text]:
                    break
            found[opened] = at
    return found


class _Parser:
    """Reads from ``at`` up to ``stop``; each method leaves ``at`` behind what it read."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.texts = ["" if token.kind in _LITERALS else token.text for token in tokens]
        self.closings = _closings(tokens)
        self.at, self.stop = 0, len(tokens)
        self.depth = 0
        self.operator_name = ""

    # What stands here

    @property
    def text(self) -> str:
        """The token here; empty at the end of what is being read, and for literals."""
        return self.texts[self.at] if self.at < self.stop else ""

    def ahead(self, by: int = 1) -> str:
        return self.tokens[self.at + by].text if self.at + by < self.stop else ""

    def is_word(self, by: int = 0) -> bool:
        at = self.at + by
        return at < self.stop and self.tokens[at].kind is Kind.IDENTIFIER

    def touches(self, by: int) -> bool:
        """Whether the token ``by`` ahead directly follows the one before it."""
        at = self.at + by
        return at < self.stop and self.tokens[at].start == self.tokens[at - 1].end

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def nothing(self) -> Unparsed:
        """A missing part: an empty span behind what was read last."""
        place = self.tokens[self.at - 1].end if self.at else 0
        return Unparsed(place, place, ())

    def unparsed(self, stop: int) -> Unparsed:
        parts = self.tokens[self.at : stop]
        self.at = stop
        return _node(Unparsed, parts)

    def too_deep(self, stop: int) -> Unparsed:
        """Brackets too deep to read: only their words and innermost calls are recognised."""
        depth, self.depth = self.depth, 0
        parts: Parts = []
        while self.at < stop:
            closed = self.closings.get(self.at + 1) if self.ahead() == "(" else None
            if not self.is_word():
                parts.append(self.take())
            elif closed is None or any(at in self.closings for at in range(self.at + 2, closed)):
                parts.append(self.name())
            else:
                parts.append(self.call())
        self.depth = depth
        return _node(Unparsed, parts)

    def left(self) -> Unparsed:
        """What is left of a statement: no part of it, but read as far as that goes."""
        parts: Parts = []
        while self.at < self.stop:
            parts.append(self.element())
        return _node(Unparsed, parts)

    # Statements

    def script(self) -> Script:
        parts: Parts = []
        found: list[Node] = []
        while self.at < self.stop:
            if self.text == ";":
                parts.append(self.take())
                continue
            outer, self.stop = self.stop, self._statement_end()
            node = self.statement()
            parts.append(node)
            found.append(node)
            if self.at < self.stop:
                left = self.left()
                parts.append(left)
                found.append(left)
            self.stop = outer
        if not parts:
            place = self.nothing().start
            return Script(place, place, (), ())
        return _node(Script, parts, tuple(found))

    def _statement_end(self) -> int:
        at = self.at
        while at < self.stop and self.tokens[at].text != ";":
            at = self.closings.get(at, at) + 1
        return min(at, self.stop)

    def statement(self) -> Node:
        if self.text == "let" and (self.is_word(1) or self.ahead() == "["):
            return self.let()
        if self.text in _DIRECTIVES and (self.is_word(1) or self.ahead() == "("):
            keyword = self.take()
            parts: Parts = [keyword]
            arguments = self.items(parts, frozenset())
            return _node(Directive, parts, keyword.text, tuple(arguments))
        return self.element()

    def let(self) -> Let:
        parts: Parts = [self.take()]
        target = self.name()
        parts.append(target)
        if self.text == "=":
            parts.append(self.take())
        value = self.function() or (self.element() if self.at < self.stop else self.nothing())
        if value.parts and self.at < self.stop:
            value = _node(Unparsed, [value, *self.left().parts])
        parts += [value] if value.parts else []
        return _node(Let, parts, target, value)

    def function(self) -> Function | None:
        """``(parameters) { body }``, with ``view`` before it or not."""
        opened = self.at + (self.text == "view")
        closed = self.closings.get(opened, -1)
        body = closed + 1
        if closed < 0 or self.tokens[opened].text != "(" or body >= self.stop:
            return None
        if self.tokens[body].text != "{" or body not in self.closings or self.depth >= DEEPEST:
            return None
        parts: Parts = [self.take()] if self.at < opened else []
        parts.append(self.take())
        parameters = self.inside(closed, lambda: self.items(parts, frozenset()))
        parts += [self.take(), self.take()]
        script = self.inside(self.closings[body], self.script)
        parts += [*([script] if script.parts else []), self.take()]
        return _node(Function, parts, tuple(parameters), script)

    def inside(self, stop: int, read: Callable[[], Any], operator: str = "") -> Any:
        """Read up to the bracket at ``stop``; ``operator`` is whose words hold in there."""
        outer, name = self.stop, self.operator_name
        self.stop, self.operator_name = stop, operator
        self.depth += 1
        found = read()
        self.depth -= 1
        self.stop, self.operator_name = outer, name
        return found

    # Tabular expressions

    def element(self) -> Node:
        """An expression or a query, as statements and brackets hold them."""
        if self.text == "|":
            return self.pipeline(self.nothing())
        source = self.operator() if self.is_head() else self.item()
        return self.pipeline(source) if self.text == "|" else source

    def is_head(self) -> bool:
        if self.text not in _HEADS or self.at + 1 >= self.stop:
            return False
        after = self.tokens[self.at + 1]
        if after.text in ("(", "*", "[", "-"):
            return self.text == "print" or (
                after.text != "-" and self.text not in ("range", "evaluate")
            )
        return after.kind in _LITERALS or (
            after.kind is Kind.IDENTIFIER and (after.text == "in" or after.text not in _RANKS)
        )

    def pipeline(self, source: Node, first: Operator | None = None) -> Pipeline:
        found = [first] if first else []
        while self.text == "|":
            found.append(self.operator())
        parts: Parts = [*([source] if source.parts else []), *found]
        return _node(Pipeline, parts, source, tuple(found))

    def operator(self) -> Operator:
        parts: Parts = [self.take()] if self.text == "|" else []
        name = self.operator_words(parts)
        outer, self.operator_name = self.operator_name, name
        options: list[Option] = []
        arguments: list[Node] = []
        clauses: list[Clause] = []
        words = _CLAUSES.get(name, _ANY_CLAUSE)
        while self.at < self.stop and self.text != "|":
            if self.text == ",":
                if name in _SINGLE and self.depth:
                    break
                parts.append(self.take())
            elif not arguments and self.is_option(name):
                options.append(self.option())
                parts.append(options[-1])
            elif not arguments and name in _GRAPHS and self.text not in words:
                arguments.append(self.graph_pattern(words))
                parts.append(arguments[-1])
            elif self.text in words:
                clauses.append(self.clause(name, words))
                parts.append(clauses[-1])
            else:
                arguments.append(self.subquery() if name == "fork" else self.item())
                parts.append(arguments[-1])
        self.operator_name = outer
        return _node(Operator, parts, name, tuple(options), tuple(arguments), tuple(clauses))

    def operator_words(self, parts: Parts) -> str:
        """The name, with its hyphens (``project-away``)."""
        if not self.is_word():
            return ""
        parts.append(self.take())
        text = self.tokens[self.at - 1].text
        while self.text == "-" and self.touches(0) and self.touches(1) and self.is_word(1):
            text += "-" + self.ahead()
            parts += [self.take(), self.take()]
        return text

    def graph_pattern(self, words: Collection[str]) -> GraphPattern:
        start = self.at
        while self.at < self.stop and self.text != "|" and self.text not in words:
            if self.at > start and self.is_option("make-graph"):
                break
            self.at = min(self.closings.get(self.at, self.at) + 1, self.stop)
        return _node(GraphPattern, self.tokens[start : self.at])

    def is_option(self, name: str) -> bool:
        if not self.is_word():
            return False
        if self.text == "hint" and self.ahead() == ".":
            return self.ahead(3) == "="
        known = self.text in _OPTIONS and name in _TAKE_OPTIONS
        return known and self.ahead() == "=" and self.at + 2 < self.stop

    def option(self) -> Option:
        parts: Parts = [self.take()]
        while self.text != "=":
            parts.append(self.take())
        name = "".join(part.text for part in parts if isinstance(part, Token))
        parts.append(self.take())
        if self.at >= self.stop:
            return _node(Option, parts, name, self.nothing())
        value = self.literal() or self.name()
        return _node(Option, [*parts, value], name, value)

    def clause(self, name: str, words: Collection[str]) -> Clause:
        parts: Parts = []
        keyword = self.operator_words(parts)
        if not parts:
            parts.append(self.take())
            keyword = ":"
        if self.text == "=":
            parts.append(self.take())
        if name == "scan" and keyword == "with" and self.text == "(":
            arguments = [self.steps()]
        elif name in ("parse", "parse-where") and keyword == "with":
            arguments = self.pattern()
        elif (name, keyword) in _SUBQUERIES:
            arguments = [self.name()] if name == "partition" and self.is_word() else []
            while self.at < self.stop and self.text != "|":
                arguments.append(self.subquery())
        elif name in ("find", "search") and keyword == "in" and self.at in self.closings:
            arguments = [self.group(name)]
        elif keyword in _SHORT:
            arguments = [self.item()] if self.at < self.stop and self.text != "|" else []
        else:
            arguments = self.items(parts, words)
            return _node(Clause, parts, keyword, tuple(arguments))
        return _node(Clause, [*parts, *arguments], keyword, tuple(arguments))

    def items(self, parts: Parts, words: Collection[str]) -> list[Node]:
        """Arguments up to a bar or one of ``words``, put to ``parts`` with their commas."""
        found = []
        while self.at < self.stop and self.text != "|" and self.text not in words:
            if self.text in (",", ";"):
                parts.append(self.take())
                continue
            found.append(self.element() if not self.operator_name else self.item())
            parts.append(found[-1])
        return found

    def subquery(self) -> Node:
        """``(where x | take 1)``: a query over what the operator has at hand."""
        if self.is_word() and self.ahead() == "=":
            target, equals = self.name(), self.take()
            if self.at >= self.stop or self.text == "|":
                return _node(Named, [target, equals], target, self.nothing())
            value = self.subquery() if self.text == "(" else self.item()
            return _node(Named, [target, equals, value], target, value)
        closed = self.closings.get(self.at)
        if self.text != "(" or closed is None or self.depth >= DEEPEST:
            return self.item()
        parts: Parts = [self.take()]

        def read() -> list[Node]:
            start = self.at
            name = self.operator_words([])
            self.at = start
            if name not in OPERATORS or (name in _HEADS and name != "union"):
                return self.all_items(parts)
            parts.append(self.pipeline(self.nothing(), self.operator()))
            return [parts[-1], *self.all_items(parts)]  # type: ignore[list-item]

        found = self.inside(closed, read)
        parts.append(self.take())
        return _node(Group, parts, tuple(found))

    def steps(self) -> Node:
        """The steps of a scan: ``(step s1: condition => a = 1; step s2: ...)``."""
        closed = self.closings.get(self.at)
        if closed is None or self.depth >= DEEPEST:
            return self.item()
        parts: Parts = [self.take()]
        found: list[Node] = []

        def read() -> None:
            while self.at < self.stop:
                if self.text == ";":
                    parts.append(self.take())
                    continue
                found.append(self.step())
                parts.append(found[-1])

        self.inside(closed, read)
        parts.append(self.take())
        return _node(Group, parts, tuple(found))

    def step(self) -> Clause:
        keyword = self.take()
        parts: Parts = [keyword]
        arguments: list[Node] = []
        outer, self.stop = self.stop, self._statement_end()
        while self.is_word():
            parts.append(self.option() if self.ahead() == "=" else self.name())
        while self.at < self.stop:
            if self.text in (":", "=>", ","):
                parts.append(self.take())
                continue
            arguments.append(self.item())
            parts.append(arguments[-1])
        self.stop = outer
        return _node(Clause, parts, keyword.text, tuple(arguments))

    def pattern(self) -> list[Node]:
        """What ``parse`` looks for: texts, stars and columns, with their types or not."""
        found: list[Node] = []
        while self.at < self.stop and self.text != "|":
            if self.text == "*":
                found.append(_node(Wildcard, [self.take()], "*"))
            elif self.is_word() or self.text == "[":
                name = self.name()
                found.append(self.declaration(name) if self.text == ":" else name)
            else:
                found.append(self.literal() or self.unparsed(self.at + 1))
        return found

    # Expressions

    def item(self) -> Node:
        """``expression``, ``name = expression``, ``name: type``, a sort key or an interval."""
        wild = self.wildcard() if self.operator_name in _PATTERNS else None
        node = wild or self.expression()
        if self.text == ":" and isinstance(node, Name) and self.operator_name != "search":
            return self.declaration(node)
        if self.text == "=":
            equals = self.take()
            value: Node = self.nothing()
            if self.at < self.stop and self.text != "|":
                value = self.assigned()
            return _node(Named, [node, equals, *([value] if value.parts else [])], node, value)
        if self.text == "..":
            parts: Parts = [node, self.take()]
            high = self.expression() if self.at < self.stop else self.nothing()
            return _node(Interval, [*parts, *([high] if high.parts else [])], node, high)
        if self.text in ("asc", "desc", "nulls"):
            parts = [node]
            while self.text in ("asc", "desc", "nulls", "first", "last"):
                parts.append(self.take())
            words = tuple(part.text for part in parts if isinstance(part, Token))
            return _node(Ordered, parts, node, words)
        return node

    def assigned(self) -> Node:
        if self.depth >= DEEPEST:
            return self.unparsed(self.at + 1)
        self.depth += 1
        value = self.item() if self.operator_name else self.element()
        self.depth -= 1
        return value

    def declaration(self, name: Name) -> Declaration:
        parts: Parts = [name, self.take()]
        kind: Node = self.nothing()
        if self.at < self.stop and self.text not in ("|", ",", "="):
            kind = self.name() if self.is_word() else (self.primary() or self.nothing())
            parts += [kind] if kind.parts else []
        default = None
        if self.text == "=" and self.at + 1 < self.stop:
            parts.append(self.take())
            default = self.expression()
            parts.append(default)
        return _node(Declaration, parts, name.name, kind, default)

    def wildcard(self) -> Wildcard | None:
        """Names with stars in them, where a star multiplies nothing."""
        size = 0
        while self.at + size < self.stop and (not size or self.touches(size)):
            token = self.tokens[self.at + size]
            if token.text != "*" and token.kind not in (Kind.IDENTIFIER, Kind.NUMBER):
                break
            size += 1
        run = self.tokens[self.at : self.at + size]
        if not any(token.text == "*" for token in run):
            return None
        if self.operator_name in ("find", "search") and self.at + size < self.stop:
            after = self.tokens[self.at + size].text
            if after in _RANKS or after == "!":
                return None  # any column is compared
        self.at += size
        return _node(Wildcard, run, "".join(token.text for token in run))

    def expression(self) -> Node:
        """Operands and operators by rank; one unparsed token where nothing begins."""
        operands: list[Node] = [self.operand()]
        waiting: list[tuple[int, str, list[Token]]] = []
        while True:
            found = self.infix()
            if found is None:
                break
            while waiting and (
                waiting[-1][0] > found[0]
                or (waiting[-1][0] == found[0] and found[0] not in _CHAINED)
            ):
                self.reduce(operands, waiting)
            waiting.append(found)
            has_more = self.at < self.stop and self.text not in ("|", ",", ";", "=")
            operands.append(self.operand() if has_more else self.nothing())
        while waiting:
            self.reduce(operands, waiting)
        return operands[0]

    @staticmethod
    def reduce(operands: list[Node], waiting: list[tuple[int, str, list[Token]]]) -> None:
        """Join the last operands by the operators of the last one's rank."""
        rank, text, tokens = waiting[-1]
        if rank not in _CHAINED:
            waiting.pop()
            right, left = operands.pop(), operands.pop()
            parts: Parts = [left, *tokens, *([right] if right.parts else [])]
            at = (tokens[0].start, tokens[-1].end)
            operands.append(_node(Comparison, parts, left, text, right, at))
            return
        size = 0
        while size < len(waiting) and waiting[-1 - size][0] == rank:
            size += 1
        joined, own = operands[-1 - size :], waiting[-size:]
        parts = [joined[0]]
        for operator, operand in zip(own, joined[1:], strict=True):
            parts += [*operator[2], *([operand] if operand.parts else [])]
        del operands[-1 - size :], waiting[-size:]
        operators = tuple(operator[1] for operator in own)
        operands.append(_node(Chain, parts, operators, tuple(joined)))

    def infix(self) -> tuple[int, str, list[Token]] | None:
        """The operator that stands here: rank, spelling, tokens."""
        text = self.text
        size = 1
        if text == "!" and self.ahead() in _RANKS and self.is_word(1):
            text, size = "!" + self.ahead(), 2
        rank = _RANKS.get(text.removeprefix("!") if size == 2 else text)
        if rank is None or (text == ":" and self.operator_name != "search"):
            return None
        if text in ("in", "!in"):
            if self.ahead(size) == "~":
                text, size = text + "~", size + 1
            if self.ahead(size) != "(":
                return None
        if text.endswith("matches") and self.ahead(size) == "regex":
            text, size = text + " regex", size + 1
        return rank, text, [self.take() for _ in range(size)]

    def operand(self) -> Node:
        signs: Parts = []
        while self.text in ("+", "-"):
            signs.append(self.take())
        node = self.primary() if self.at < self.stop else None
        if node is None:
            if signs:
                return _node(Unparsed, signs)
            return self.unparsed(self.at + 1)
        node = self.path(node)
        return _node(Unary, [*signs, node], node) if signs else node

    def path(self, base: Node) -> Node:
        parts: Parts = [base]
        steps: list[Node] = []
        while True:
            step: Node | None = None
            if self.text == "." and self.is_member():
                parts.append(self.take())
                pattern = self.wildcard() if self.operator_name in _PATTERNS else None
                step = pattern or self.primary()
            elif self.text == "[" and self.at in self.closings and self.depth < DEEPEST:
                inner = self.group()
                value = inner.items[0] if len(inner.items) == 1 else self.nothing()
                step = _node(Index, inner.parts, value)
            if step is None:
                break
            parts.append(step)
            steps.append(step)
        return _node(Path, parts, base, tuple(steps)) if steps else base

    def is_member(self) -> bool:
        """Whether a name, a star or a name in brackets follows the dot."""
        if self.ahead() == "[":
            return self.at + 1 in self.closings
        return self.is_word(1) or self.ahead() == "*"

    def primary(self) -> Node | None:
        """A name, a literal, a call or brackets; None, nothing read, where none begins."""
        token = self.tokens[self.at]
        if token.kind in _LITERALS:
            return self.literal()
        if token.kind is Kind.IDENTIFIER:
            if self.at + 1 in self.closings and self.ahead() == "(":
                return self.table_literal() if token.text in _TABLE_LITERALS else self.call()
            kind = literal_type(token)
            return _node(Literal, [self.take()], kind) if kind else self.name()
        if token.text == "*":
            return _node(Wildcard, [self.take()], "*")
        closed = self.closings.get(self.at)
        if closed is None:
            return None
        if self.depth >= DEEPEST:
            return self.too_deep(closed + 1)
        if token.text == "[" and closed == self.at + 2 and self.tokens[self.at + 1].kind is (
            Kind.STRING
        ):  # fmt: skip
            return self.name()
        return self.group()

    def name(self) -> Name:
        """One word, or a text in square brackets."""
        if self.text == "[" and self.closings.get(self.at) == self.at + 2:
            parts = [self.take(), self.take(), self.take()]
            return _node(Name, parts, _node(Literal, parts[1:2], "string").text)
        token = self.take()
        return _node(Name, [token], token.text)

    def literal(self) -> Literal | None:
        if self.at >= self.stop or self.tokens[self.at].kind not in _LITERALS:
            return None
        parts = [self.take()]
        if parts[0].kind is Kind.STRING:
            while self.at < self.stop and self.tokens[self.at].kind is Kind.STRING:
                parts.append(self.take())
        return _node(Literal, parts, literal_type(parts[0]) or "")

    def call(self) -> Node:
        if self.depth >= DEEPEST:
            return self.too_deep(self.closings[self.at + 1] + 1)
        name = self.take()
        parts: Parts = [name, self.take()]
        arguments = self.inside(self.closings[self.at - 1], lambda: self.all_items(parts))
        parts.append(self.take())
        return _node(Call, parts, name.text, tuple(arguments))

    def all_items(self, parts: Parts) -> list[Node]:
        """Everything up to the closing bracket; queries among them."""
        found: list[Node] = []
        while self.at < self.stop:
            found += self.items(parts, frozenset())
            if self.text == "|":
                found.append(self.element())
                parts.append(found[-1])
        return found

    def group(self, operator: str = "") -> Group:
        opened = self.take()
        parts: Parts = [opened]
        closed = self.closings[self.at - 1]
        if opened.text == "{":
            script = self.inside(closed, self.script)
            found = [script] if script.parts else []
            parts += found
        else:
            found = self.inside(closed, lambda: self.all_items(parts), operator)
        parts.append(self.take())
        return _node(Group, parts, tuple(found))

    def table_literal(self) -> Node:
        """``datatable(columns)[values]``, ``externaldata(columns)[addresses] with (options)``."""
        if self.depth >= DEEPEST:
            return self.too_deep(self.closings[self.at + 1] + 1)
        name = self.take()
        parts: Parts = [name]
        arguments: list[Node] = []
        while self.text in ("(", "[") and self.at in self.closings and len(arguments) < 2:
            arguments.append(self.group())
        parts += arguments
        clauses = []
        if self.text == "with" and name.text != "datatable":
            outer, self.operator_name = self.operator_name, "externaldata"
            clauses.append(self.clause("externaldata", frozenset()))
            self.operator_name = outer
        return _node(Operator, [*parts, *clauses], name.text, (), tuple(arguments), tuple(clauses))
