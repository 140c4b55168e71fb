"""From a hunt to a rule of a service: living time, the service's limits, a stable id.

What the service would refuse is refused here, with the reason. Limits: Sentinel's of a
scheduled rule (learn.microsoft.com/azure/sentinel/scheduled-rules-overview: 14 days, 5
minutes, 10,000 characters, no ``search *``, 10 entity mappings of 3 identifiers), Defender's
of a custom detection (learn.microsoft.com/defender-xdr/custom-detection-rules: the look-back
follows the frequency; Timestamp, ReportId and an impacted asset in the result).
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import HuntError, UsageError, nearest
from qakhunt.hunts.model import LOG_ANALYTICS, SEVERITIES
from qakhunt.hunts.parameters import bind, place_of, script_of
from qakhunt.hunts.render import check_product, render_living
from qakhunt.hunts.rule_functions import END, START, function_of
from qakhunt.hunts.time_filters import time_filters
from qakhunt.hunts.window import length_text, read_period
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.parser import parse
from qakhunt.kql.result_columns import result_columns
from qakhunt.kql.schema import DEFENDER
from qakhunt.kql.syntax import Call, Literal, Name, Named, bare, column, find, stages
from qakhunt.kql.values import Instant, Timespan
from qakhunt.kql.visitors import sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from qakhunt.hunts.model import EntityMapping, Hunt
    from qakhunt.hunts.rule_functions import WorkspaceFunction
    from qakhunt.kql.syntax import Node, Operator, Script

OPERATORS = {"gt": "GreaterThan", "lt": "LessThan", "eq": "Equal", "ne": "NotEqual"}
"""Azure-Sentinel's short name of a trigger operator -> Azure's."""
MOST_CHARACTERS = 10_000
_DAY, _HOUR = Timespan.parse("1d"), Timespan.parse("1h")
LONGEST = Timespan.parse("14d")
SHORTEST = Timespan.parse("5m")
MOST_MAPPINGS, MOST_IDENTIFIERS = 10, 3
LOOKBACKS = {"1h": "4h", "3h": "12h", "12h": "48h", "1d": "30d"}
"""A custom detection's frequency -> how far each of its runs looks back."""
REQUIRED = ("Timestamp", "DeviceId", "ReportId")
"""Columns that a custom detection's result must have."""
_RESOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}", re.ASCII)
_TACTICS = (
    "Reconnaissance", "ResourceDevelopment", "InitialAccess", "Execution", "Persistence",
    "PrivilegeEscalation", "DefenseEvasion", "CredentialAccess", "Discovery", "LateralMovement",
    "Collection", "Exfiltration", "CommandAndControl", "Impact", "PreAttack",
    "ImpairProcessControl", "InhibitResponseFunction",
)  # fmt: skip
_ENTITIES = (
    "Account", "Host", "IP", "Malware", "File", "Process", "CloudApplication", "DNS",
    "AzureResource", "FileHash", "RegistryKey", "RegistryValue", "SecurityGroup", "URL",
    "Mailbox", "MailCluster", "MailMessage", "SubmissionMail",
)  # fmt: skip
_GROUPINGS = ("AlertPerResult", "SingleAlert")
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?", re.ASCII)
_NOW = Instant.parse("2026-01-01")
"""Any instant: only lengths are read against it."""


