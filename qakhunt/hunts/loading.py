"""Hunt files of four kinds into one model.

YAML of the public hunting-query schema (with or without a ``qakhunt:`` key), a
bare ``.kql`` file, and an ADS page in Markdown whose query is a fenced block.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.core.documents import Document, convert, parse_yaml, read_text, to_model
from qakhunt.core.errors import HuntError, SourceLocation, nearest
from qakhunt.hunts.model import EntityMapping, Hunt, HuntFile, Notes, QueryPlace, RuleKeys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The keys of Azure-Sentinel's hunting and detection schemas.
_PUBLIC_KEYS = frozenset(
    """id name description description-detailed severity status requiredDataConnectors
    queryFrequency queryPeriod triggerOperator triggerThreshold tactics relevantTechniques
    query entityMappings customDetails alertDetailsOverride eventGroupingSettings
    incidentConfiguration suppressionDuration suppressionEnabled sentinelEntitiesMappings
    version kind metadata tags author previousVersions""".split()  # noqa: SIM905
)


_RULE_KEYS = (
    "queryPeriod", "queryFrequency", "triggerOperator", "triggerThreshold", "customDetails",
    "eventGroupingSettings",
)  # fmt: skip


def load_hunt(path: Path, source: str = "file", number: int = 1) -> Hunt:
    """Load a hunt file, of a page its query of that number.

    Raises HuntError at the line and column at fault.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise HuntError(
            f"{path}: not a hunt file",
            hint=f"hunts are files that end in {', '.join(sorted(_READERS))}",
        )
    return _load_page(path, source, number) if reader is _load_page else reader(path, source)


def is_hunt_file(path: Path) -> bool:
    """Whether the file's ending is one that hunts have (pages excepted)."""
    return path.suffix.lower() in (".yaml", ".yml", ".kql", ".csl")


def _load_yaml(path: Path, source: str) -> Hunt:
    document = parse_yaml(read_text(path, HuntError), str(path), HuntError)
    if not isinstance(document.value, dict):
        raise HuntError("a hunt file is a mapping of keys", location=SourceLocation(str(path), 1))
    if "query" not in document.value:
        raise HuntError("the hunt has no query", location=SourceLocation(str(path), 1),
                        hint="add a key 'query:' that holds the KQL")  # fmt: skip
    if "qakhunt" in document.value:
        _refuse_unknown_keys(document)
    else:
        document = msgspec.structs.replace(document, value=_public_keys(document.value))
    model = convert(document, HuntFile, HuntError)
    place = _query_place(document, model.query)
    if not model.query.strip():
        raise HuntError("the hunt's query is empty", location=document.locate(("query",)))
    return Hunt(
        name=path.stem,
        query=model.query,
        path=str(path),
        place=place,
        title=model.name or path.stem,
        id=model.id,
        description=model.description.strip().strip("'"),
        severity=model.severity,
        version=str(model.version),
        tactics=model.tactics or (),
        techniques=model.relevantTechniques or (),
        entity_mappings=model.entityMappings or (),
        notes=model.qakhunt or Notes(),
        source=source,
        period="" if model.queryPeriod is None else str(model.queryPeriod),
        rule=_rule_keys(model),
    )


def _rule_keys(model: HuntFile) -> RuleKeys:
    """Those that are what they should be: a hunt is not refused for what only a rule needs."""
    details, grouping = model.customDetails, model.eventGroupingSettings
    kind = grouping.get("aggregationKind") if isinstance(grouping, dict) else None
    threshold = model.triggerThreshold
    return RuleKeys(
        frequency=None if model.queryFrequency is None else str(model.queryFrequency),
        operator=None if model.triggerOperator is None else str(model.triggerOperator),
        threshold=threshold if isinstance(threshold, int) else None,
        details={str(n): str(c) for n, c in details.items()} if isinstance(details, dict) else None,
        grouping=None if kind is None else str(kind),
    )


def _public_keys(value: dict[str, Any]) -> dict[str, Any]:
    """What others wrote, as it should be: only the query has to be right to be asked."""
    kept: dict[str, Any] = {"query": value["query"]}
    kept |= {key: value.get(key) for key in _RULE_KEYS}
    for key in ("id", "name", "description", "severity", "version"):
        found = value.get(key)
        kept[key] = "" if found is None else str(found)
    for key in ("tactics", "relevantTechniques"):
        found = value.get(key) or ()
        entries = found if isinstance(found, list) else str(found).split(",") if found else ()
        kept[key] = [str(entry).strip() for entry in entries if entry is not None]
    mappings = value.get("entityMappings")
    if mappings is not None:
        with contextlib.suppress(msgspec.ValidationError):
            kept["entityMappings"] = to_model(mappings, tuple[EntityMapping, ...], str_keys=True)
    return kept


def _refuse_unknown_keys(document: Document) -> None:
    known = _PUBLIC_KEYS | {"qakhunt"}
    for key in document.value:
        if key not in known:
            raise HuntError(
                f"unknown key {key!r}",
                location=document.locate((key,)),
                hint=nearest(key, known) or "what only qakhunt reads stands under 'qakhunt:'",
            )


def _query_place(document: Document, query: str) -> QueryPlace:
    location = document.places[("query",)]
    if ("query",) not in document.block_scalars:
        return QueryPlace(document.path, location.line, exact=False)
    file_lines = document.text.splitlines()
    first = location.line + 1
    indents = []
    for number, line in enumerate(query.splitlines()):
        at = first - 1 + number
        in_file = len(file_lines[at]) if at < len(file_lines) else 0
        indents.append(max(0, in_file - len(line)))
    return QueryPlace(document.path, first, tuple(indents))


