"""A rule in the words of each service, and a service's rule as a hunt file.

Sentinel: learn.microsoft.com/rest/api/securityinsights/alert-rules (2024-09-01) and
learn.microsoft.com/rest/api/loganalytics/saved-searches (2025-07-01). Defender: Graph beta,
learn.microsoft.com/graph/api/resources/security-detectionrule (2026-05-25), whose ``status``,
``schedule.frequency``, ``entityMappings`` and ``tactics`` stand in the place of
``isEnabled``, ``schedule.period``, ``impactedAssets`` and ``mitreTechniques``, announced
to be removed on 2026-10-01. Read are both.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from qakhunt.core.safe_text import for_json, lines_for_terminal
from qakhunt.hunts.model import LOG_ANALYTICS
from qakhunt.hunts.parameters import bind
from qakhunt.hunts.rule_functions import CATEGORY
from qakhunt.hunts.rules import OPERATORS, function_part
from qakhunt.hunts.window import iso_length, length_text
from qakhunt.kql.schema import DEFENDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.rules import Rule, RuleOptions

ALERT_RULES_VERSION = "2024-09-01"
SAVED_SEARCHES_VERSION = "2025-07-01"
HUNTING_QUERIES = "Hunting Queries"
"""The category of the saved searches that Sentinel shows as hunting queries."""
SET_ONCE = ("enabled", "status", "suppressionEnabled", "suppressionDuration")
"""What a new rule is given, and then is left to who works there: whether it is on."""
_SEARCHES = "Microsoft.OperationalInsights/workspaces/savedSearches"
WITH_QUERY = ("Scheduled", "NRT")
"""Kinds of Sentinel rule that have a query of their own."""
_OLD_PERIODS = {"0": "PT0S", "1H": "PT1H", "3H": "PT3H", "12H": "PT12H", "24H": "P1D"}
_DETECTION_COLUMNS = {
    "host": ("hosts", {
        "HostName": "nameColumn", "FullName": "nameColumn", "DnsDomain": "dnsDomainColumn",
        "NTDomain": "ntDomainColumn", "NetBiosName": "netBiosNameColumn",
    }),
    "account": ("accounts", {
        "Name": "nameColumn", "FullName": "nameColumn", "NTDomain": "ntDomainColumn",
        "Sid": "sidColumn",
    }),
    "file": ("files", {"Name": "nameColumn"}),
}  # fmt: skip
"""Sentinel's entity -> Graph's mappings, and identifier -> the column's property there."""


# To a service


def alert_rule(rule: Rule) -> dict[str, Any]:
    """The properties of a scheduled alert rule; sub-techniques are their technique there."""
    techniques = dict.fromkeys(one.partition(".")[0] for one in rule.techniques)
    found = {
        "displayName": rule.title,
        "description": rule.description,
        "severity": rule.severity,
        "enabled": True,
        "query": rule.query,
        "queryFrequency": iso_length(rule.frequency),
        "queryPeriod": iso_length(rule.period),
        "triggerOperator": rule.operator,
        "triggerThreshold": rule.threshold,
        "suppressionEnabled": False,
        "suppressionDuration": "PT5H",
        "tactics": list(rule.tactics),
        "techniques": list(techniques),
        "entityMappings": _mappings(rule),
        "eventGroupingSettings": {"aggregationKind": rule.grouping},
    }
    return {**found, "customDetails": dict(rule.details)} if rule.details else found


def saved_search(rule: Rule) -> dict[str, Any]:
    """The properties of a hunting query, which Log Analytics keeps as a saved search."""
    tags = {
        "description": rule.description, "tactics": ",".join(rule.tactics),
        "techniques": ",".join(rule.techniques), "createdBy": "qakhunt",
    }  # fmt: skip
    return {
        "category": HUNTING_QUERIES,
        "displayName": rule.title,
        "query": rule.query,
        "tags": [{"name": name, "value": value} for name, value in tags.items() if value],
        "version": 2,
    }


def saved_function(rule: Rule) -> dict[str, Any]:
    """The properties of a function, which is a rule's ``function_part``."""
    plain = saved_search(replace(rule, tactics=(), techniques=()))  # which are the rule's
    found = {**plain, "category": CATEGORY, "functionAlias": rule.title}
    parameters = rule.function.parameters if rule.function is not None else ""
    return {**found, "functionParameters": parameters} if parameters else found