class MissingColumnsError(HuntError):
    """The result lacks columns; ``query`` is the text with them, for the user to accept."""

    def __init__(self, message: str, *, query: str, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.query = query


@dataclass(frozen=True)
class Rule:
    """A hunt as a rule: its query looks back ``period`` from whenever it runs.

    ``function`` is the workspace's function that the query calls, where it is no more than that
    call. ``warnings`` are what its reader should know before it runs in production.
    """

    id: str
    title: str
    description: str
    severity: str
    query: str
    frequency: Timespan
    period: Timespan
    product: str = LOG_ANALYTICS
    tactics: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    entities: tuple[EntityMapping, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    operator: str = "GreaterThan"
    threshold: int = 0
    grouping: str = "AlertPerResult"
    triage: tuple[str, ...] = ()
    version: str = ""
    warnings: tuple[str, ...] = ()
    function: WorkspaceFunction | None = None


@dataclass(frozen=True)
class RuleOptions:
    """What the user says of a rule: the values of ``--window``, ``--frequency`` and parameters.

    ``add_columns`` accepts the columns that a custom detection needs, added to the query;
    ``as_function`` makes the query a function of the workspace, which the rule calls.
    """

    window: str | None = None
    frequency: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    add_columns: bool = False
    as_function: bool = False


def function_part(rule: Rule) -> Rule | None:
    """The function that the rule calls, with an id, a title (its name) and a query of its own."""
    function = rule.function
    if function is None:
        return None
    return replace(rule, id=f"{rule.id}-function", title=function.name, query=function.query)


def rule_id(hunt: Hunt) -> str:
    """The id that every deployment of the hunt has: its own, else one made of its name."""
    if _RESOURCE_NAME.fullmatch(hunt.id):
        return hunt.id
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"qakhunt:{hunt.id or hunt.name}"))


def sentinel_rule(hunt: Hunt, options: RuleOptions, *, scheduled: bool = True) -> Rule:
    """The hunt for Sentinel: a scheduled analytics rule, or a saved hunting query.

    Raises UsageError and HuntError for what the service would refuse.
    """
    rule = _rule(hunt, options, LOG_ANALYTICS)
    if scheduled:
        _check_schedule(rule)
        _check_sources(hunt)
    if len(rule.entities) > MOST_MAPPINGS:
        raise HuntError(
            f"{hunt.name}: Sentinel takes {MOST_MAPPINGS} entity mappings, "
            f"the hunt has {len(rule.entities)}",
            location=hunt.place.locate(1, 1),
        )
    for mapping in rule.entities:
        if len(mapping.fieldMappings or ()) > MOST_IDENTIFIERS:
            raise HuntError(
                f"{hunt.name}: the entity {mapping.entityType} has more than "
                f"{MOST_IDENTIFIERS} identifiers",
                location=hunt.place.locate(1, 1),
            )
    return rule


def defender_detection(hunt: Hunt, options: RuleOptions) -> Rule:
    """The hunt as a Defender custom detection. Raises as ``sentinel_rule`` does."""
    if options.as_function:
        raise UsageError(
            "--as-function: Graph has no functions that a custom detection could call",
            hint="--to sentinel-rule takes it; for a detection shorten a list (--set NAME=VALUE)",
        )
    rule = _rule(hunt, options, DEFENDER.name)
    if length_text(rule.frequency) not in LOOKBACKS:
        raise UsageError(
            f"--frequency {length_text(rule.frequency)}: a custom detection runs every "
            f"{', '.join(LOOKBACKS)}",
        )
    sees = Timespan.parse(LOOKBACKS[length_text(rule.frequency)])
    if rule.period > sees:
        raise UsageError(
            f"{hunt.name}: a detection that runs every {length_text(rule.frequency)} looks back "
            f"{length_text(sees)}, the window is {length_text(rule.period)}",
            hint="a shorter --window, or a --frequency of 1d, which looks back 30 days",
        )
    if len(rule.tactics) > 1 and rule.techniques:
        words = "its techniques are left out: of several tactics nothing says whose they are"
        return replace(rule, warnings=(*rule.warnings, words))
    return rule


def _rule(hunt: Hunt, options: RuleOptions, product: str) -> Rule:
    check_product(hunt, product)
    period, warnings = _period(hunt, options)
    living = (f"ago({length_text(period)})", "now()")
    query = render_living(hunt, living, product=product, parameters=options.parameters)
    if not options.as_function:
        _check_length(hunt, query, product)
    if product == DEFENDER.name:
        query = _with_required(hunt, query, accepted=options.add_columns)
        _check_length(hunt, query, product)
    script = parse(query)
    found = result_columns(script, product)
    warnings += tuple(_fixed_times(script))
    if product == DEFENDER.name and found is None:
        warnings += (f"whether its result has {', '.join(REQUIRED)} cannot be read",)
    _check_words(hunt)
    function = None
    if options.as_function:
        text = render_living(hunt, (START, END), parameters=options.parameters)
        has_window = hunt.notes.window is not None
        function = function_of(hunt.title, rule_id(hunt), text, has_window=has_window)
        query = function.called(living)
    return Rule(
        rule_id(hunt), hunt.title, hunt.description, hunt.severity or "Medium", query,
        _frequency(hunt, options, period, product), period, product, _tactics(hunt),
        hunt.techniques, _entities(hunt, found), _details(hunt, found), _operator(hunt),
        hunt.rule.threshold or 0, _grouping(hunt), hunt.notes.triage, hunt.version, warnings,
        function,
    )  # fmt: skip


