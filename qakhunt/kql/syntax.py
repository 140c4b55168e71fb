"""The syntax tree of KQL: every node knows its span and holds its parts in order.

``parts`` are nodes and tokens, so that the tokens of a tree are those of its text and
any span can be edited byte by byte; the named fields point at what matters. Operators
are all of one shape: options, arguments, and clauses that a keyword opens. What the
parser does not understand is an ``Unparsed``.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from qakhunt.kql.literal import decode, decode_string
from qakhunt.kql.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Iterator


class Node(msgspec.Struct, frozen=True, eq=False):
    """A span ``[start, end)`` of the text and what it is made of."""

    start: int
    end: int
    parts: tuple[Node | Token, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The parts that are nodes."""
        return tuple(part for part in self.parts if isinstance(part, Node))

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens of the node, in order."""
        found: list[Token] = []
        waiting: list[Node | Token] = [self]
        while waiting:
            part = waiting.pop()
            if isinstance(part, Token):
                found.append(part)
            else:
                waiting += reversed(part.parts)
        return tuple(found)

    def walk(self) -> Iterator[Node]:
        """The node and all below it, in the order of the text."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)


class Unparsed(Node, frozen=True, eq=False):
    """What fits no grammar, or is nested too deeply; empty where something is missing."""


# Expressions


class Name(Node, frozen=True, eq=False):
    """A column, table or variable; ``['odd name']`` is one, too."""

    name: str


class Literal(Node, frozen=True, eq=False):
    """A literal of KQL type ``type``; strings beside each other are one."""

    type: str

    @property
    def text(self) -> str:
        """A string's value; as it is written where an escape is wrong. For strings only."""
        return self.value if isinstance(self.value, str) else self.tokens[0].text

    @property
    def value(self) -> Any:
        """The Python value; None for null, and for what only looks like a literal."""
        try:
            if self.type == "string":
                return "".join(decode_string(token.text) for token in self.tokens)
            return decode(self.tokens[0].text)[1]
        except ValueError:
            return None

    @property
    def strings(self) -> tuple[str, ...]:
        """A string, or those of a ``dynamic`` list or text."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return tuple(one for one in values if isinstance(one, str))


class Wildcard(Node, frozen=True, eq=False):
    """``*``, or a name with stars in it."""

    pattern: str


class Unary(Node, frozen=True, eq=False):
    """Signs before an operand."""

    operand: Node

    @property
    def signs(self) -> str:
        """The signs, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Token))


class Chain(Node, frozen=True, eq=False):
    """Operands between operators of one rank: ``and``, ``or``, ``+ -``, ``* / %``."""

    operators: tuple[str, ...]
    operands: tuple[Node, ...]


class Comparison(Node, frozen=True, eq=False):
    """``left operator right``; the operator as in KQL: ``!in~``, ``matches regex``.

    ``at`` is the operator's own span.
    """

    left: Node
    operator: str
    right: Node
    at: tuple[int, int]

    @property
    def positive(self) -> str:
        """The operator without its negation."""
        return {"!=": "==", "<>": "==", "!~": "=~"}.get(self.operator, self.operator.lstrip("!"))


class Interval(Node, frozen=True, eq=False):
    """``low .. high``."""

    low: Node
    high: Node


class Path(Node, frozen=True, eq=False):
    """``base.member[0].method()``; a step is a Name, an Index, a Call or a Wildcard."""

    base: Node
    steps: tuple[Node, ...]


class Index(Node, frozen=True, eq=False):
    """``[0]`` behind a value."""

    value: Node


class Call(Node, frozen=True, eq=False):
    """``name(arguments)``."""

    name: str
    arguments: tuple[Node, ...]


class Group(Node, frozen=True, eq=False):
    """What brackets hold: an expression, a list, a query, declarations; ``{}`` holds a Script."""

    items: tuple[Node, ...]


class Named(Node, frozen=True, eq=False):
    """``target = value``; the target is a Name, or a Group of them."""

    target: Node
    value: Node

    @property
    def names(self) -> tuple[str, ...]:
        """The names on the left."""
        return tuple(node.name for node in self.target.walk() if isinstance(node, Name))


class Declaration(Node, frozen=True, eq=False):
    """``name: type``, perhaps with a default."""

    name: str
    type: Node
    default: Node | None


