"""Hunt files of four kinds into one model.

YAML of the public hunting-query schema (with or without a ``qakhunt:`` key), a
bare ``.kql`` file, and an ADS page in Markdown whose query is a fenced block.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qakhunt.documents import Document, convert, parse_yaml, read_text
from qakhunt.errors import HuntError, SourceLocation, nearest
from qakhunt.hunts.model import Hunt, HuntFile, Notes, QueryPlace

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


def load_hunt(path: Path, source: str = "file") -> Hunt:
    """Load a hunt file. Raises HuntError at the line and column at fault."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise HuntError(
            f"{path}: not a hunt file",
            hint=f"hunts are files that end in {', '.join(sorted(_READERS))}",
        )
    return reader(path, source)


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
    )


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
_FENCE = re.compile(r"^(```|~~~)[^\n]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"^\s*(?:\d+\.|[-*])\s+(.+)$", re.MULTILINE)
_LINK = re.compile(r"https?://[^\s)\\]+")
_VERSION = re.compile(r"Version\s+([\d.]+)")
_TECHNIQUE = re.compile(r"\bT\d{4}(?:\.\d{3})?\b")
_SOFTWARE = re.compile(r"\bS\d{4}\b")
_MITRE = re.compile(r"\{\{\s*mitre\(([^)]*)\)\s*\}\}")


def _load_page(path: Path, source: str) -> Hunt:
    """An ADS page: sections by heading, the query in the section that names it."""
    text = read_text(path, HuntError).replace("\r\n", "\n")
    heads = list(_HEADING.finditer(text))
    query = _page_query(text, heads, path)
    outside = [h for h in heads if not query.start() <= h.start() < query.end()]
    sections = {}
    for i, head in enumerate(outside):
        end = outside[i + 1].start() if i + 1 < len(outside) else len(text)
        sections[head[1].lower().replace(" ", "")] = text[head.end() : end].strip()
    mitre = " ".join(_MITRE.findall(text))
    first_line = text.count("\n", 0, query.start(2)) + 1
    notes = Notes(
        software=tuple(dict.fromkeys(_SOFTWARE.findall(mitre))),
        triage=tuple(_ITEM.findall(sections.get("triage", ""))),
        false_positives=tuple(_ITEM.findall(sections.get("falsepositive", ""))),
        references=tuple(_LINK.findall(sections.get("description", ""))),
    )
    version = _VERSION.search(sections.get("version", ""))
    return Hunt(
        name=path.stem,
        query=query[2],
        path=str(path),
        place=QueryPlace(str(path), first_line),
        title=outside[0][1] if outside else path.stem,
        description=sections.get("description", "").split("\n\n")[0],
        version=version[1] if version else "",
        techniques=tuple(dict.fromkeys(_TECHNIQUE.findall(mitre))),
        notes=notes,
        source=source,
    )


def _page_query(text: str, heads: list[re.Match[str]], path: Path) -> re.Match[str]:
    for head in heads:
        if "query" in head[1].lower():
            fence = _FENCE.search(text, head.end())
            if fence and fence[2].strip():
                return fence
    raise HuntError(
        "the page has no query",
        location=SourceLocation(str(path), 1),
        hint="put the KQL in a fenced block under a heading that says 'query'",
    )


_READERS: dict[str, Callable[[Path, str], Hunt]] = {
    ".yaml": _load_yaml,
    ".yml": _load_yaml,
    ".kql": _load_kql,
    ".csl": _load_kql,
    ".md": _load_page,
}