def _fixed_times(script: Script) -> Iterator[str]:
    """A warning for each time of the query's own that does not move on."""
    for literal in find(script, Literal):
        if literal.type == "datetime" and literal.value is not None:
            yield f"{literal.tokens[0].text} is a fixed time: the rule does not move on from it"


def _check_length(hunt: Hunt, query: str, product: str) -> None:
    if len(query) > MOST_CHARACTERS:
        raise HuntError(
            f"{hunt.name}: its query has {len(query):,} characters, a rule takes "
            f"{MOST_CHARACTERS:,}",
            location=hunt.place.locate(1, 1),
            hint="shorten a list (--set NAME=VALUE); Graph has no functions to keep the query in"
            if product == DEFENDER.name
            else "--as-function makes the query a function of the workspace, which the rule calls",
        )


def _period(hunt: Hunt, options: RuleOptions) -> tuple[Timespan, tuple[str, ...]]:
    """How far back the rule looks, and what that leaves out of the hunt's own reach."""
    values = bind(hunt, options.parameters)
    reach = time_filters(script_of(hunt), _NOW, values)
    own = _NOW.since(reach.start) if reach.start is not None and reach.start < _NOW else None
    if options.window is not None:
        period = read_period(options.window)
        if period is None or "/" in options.window:
            raise UsageError(
                f"--window {options.window!r}: a rule looks back a length of time from now",
                hint="write one such as 14d; instants would never move on",
            )
    elif hunt.notes.window is None:
        period = read_period(hunt.period) or own or read_period(hunt.notes.lookback)
    else:
        period = read_period(hunt.period) or read_period(hunt.notes.lookback)
    if period is None:
        raise HuntError(
            f"{hunt.name}: its look-back cannot be read", location=hunt.place.locate(1, 1),
            hint="--window 14d says how far back the rule looks",
        )  # fmt: skip
    if hunt.notes.window is None and own is not None and own > period:
        return period, (
            f"the query itself looks at {length_text(own)}, the rule sees {length_text(period)}",
        )
    return period, ()


def _frequency(hunt: Hunt, options: RuleOptions, period: Timespan, product: str) -> Timespan:
    if options.frequency is not None:
        frequency = read_period(options.frequency)
        if frequency is None:
            raise UsageError(
                f"--frequency {options.frequency!r}: not a length of time", hint="such as 1h or 1d"
            )
        return frequency
    own = read_period(hunt.rule.frequency or "")
    if own is not None and (product != DEFENDER.name or length_text(own) in LOOKBACKS):
        return own
    if product == DEFENDER.name:
        fitting = (f for f, sees in LOOKBACKS.items() if period <= Timespan.parse(sees))
        return Timespan.parse(next(fitting, "1d"))
    return _DAY if period > _DAY else min(period, _HOUR)


def _check_schedule(rule: Rule) -> None:
    if rule.period > LONGEST:
        raise UsageError(
            f"a scheduled rule looks back 14 days at most, this hunt {length_text(rule.period)}",
            hint="--window 14d; 'qakhunt run --state' looks back further, on your schedule",
        )
    if rule.period < SHORTEST:
        raise UsageError(
            f"--window {length_text(rule.period)}: a scheduled rule looks back 5 minutes at least"
        )
    if not SHORTEST <= rule.frequency <= LONGEST:
        raise UsageError(
            f"--frequency {length_text(rule.frequency)}: a scheduled rule runs every 5 minutes to "
            "14 days"
        )
    if rule.frequency > rule.period:
        raise UsageError(
            f"--frequency {length_text(rule.frequency)} is longer than the window of "
            f"{length_text(rule.period)}: what happens in between would never be seen",
            hint="a shorter --frequency or a longer --window",
        )