class Ordered(Node, frozen=True, eq=False):
    """A sort key with ``asc``/``desc`` and ``nulls first``/``nulls last``."""

    value: Node
    words: tuple[str, ...]


# Queries


class GraphPattern(Node, frozen=True, eq=False):
    """The arrows of ``make-graph`` and ``graph-match``, as tokens."""


class Option(Node, frozen=True, eq=False):
    """``kind=inner``, ``hint.strategy=shuffle`` behind an operator's name."""

    name: str
    value: Node


class Clause(Node, frozen=True, eq=False):
    """What follows a keyword of an operator: ``by a, b``, ``on c``, ``to typeof(int)``."""

    keyword: str
    arguments: tuple[Node, ...]


class Operator(Node, frozen=True, eq=False):
    """``| name options arguments clauses``; the bar is missing where it is a source."""

    name: str
    options: tuple[Option, ...]
    arguments: tuple[Node, ...]
    clauses: tuple[Clause, ...]

    @property
    def has_bar(self) -> bool:
        """Whether it stands behind a bar, and not as a source."""
        return isinstance(self.parts[0], Token) and self.parts[0].text == "|"

    def option(self, name: str) -> str:
        """An option's value as written; empty where it is not given."""
        for option in self.options:
            if option.name == name:
                return "".join(token.text for token in option.value.tokens)
        return ""

    def clause(self, keyword: str) -> tuple[Node, ...] | None:
        """Arguments of the first such clause; None where there is none."""
        return next((c.arguments for c in self.clauses if c.keyword == keyword), None)


class Pipeline(Node, frozen=True, eq=False):
    """``source | operator | operator``; a subquery of an operator has an empty source."""

    source: Node
    operators: tuple[Operator, ...]


class Function(Node, frozen=True, eq=False):
    """``(parameters) { body }``, what a let of a function or a view holds."""

    parameters: tuple[Node, ...]
    body: Script


class Let(Node, frozen=True, eq=False):
    """``let name = value``."""

    target: Node
    value: Node

    @property
    def name(self) -> str:
        """The name that is declared; empty where there is none."""
        return self.target.name if isinstance(self.target, Name) else ""


class Directive(Node, frozen=True, eq=False):
    """``set``, ``declare``, ``alias``, ``pattern`` or ``restrict``."""

    keyword: str
    arguments: tuple[Node, ...]


class Script(Node, frozen=True, eq=False):
    """Statements: Let, Directive, else an expression or a pipeline."""

    statements: tuple[Node, ...]

    @property
    def lets(self) -> tuple[Let, ...]:
        """The let statements, in order."""
        return tuple(one for one in self.statements if isinstance(one, Let))

    @property
    def leading_lets(self) -> tuple[Let, ...]:
        """The let statements before the query; ``set`` and ``declare`` may stand between."""
        head = takewhile(lambda one: isinstance(one, (Let, Directive)), self.statements)
        return tuple(one for one in head if isinstance(one, Let))

    @property
    def query(self) -> Node | None:
        """The statement that yields the result: the last that declares nothing."""
        queries = [one for one in self.statements if not isinstance(one, (Let, Directive))]
        return queries[-1] if queries else None


NodeType = TypeVar("NodeType", bound=Node)


def find(node: Node, kind: type[NodeType]) -> Iterator[NodeType]:
    """All nodes of a kind at or below a node, in the order of the text."""
    return (one for one in node.walk() if isinstance(one, kind))


def stages(node: Node) -> tuple[Node, tuple[Operator, ...]]:
    """The source and the operators of any tabular expression."""
    return (node.source, node.operators) if isinstance(node, Pipeline) else (node, ())


def bare(node: Node) -> Node:
    """The node without brackets that hold nothing else."""
    while isinstance(node, Group) and len(node.items) == 1 and node.parts[0].text == "(":  # type: ignore[union-attr]
        node = node.items[0]
    return node


def conjuncts(node: Node, word: str = "and") -> tuple[Node, ...]:
    """What ``and`` (or another word) joins; the node alone where it joins nothing."""
    if isinstance(node, Chain) and node.operators[0] == word:
        return node.operands
    return (node,)


def column(node: Node) -> str | None:
    """The name that a node is, if it is nothing else."""
    return node.name if isinstance(node, Name) else None
