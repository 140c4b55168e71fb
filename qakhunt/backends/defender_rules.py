"""Defender's custom detections, through Graph beta's ``security/rules/detectionRules``.

The form written is that of May 2026 (see ``hunts.rule_documents``). A tenant whose rules
come in the form before it is left alone. Whether a detection is on stays as it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qakhunt.backends.defender import place
from qakhunt.backends.rule_store import RestClient, differences, merged
from qakhunt.backends.services import RuleService
from qakhunt.core.errors import UnansweredError
from qakhunt.hunts.rule_documents import SET_ONCE, detection_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.backends.profile import Profile
    from qakhunt.backends.rule_store import RuleStore
    from qakhunt.backends.transport import Transport
    from qakhunt.hunts.rules import Rule

DETECTION = "defender-detection"
PATH = "/beta/security/rules/detectionRules"
_REFUSED = {
    401: ("the sign-in is not accepted", "is the token for this cloud's Graph?"),
    403: (
        "no permission for custom detections in this tenant",
        "reading needs CustomDetection.Read.All, writing CustomDetection.ReadWrite.All, with an "
        "administrator's consent; an analyst also needs a Defender role that may manage "
        "detections",
    ),
    404: ("Graph has no custom detections here", "they are served in the public cloud only"),
}


class DetectionStore:
    """The custom detections of one tenant."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self.label = f"tenant {tenant}"
        self._client = client

    def all(self) -> list[dict[str, Any]]:
        """Every custom detection."""
        return list(self._client.pages(PATH, "@odata.nextLink"))

    def get(self, identifier: str) -> dict[str, Any] | None:
        """The detection of that id. Raises where the tenant's are of another form."""
        found = self._client.send("GET", f"{PATH}/{quote(identifier, safe='')}", absent=True)
        others = self.all() if found is None else [found]
        for one in others:
            _check_form(one)
        return found

    def wanted(self, rule: Rule) -> dict[str, Any]:
        """The body."""
        return detection_rule(rule)

    def functions(self) -> None:
        """None: Graph has no functions that a detection could call."""

    def settings(self, there: Mapping[str, Any]) -> Mapping[str, Any]:
        """All of it."""
        return there

    def put(self, rule: Rule, there: Mapping[str, Any] | None) -> None:
        """POST it, or PATCH what differs."""
        wanted = self.wanted(rule)
        if there is None:
            answer = self._client.send("POST", PATH, wanted)
        else:
            changed = {
                name: merged(there[name], value) if isinstance(there.get(name), dict) else value
                for name, value in wanted.items()
                if name not in ("id", *SET_ONCE) and any(differences(value, there.get(name), name))
            }
            answer = self._client.send("PATCH", f"{PATH}/{quote(rule.id, safe='')}", changed)
            if answer is None:
                return  # 204: done, and nothing to compare
        written = answer or {}
        condition = written.get("queryCondition")
        query = condition.get("queryText") if isinstance(condition, dict) else None
        if str(written.get("id")).casefold() != rule.id.casefold() or query != rule.query:
            raise UnansweredError(
                "it was written, but Graph answers with another id or query",
                hint="look at the tenant's custom detections before the next deployment",
            )


def _check_form(rule: Mapping[str, Any]) -> None:
    schedule, condition = rule.get("schedule"), rule.get("queryCondition")
    known = (
        isinstance(rule.get("status"), str)
        and isinstance(schedule, dict) and "frequency" in schedule
        and isinstance(condition, dict)
    )  # fmt: skip
    if not known:
        raise UnansweredError(
            f"Graph beta gives the detection {str(rule.get('id'))!r} in a form that is not "
            "written here: no status or schedule.frequency",
            hint="export it (--to defender-detection) and create it in the portal",
        )


def _open(transport: Transport, profile: Profile, _form: str) -> list[RuleStore]:
    return [DetectionStore(RestClient(transport, "rules", _REFUSED), profile.tenant)]


RULES = RuleService(place, _open, (DETECTION,))