def _check_sources(hunt: Hunt) -> None:
    """A scheduled rule names its tables."""
    for source in sources(script_of(hunt)):
        if source.kind == "everything" or (source.kind == "wildcard" and source.name == "*"):
            raise HuntError(
                f"{hunt.name}: a scheduled rule takes no 'search *' and no 'union *'",
                location=place_of(hunt, source.node.start), hint="name the tables that it reads",
            )  # fmt: skip


def _check_words(hunt: Hunt) -> None:
    """Severity, techniques and entity types are those of the services."""
    if hunt.severity and hunt.severity not in SEVERITIES:
        raise _unknown(hunt, "severity", hunt.severity, SEVERITIES)
    for technique in hunt.techniques:
        if not _TECHNIQUE.fullmatch(technique):
            raise _unknown(hunt, "technique", technique, ("T1016", "T1069.001"))
    for mapping in hunt.entity_mappings:
        if mapping.entityType.casefold() not in map(str.casefold, _ENTITIES):
            raise _unknown(hunt, "entity type", mapping.entityType, _ENTITIES)


def _tactics(hunt: Hunt) -> tuple[str, ...]:
    """The hunt's tactics as the services write them; ``Command and Control`` is one."""
    known = {one.casefold(): one for one in _TACTICS}
    found = []
    for tactic in hunt.tactics:
        name = known.get(re.sub(r"[\s_-]", "", tactic).casefold())
        if name is None:
            raise _unknown(hunt, "tactic", tactic, _TACTICS)
        found.append(name)
    return tuple(dict.fromkeys(found))


def _unknown(hunt: Hunt, what: str, name: str, known: Iterable[str]) -> HuntError:
    return HuntError(
        f"{hunt.name}: the services know no {what} {name!r}", location=hunt.place.locate(1, 1),
        hint=nearest(name, known) or f"such as {', '.join(known)}",
    )  # fmt: skip


def _with_required(hunt: Hunt, query: str, *, accepted: bool) -> str:
    """The query whose result a custom detection can use, with columns added where accepted."""
    script = parse(query)
    found = result_columns(script, DEFENDER.name)
    missing = [name for name in REQUIRED if found is not None and name not in found]
    if not missing:
        return query
    changed = with_columns(query, script)
    readable = changed and result_columns(parse(changed), DEFENDER.name)
    if not changed or not readable or not set(REQUIRED) <= set(readable):
        raise HuntError(
            f"{hunt.name}: a custom detection needs {', '.join(REQUIRED)} in its result; "
            f"{', '.join(missing)} missing",
            location=place_of(hunt, 0),
            hint="add arg_max(TimeGenerated, ReportId, DeviceId) to the last summarize",
        )
    if not accepted:
        raise MissingColumnsError(
            f"{hunt.name}: a custom detection needs {', '.join(REQUIRED)} in its result; "
            f"{', '.join(missing)} missing",
            location=place_of(hunt, 0), hint="--add-columns takes the query with them",
            query=changed,
        )  # fmt: skip
    return changed


def _entities(hunt: Hunt, found: tuple[str, ...] | None) -> tuple[EntityMapping, ...]:
    """The hunt's mappings. Raises HuntError for a column that the result does not have."""
    for mapping in hunt.entity_mappings:
        for one in mapping.fieldMappings or ():
            if found is not None and one.columnName not in found:
                raise HuntError(
                    f"{hunt.name}: the entity {mapping.entityType} is mapped from "
                    f"{one.columnName}, which the result does not have",
                    location=hunt.place.locate(1, 1), hint=f"it has {', '.join(found)}",
                )  # fmt: skip
    return hunt.entity_mappings


