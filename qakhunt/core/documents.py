"""Text files into checked models, with every error at its line and column.

YAML is read into plain values plus the place of each; msgspec checks the shape.
Only what YAML calls JSON-compatible comes out: no tags, no objects.
"""

from __future__ import annotations

import codecs
import re
import threading
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml

from qakhunt.core.errors import QakhuntError, SourceLocation, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    ErrorType = Callable[..., QakhuntError]

T = TypeVar("T")
Path_ = tuple["str | int", ...]

_FIRST_USE = threading.Lock()

ANY = "*"  # a key that is not known

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `([^`]*)`")
_INVALID_NAME = re.compile(r"Invalid enum value '([^']*)'")
_AT = re.compile(r" - at `([^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def read_text(path: Path, error: ErrorType) -> str:
    """The file's text: UTF-8 with or without BOM, UTF-16 with one; newlines kept."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise error(f"no such file: {path}") from None
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror or problem}") from None
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise error(
            "this is not UTF-8 text",
            location=SourceLocation(str(path), line),
            hint="save the file as UTF-8",
        ) from None


class Document(msgspec.Struct, frozen=True):
    """Plain values of a YAML text, and where each stands.

    ``places`` maps a path of keys and indexes to a location; ``block_scalars``
    holds the paths of ``|`` blocks, whose lines map one to one to the file's.
    """

    path: str
    text: str
    value: Any
    places: dict[Path_, SourceLocation]
    block_scalars: frozenset[Path_]

    def locate(self, path: Path_) -> SourceLocation:
        """The place of ``path`` or of its nearest ancestor that has one.

        A step ``*`` stands for any key; where several places fit, their ancestor is given.
        """
        if ANY in path:
            found = [known for known in self.places if _fits(known, path)]
            path = found[0] if len(found) == 1 else path[: path.index(ANY)]
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, SourceLocation(self.path))


def _fits(known: Path_, path: Path_) -> bool:
    return len(known) == len(path) and all(
        step in (ANY, name) for name, step in zip(known, path, strict=True)
    )


def parse_yaml(text: str, path: str, error: ErrorType) -> Document:
    """Parse one YAML document. Raises ``error`` with the line and column."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        places: dict[Path_, SourceLocation] = {}
        blocks: set[Path_] = set()
        reader = _NodeReader(path, places, blocks, error)
        value = reader.read(node, ()) if node is not None else None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = SourceLocation(path, mark.line + 1, mark.column + 1) if mark else None
        words = problem.problem or problem.context or "broken YAML"
        raise error(f"broken YAML: {words}", location=place or SourceLocation(path)) from None
    except yaml.YAMLError as problem:
        raise error(f"broken YAML: {problem}", location=SourceLocation(path)) from None
    except RecursionError:
        raise error("the YAML is nested too deeply", location=SourceLocation(path)) from None
    return Document(path, text, value, places, frozenset(blocks))


class _NodeReader:
    """Turns composed nodes into values; aliases are refused (a YAML bomb is made of them)."""

    def __init__(
        self,
        path: str,
        places: dict[Path_, SourceLocation],
        blocks: set[Path_],
        error: ErrorType,
    ) -> None:
        self.path, self.places, self.blocks, self.error = path, places, blocks, error
        self.constructor = yaml.constructor.SafeConstructor()
        self.seen: set[int] = set()

    def place(self, node: Any) -> SourceLocation:
        return SourceLocation(self.path, node.start_mark.line + 1, node.start_mark.column + 1)

    def read(self, node: Any, path: Path_) -> Any:
        if id(node) in self.seen and not isinstance(node, yaml.ScalarNode):
            raise self.error("YAML aliases are not allowed here", location=self.place(node))
        self.seen.add(id(node))
        self.places.setdefault(path, self.place(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        if node.style == "|":
            self.blocks.add(path)
        if node.tag.endswith((":timestamp", ":binary")):
            return node.value  # dates stay text: KQL's types decide, not YAML's
        try:
            return self.constructor.construct_object(node)
        except yaml.constructor.ConstructorError:
            raise self.error(
                f"YAML tag {node.tag!r} is not allowed", location=self.place(node)
            ) from None
        except ValueError as problem:
            raise self.error(f"broken YAML value: {problem}", location=self.place(node)) from None

    def mapping(self, node: Any, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error("a key must be plain text", location=self.place(key_node))
            key = key_node.value
            if key in result:
                raise self.error(f"the key {key!r} stands twice", location=self.place(key_node))
            here = (*path, key)
            self.places[here] = self.place(key_node)
            result[key] = self.read(value_node, here)
        return result


def convert(document: Document, model: type[T], error: ErrorType, at: Path_ = ()) -> T:
    """Check the document (or the part at ``at``) against a msgspec model.

    An unknown key is an error that names the nearest known one.
    """
    value = document.value
    for step in at:
        value = value[step]
    return convert_value(value, model, error, lambda path: document.locate((*at, *path)))


def to_model(value: Any, model: type[T], **options: Any) -> T:
    """What ``msgspec.convert`` gives; one thread at a time.

    Threads that use a model for the first time at once crash msgspec 0.22.
    """
    with _FIRST_USE:
        return msgspec.convert(value, model, **options)  # type: ignore[no-any-return]


def convert_value(
    value: Any,
    model: type[T],
    error: ErrorType,
    locate: Callable[[Path_], SourceLocation],
) -> T:
    """As ``convert``, for values that already stand in memory."""
    try:
        return to_model(value, model)
    except msgspec.ValidationError as problem:
        words = str(problem)
        at = _AT.search(words)
        path = _steps(at[1]) if at else ()
        unknown = _UNKNOWN_FIELD.search(words)
        if unknown:
            known = _fields_at(model, path)
            raise error(
                f"unknown key {unknown[1]!r}",
                location=locate((*path, unknown[1])),
                hint=nearest(unknown[1], known) or f"known keys: {', '.join(sorted(known))}",
            ) from None
        message = _plain_types(_AT.sub("", words))
        invalid = _INVALID_NAME.search(words)
        hint = None
        if invalid:
            names = _names_at(model, path)
            message = f"no such value: {invalid[1]!r}"
            hint = nearest(invalid[1], names) or f"known: {', '.join(names)}"
        name = ".".join(str(step) for step in path)
        raise error(
            f"{name}: {message[:1].lower()}{message[1:]}" if name else message,
            location=locate(path),
            hint=hint,
        ) from None


_TYPE_NAMES = {
    "object": "a mapping", "array": "a list", "str": "text", "bool": "true or false",
    "int": "a whole number", "float": "a number", "null": "nothing",
}  # fmt: skip


def _plain_types(words: str) -> str:
    """msgspec's type names in the words of someone who writes YAML."""

    def plain(match: re.Match[str]) -> str:
        names = [_TYPE_NAMES.get(name.strip(), name.strip()) for name in match[1].split("|")]
        return " or ".join(name for name in names if name != "nothing" or len(names) == 1)

    return re.sub(r"`([^`]*)`", plain, words)


def _steps(path: str) -> Path_:
    steps: list[str | int] = []
    for name, index in _STEP.findall(path):
        if name:
            steps.append(name)
        else:
            steps.append(int(index) if index.isdigit() else ANY)
    return tuple(steps)


def _fields_at(model: Any, path: Path_) -> Iterable[str]:
    fields = getattr(_struct(_type_at(model, path)), "fields", ())
    return [field.encode_name for field in fields]


def _names_at(model: Any, path: Path_) -> list[str]:
    """The values of the literal type at ``path``."""
    info = _bare(_type_at(model, path))
    options = getattr(info, "types", (info,))
    return [str(value) for option in options for value in getattr(option, "values", ())]


def _type_at(model: Any, path: Path_) -> Any:
    return reduce(_descend, path, msgspec.inspect.type_info(model))


def _bare(info: Any) -> Any:
    """Without the descriptions and bounds around a type."""
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return info


def _struct(info: Any) -> Any:
    info = _bare(info)
    for option in map(_bare, getattr(info, "types", ())):
        if hasattr(option, "fields"):
            return option
    return info


def _descend(info: Any, step: str | int) -> Any:
    info = _struct(info)
    for field in getattr(info, "fields", ()):
        if field.encode_name == step:
            return field.type
    for attribute in ("value_type", "item_type"):
        if hasattr(info, attribute):
            return getattr(info, attribute)
    return info
