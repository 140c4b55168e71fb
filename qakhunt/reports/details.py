"""What a report says of itself: marking, case, people, times, and where its links lead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.triage.entities import Portals

if TYPE_CHECKING:
    import datetime as dt

    from qakhunt.kql.values import Instant

# The traffic light protocol, version 2.0.
TLP = {
    "RED": "for the named recipients only",
    "AMBER+STRICT": "for the recipients' organisation only",
    "AMBER": "for the recipients' organisation and its clients",
    "GREEN": "for the community",
    "CLEAR": "without restriction",
}


@dataclass(frozen=True)
class ReportDetails:
    """What can be given for a report; what is empty is not shown.

    ``zone`` adds local times beside UTC; ``made`` is when the report was made and
    ``tenant`` the customer whose part of a run it is.
    """

    tlp: str = ""
    case: str = ""
    author: str = ""
    contact: str = ""
    principal: str = ""
    zone: dt.tzinfo | None = None
    made: Instant | None = None
    tenant: str = ""
    portals: Portals = field(default_factory=Portals)

    def labelled(self) -> list[tuple[str, str]]:
        """What was given, with labels."""
        given = [
            ("Case", self.case),
            ("Customer", self.tenant),
            ("Author", self.author),
            ("Contact", self.contact),
            ("Run by", self.principal),
        ]
        return [(label, value) for label, value in given if value]

    def local(self, moment: Instant) -> str:
        """The moment in the report's time zone, or nothing without one."""
        if self.zone is None:
            return ""
        return moment.to_datetime().astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S %Z")


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose of an export; ``csv_raw`` keeps CSV cells as they are.

    ``details`` is what a report says of itself.
    """

    csv_raw: bool = False
    details: ReportDetails = field(default_factory=ReportDetails)


def clock(moment: Instant) -> str:
    """``2026-10-14 09:12:03.118``: UTC, without trailing zeros."""
    return moment.short()[:-1].replace("T", " ")