def detection_rule(rule: Rule) -> dict[str, Any]:
    """The body of a custom detection."""
    triage = {"recommendedActions": "\n".join(rule.triage)} if rule.triage else {}
    return {
        "id": rule.id,
        "displayName": rule.title,
        "description": rule.description,
        "status": "enabled",
        "queryCondition": {"queryText": rule.query},
        "schedule": {"frequency": iso_length(rule.frequency)},
        "detectionAction": {
            "alertTemplate": {
                "title": rule.title,
                "description": rule.description,
                "severity": rule.severity.lower(),
                **triage,
                "entityMappings": _detection_entities(rule),
                "tactics": _detection_tactics(rule),
            },
        },
    }


def _mappings(rule: Rule) -> list[dict[str, Any]]:
    return [
        {
            "entityType": mapping.entityType,
            "fieldMappings": [
                {"identifier": one.identifier, "columnName": one.columnName}
                for one in mapping.fieldMappings or ()
            ],
        }
        for mapping in rule.entities
    ]


def _detection_entities(rule: Rule) -> dict[str, Any]:
    """The impacted device always; the other entities as far as both know the identifier."""
    found: dict[str, list[dict[str, str]]] = {}
    for mapping in rule.entities:
        kind, names = _DETECTION_COLUMNS.get(mapping.entityType.lower(), ("", {}))
        columns = {
            names[one.identifier]: one.columnName
            for one in mapping.fieldMappings or ()
            if one.identifier in names
        }
        if columns:
            found.setdefault(kind, []).append(columns)
    hosts = found.pop("hosts", [{}])
    return {"hosts": [{"deviceIdColumn": "DeviceId", **hosts[0]}, *hosts[1:]], **found}


def _detection_tactics(rule: Rule) -> list[dict[str, Any]]:
    """Techniques stand under the tactic where there is one; of several no hunt says which."""
    techniques = [{"technique": one} for one in rule.techniques]
    if len(rule.tactics) == 1:
        return [{"tactic": rule.tactics[0], "techniques": techniques}]
    return [{"tactic": one, "techniques": []} for one in rule.tactics]


# To a file


def arm_template(rule: Rule, *, scheduled: bool) -> str:
    """An ARM template that deploys the rule, or the hunting query, to a workspace.

    The function that it calls comes first.
    """
    resources = []
    function = function_part(rule)
    if function is not None:
        resources.append(_search_resource(function.id, saved_function(function)))
    if scheduled:
        resources.append({
            "type": "Microsoft.OperationalInsights/workspaces/providers/alertRules",
            "apiVersion": ALERT_RULES_VERSION,
            "name": _resource_name(f"/Microsoft.SecurityInsights/{rule.id}"),
            "kind": "Scheduled",
            "properties": _literal(alert_rule(rule)),
        })  # fmt: skip
    else:
        resources.append(_search_resource(rule.id, saved_search(rule)))
    if function is not None:
        resources[-1]["dependsOn"] = [
            f"[resourceId('{_SEARCHES}', parameters('workspace'), '{function.id}')]"
        ]
    template = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/"
        "deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "workspace": {"type": "string", "metadata": {"description": "The workspace's name."}}
        },
        "resources": resources,
    }
    return _json(template)


def _search_resource(identifier: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": _SEARCHES,
        "apiVersion": SAVED_SEARCHES_VERSION,
        "name": _resource_name(f"/{identifier}"),
        "properties": _literal(properties),
    }


def _resource_name(below: str) -> str:
    return f"[concat(parameters('workspace'), '{below}')]"