def _operator(hunt: Hunt) -> str:
    """Azure's name of the operator, which Azure-Sentinel's files shorten."""
    said = hunt.rule.operator or "gt"
    name = OPERATORS.get(said.casefold(), said)
    if name not in OPERATORS.values():
        raise _unknown(hunt, "trigger operator", said, OPERATORS.values())
    return name


def _grouping(hunt: Hunt) -> str:
    said = hunt.rule.grouping or _GROUPINGS[0]
    if said not in _GROUPINGS:
        raise _unknown(hunt, "grouping of events", said, _GROUPINGS)
    return said


def _details(hunt: Hunt, found: tuple[str, ...] | None) -> dict[str, str]:
    """Custom details of the alert: the file's own, else what its result columns hold."""
    for name, shown in (hunt.rule.details or {}).items():
        if found is not None and shown not in found:
            raise HuntError(
                f"{hunt.name}: the custom detail {name} is of {shown}, which the result does not "
                "have",
                location=hunt.place.locate(1, 1), hint=f"it has {', '.join(found)}",
            )  # fmt: skip
    if hunt.rule.details is not None:
        return dict(hunt.rule.details)
    notes = hunt.notes.result
    named = {
        "Commands": notes.commands, "DistinctCommands": notes.distinct,
        "TotalCommands": notes.total, "FirstSeen": notes.first_seen, "LastSeen": notes.last_seen,
        "Score": notes.score, "Reasons": notes.reasons,
    }  # fmt: skip
    renamed = {name: column for name, column in named.items() if column}
    return {n: c for n, c in renamed.items() if found is None or c in found}


# The columns that a custom detection needs, added to a query that drops them. A summarize gets
# them of one of its records: the first or last, where its result already holds the first or last
# Timestamp, else the last.


def with_columns(query: str, script: Script) -> str | None:
    """The query with the columns in its result; None where it cannot be said how."""
    if script.query is None:
        return None
    _, operators = stages(bare(script.query))
    edits: list[Edit] = []
    last = max((n for n, one in enumerate(operators) if one.name == "summarize"), default=-1)
    if last >= 0:
        edit = _with_record(operators[last])
        if edit is None or not _are_there(script, last):
            return None
        edits.append(edit)
    for number, operator in enumerate(operators[last + 1 :]):
        if operator.name in ("project", "distinct") and operator.arguments:
            if last < 0 and not edits and not _are_there(script, number):
                return None
            kept = {name for one in operator.arguments for name in _columns_of(one)}
            lacking = [name for name in REQUIRED if name not in kept]
            end = operator.arguments[-1].end
            edits.append(Edit(end, end, "".join(f", {name}" for name in lacking)))
    return apply(query, edits) if edits else None


def _are_there(script: Script, operators: int) -> bool:
    """Whether records are known to have the columns there."""
    found = result_columns(script, DEFENDER.name, operators)
    return found is not None and set(REQUIRED) <= set(found)


def _with_record(operator: Operator) -> Edit | None:
    """``Timestamp = min(Timestamp)`` becomes an arg_min; else an arg_max comes in front."""
    if not operator.arguments:
        return None
    by = operator.clause("by") or ()
    if any(name.name == REQUIRED[0] for one in by for name in find(one, Name)):
        return None  # one time for many records: no record is the one
    groups = {name for one in by for name in _columns_of(one)}
    wanted = ", ".join(name for name in ("ReportId", "DeviceId") if name not in groups)
    for argument in operator.arguments:
        if not isinstance(argument, Named) or argument.names != (REQUIRED[0],):
            continue
        call = bare(argument.value)
        if not isinstance(call, Call) or call.name not in ("min", "max"):
            return None
        if [column(bare(one)) for one in call.arguments] != [REQUIRED[0]]:
            return None
        return Edit(argument.start, argument.end, f"arg_{call.name}({REQUIRED[0]}, {wanted})")
    first = operator.arguments[0].start
    return Edit(first, first, f"arg_max({REQUIRED[0]}, {wanted}), ")


def _columns_of(node: Node) -> tuple[str, ...]:
    if isinstance(node, Named):
        return node.names
    name = column(bare(node))
    return (name,) if name else ()