def _load_kql(path: Path, source: str) -> Hunt:
    query = read_text(path, HuntError)
    if not query.strip():
        raise HuntError("the hunt has no query", location=SourceLocation(str(path), 1))
    return Hunt(path.stem, query, str(path), QueryPlace(str(path)), title=path.stem, source=source)


_HEADING = re.compile(r"^#{1,6}\s*(.+?)\s*#*\s*(?:<br\s*/?>)?\s*$", re.MULTILINE)
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*([^`\n]*)$")
_KQL = frozenset(["kql", "kusto", "csl"])
_ITEM = re.compile(r"^\s*(?:\d+\.|[-*])\s+(.+)$", re.MULTILINE)
_LINK = re.compile(r"https?://[^\s)\\]+")
_VERSION = re.compile(r"Version\s+([\d.]+)")
_TECHNIQUE = re.compile(r"\bT\d{4}(?:\.\d{3})?\b")
_SOFTWARE = re.compile(r"\bS\d{4}\b")
_MITRE = re.compile(r"\{\{\s*mitre\(([^)]*)\)\s*\}\}")


@dataclass(frozen=True)
class _Fence:
    """A fenced block: its text without the fence's indent, and where it stands in the page."""

    text: str
    language: str
    start: int
    end: int
    place: QueryPlace


def _load_page(path: Path, source: str, number: int = 1) -> Hunt:
    """An ADS page: sections by heading, the query in the section that names it."""
    text = read_text(path, HuntError).replace("\r\n", "\n")
    fences = _fences(text, str(path))
    heads = [
        head
        for head in _HEADING.finditer(text)
        if not any(fence.start <= head.start() < fence.end for fence in fences)
    ]
    queries = _queries(fences, heads)
    if not 0 < number <= len(queries):
        raise HuntError(
            f"the page has no query {number}" if queries else "the page has no query",
            location=SourceLocation(str(path), 1),
            hint="put the KQL in a fenced block, marked kql or under a heading that says 'query'",
        )
    query = queries[number - 1]
    sections = {}
    for i, head in enumerate(heads):
        end = heads[i + 1].start() if i + 1 < len(heads) else len(text)
        sections[head[1].lower().replace(" ", "")] = text[head.end() : end].strip()
    mitre = " ".join(_MITRE.findall(text))
    notes = Notes(
        software=tuple(dict.fromkeys(_SOFTWARE.findall(mitre))),
        triage=tuple(_ITEM.findall(sections.get("triage", ""))),
        false_positives=tuple(_ITEM.findall(sections.get("falsepositive", ""))),
        references=tuple(_LINK.findall(sections.get("description", ""))),
    )
    version = _VERSION.search(sections.get("version", ""))
    others = (
        f"query {number} of the {len(queries)} on the page; {path.name}#2 names the second",
    )  # fmt: skip
    return Hunt(
        name=path.stem if number == 1 else f"{path.stem}-{number}",
        query=query.text,
        path=str(path),
        place=query.place,
        title=heads[0][1] if heads else path.stem,
        description=sections.get("description", "").split("\n\n")[0],
        version=version[1] if version else "",
        techniques=tuple(dict.fromkeys(_TECHNIQUE.findall(mitre))),
        notes=notes,
        source=source,
        remarks=others if len(queries) > 1 else (),
    )


def _fences(text: str, path: str) -> list[_Fence]:
    """Fenced blocks that hold something; one that is not closed ends with the page."""
    found: list[_Fence] = []
    opened: re.Match[str] | None = None
    at = first = start = 0
    body: list[str] = []
    cut: list[int] = []
    for number, line in enumerate([*text.splitlines(keepends=True), ""], 1):
        bare = line.strip()
        closes = opened is not None and (
            not line or (bare.startswith(opened[2]) and not bare.strip(opened[2][0]))
        )
        if opened is not None and closes:
            content = "".join(body)
            if content.strip():
                place = QueryPlace(path, first, tuple(cut))
                language = opened[3].strip().lower()
                found.append(_Fence(content, language, start, at + len(line), place))
            opened, body, cut = None, [], []
        elif opened is not None:
            indent = min(len(opened[1]), len(line) - len(line.lstrip(" \t")))
            body.append(line[indent:])
            cut.append(indent)
        else:
            opened = _FENCE.match(line.rstrip("\n"))
            start, first = at, number + 1
        at += len(line)
    return found


def _queries(fences: list[_Fence], heads: list[re.Match[str]]) -> list[_Fence]:
    """The blocks marked as KQL, else those under a heading that says so, else all."""
    marked = [fence for fence in fences if fence.language.split(" ")[0] in _KQL]
    if marked:
        return marked
    under = []
    for number, head in enumerate(heads):
        if "quer" in head[1].lower():
            end = heads[number + 1].start() if number + 1 < len(heads) else None
            after = [fence for fence in fences if fence.start > head.end()]
            own = [fence for fence in after if end is None or fence.start < end]
            under += own or after[:1]
    return list(dict.fromkeys(under)) or fences


_READERS: dict[str, Callable[[Path, str], Hunt]] = {
    ".yaml": _load_yaml,
    ".yml": _load_yaml,
    ".kql": _load_kql,
    ".csl": _load_kql,
    ".md": _load_page,
}