def _literal(value: Any) -> Any:
    """Text in brackets would be an expression of the template: a second bracket says not."""
    if isinstance(value, dict):
        return {key: _literal(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_literal(one) for one in value]
    bracketed = isinstance(value, str) and value[:1] == "[" and value[-1:] == "]"
    return f"[{value}" if bracketed else value


def sentinel_yaml(rule: Rule, *, scheduled: bool) -> str:
    """The rule as Azure-Sentinel's repository keeps analytics rules and hunting queries."""
    document: dict[str, Any] = {
        "id": rule.id,
        "name": rule.title,
        "description": rule.description,
        "severity": rule.severity,
        "requiredDataConnectors": [],
    }
    if scheduled:
        document |= {
            "queryFrequency": length_text(rule.frequency),
            "queryPeriod": length_text(rule.period),
            "triggerOperator": {name: short for short, name in OPERATORS.items()}[rule.operator],
            "triggerThreshold": rule.threshold,
        }
    document |= {
        "tactics": list(rule.tactics),
        "relevantTechniques": list(rule.techniques),
        "query": rule.query,
        "entityMappings": _mappings(rule),
    }
    if scheduled:
        document |= {
            "customDetails": dict(rule.details),
            "eventGroupingSettings": {"aggregationKind": rule.grouping},
            "kind": "Scheduled",
        }
    text = yaml_text({**document, "version": rule.version or "1.0.0"})
    function = function_part(rule)
    return text if function is None else _function_yaml(function) + text


def _function_yaml(rule: Rule) -> str:
    """A function as that repository's solutions keep one; parameters have no place there."""
    document = {
        "id": rule.id,
        "Function": {"Title": rule.title, "Version": rule.version or "1.0.0"},
        "Category": CATEGORY,
        "FunctionName": rule.title,
        "FunctionAlias": rule.title,
        "FunctionQuery": rule.query,
    }
    named = rule.function.parameters if rule.function is not None else ""
    parameters = f", with the parameters {named}" if named else ""
    return (
        f"# A function of the workspace: a file of its own in Parsers/, saved before the rule"
        f"{parameters}.\n{yaml_text(document)}---\n"
        "# What calls it: a file of its own in 'Analytic Rules/' or 'Hunting Queries/'.\n"
    )


def detection_json(rule: Rule) -> str:
    """The request's body, as JSON to read."""
    return _json(detection_rule(rule))


def _json(document: Any) -> str:
    return for_json(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def sigma_stub(hunt: Hunt, options: RuleOptions, identifier: str) -> str:
    """A Sigma rule to go on from: its commands, without what the query counts or compares."""
    name = hunt.parameter_with_role("commands")
    commands = bind(hunt, options.parameters)[name] if name else []
    selection = {"CommandLine": commands} if commands else {"EventID": "to be written"}
    attack = [*map(_attack_name, hunt.tactics), *(one.lower() for one in hunt.techniques)]
    document = {
        "title": hunt.title,
        "id": identifier,
        "status": "experimental",
        "description": hunt.description,
        "references": list(hunt.notes.references),
        "tags": [f"attack.{one}" for one in attack],
        "logsource": {"category": "process_creation", "product": "windows"},
        "detection": {"selection": selection, "condition": "selection"},
        "falsepositives": list(hunt.notes.false_positives),
        "level": hunt.severity.lower() or "medium",
    }
    return (
        "# A stub: it selects events. What the hunt counts, compares and leaves out is not in "
        "it.\n" + yaml_text(document)
    )


def _attack_name(tactic: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", tactic).lower()


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, whose lines are those of the file; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(document: Mapping[str, Any]) -> str:
    """A mapping as YAML, in its own order; what hides or reorders text stands escaped."""
    options: dict[str, Any] = {"Dumper": _Dumper, "sort_keys": False, "width": 1000}
    text: str = yaml.dump(dict(document), allow_unicode=True, **options)
    return text if lines_for_terminal(text) == text else yaml.dump(dict(document), **options)


# From a service


def hunt_of_alert_rule(resource: Mapping[str, Any]) -> dict[str, Any] | None:
    """The hunt file of a Sentinel rule; None for one without a query of its own."""
    properties = resource.get("properties")
    if resource.get("kind") not in WITH_QUERY or not isinstance(properties, dict):
        return None
    details = ("queryFrequency", "queryPeriod", "triggerOperator", "triggerThreshold")
    return _hunt_file(
        resource.get("name"), properties.get("displayName"), properties, LOG_ANALYTICS,
        techniques=properties.get("techniques"),
        more={
            **{key: properties[key] for key in details if properties.get(key) is not None},
            "entityMappings": properties.get("entityMappings"),
            "customDetails": properties.get("customDetails"),
            "eventGroupingSettings": properties.get("eventGroupingSettings")
            or {"aggregationKind": "SingleAlert"},
            "kind": resource["kind"],
        },
    )  # fmt: skip


def hunt_of_saved_search(resource: Mapping[str, Any]) -> dict[str, Any] | None:
    """The hunt file of a hunting query; None for any other saved search."""
    properties = resource.get("properties")
    if not isinstance(properties, dict) or properties.get("category") != HUNTING_QUERIES:
        return None
    found = {
        str(tag.get("name", "")).lower(): str(tag.get("value", ""))
        for tag in _objects(properties.get("tags"))
    }
    tactics, techniques = (
        [part.strip() for part in found.get(name, "").split(",") if part.strip()]
        for name in ("tactics", "techniques")
    )
    values = {
        "query": properties.get("query"), "description": found.get("description"),
        "tactics": tactics,
    }  # fmt: skip
    name = str(resource.get("name") or str(resource.get("id", "")).rpartition("/")[2])
    return _hunt_file(
        name, properties.get("displayName"), values, LOG_ANALYTICS, techniques=techniques
    )


def hunt_of_detection(resource: Mapping[str, Any]) -> dict[str, Any] | None:
    """The hunt file of a custom detection, in either form of Graph's; None for no detection."""
    condition, schedule = resource.get("queryCondition"), resource.get("schedule")
    action = resource.get("detectionAction")
    if not isinstance(condition, dict) or not isinstance(condition.get("queryText"), str):
        return None
    template = action.get("alertTemplate") if isinstance(action, dict) else None
    template = template if isinstance(template, dict) else {}
    schedule = schedule if isinstance(schedule, dict) else {}
    every = schedule.get("frequency") or _OLD_PERIODS.get(str(schedule.get("period")))
    tactics, techniques = _attack_of(template)
    values = {
        "query": condition["queryText"],
        "description": resource.get("description") or template.get("description"),
        "severity": str(template.get("severity") or "").capitalize(),
        "tactics": tactics,
    }
    more = {"entityMappings": _entities_of(template), "queryFrequency": every}
    return _hunt_file(
        resource.get("id"), resource.get("displayName"), values, DEFENDER.name,
        techniques=techniques, more=more,
    )  # fmt: skip


def _attack_of(template: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    tactics = _objects(template.get("tactics"))
    named = [str(one["tactic"]) for one in tactics if one.get("tactic")]
    techniques = [
        str(one.get("technique"))
        for tactic in tactics
        for one in _objects(tactic.get("techniques"))
    ]
    old = template.get("category")
    return (
        named or ([str(old)] if old else []),
        techniques or _texts(template.get("mitreTechniques")),
    )


def _entities_of(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sentinel's mappings of Graph's, the other way round."""
    mappings = template.get("entityMappings")
    found = []
    for entity, (kind, names) in _DETECTION_COLUMNS.items():
        back = {column: identifier for identifier, column in reversed(names.items())}
        for columns in _objects(mappings.get(kind) if isinstance(mappings, dict) else None):
            fields = [
                {"identifier": back[name], "columnName": column}
                for name, column in columns.items()
                if name in back and column
            ]
            if fields:
                found.append({"entityType": entity.capitalize(), "fieldMappings": fields})
    return found


def _hunt_file(
    name: Any,
    title: Any,
    values: Mapping[str, Any],
    product: str,
    *,
    techniques: Any,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    query = values.get("query")
    if not isinstance(query, str) or not query.strip():
        return None
    document = {
        "id": str(name or ""),
        "name": str(title or name or ""),
        "description": str(values.get("description") or ""),
        "severity": str(values.get("severity") or ""),
        "tactics": _texts(values.get("tactics")),
        "relevantTechniques": _texts(techniques),
        **(more or {}),
        "query": query,
        "qakhunt": {"products": [product]},
    }
    return {key: value for key, value in document.items() if value not in (None, "", [], {})}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def file_name(document: Mapping[str, Any], taken: Iterable[str]) -> str:
    """A hunt's name for an imported rule: of its title, unlike those that are taken."""
    words = re.findall(r"[a-z0-9]+", str(document.get("name", "")).lower())
    base = "-".join(words)[:80].strip("-") or "rule"
    used, name, number = set(taken), base, 2
    while name in used:
        name, number = f"{base}-{number}", number + 1
    return name
