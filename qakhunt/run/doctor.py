"""Checks of one profile, from its configuration to the age of its newest record.

Each check is one sentence and, where something is wrong, a fix. A check that
another one makes pointless is not made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Status
from qakhunt.backends.auth.identity import claims_of
from qakhunt.backends.base import Question
from qakhunt.backends.replies import other_workspace
from qakhunt.backends.services import service_named
from qakhunt.core.errors import QakhuntError
from qakhunt.kql.schema import columns
from qakhunt.kql.tokens import Kind, tokenize
from qakhunt.kql.values import TICKS_PER_DAY, Instant, Timespan, Window
from qakhunt.run.coverage_check import CoverageQuery, UnsoundAnswer
from qakhunt.run.live import LiveBackends, address_of, targets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.answers.ledger import Target
    from qakhunt.backends.base import Answer, Backend
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.live import Address
    from qakhunt.run.settings import ProfileSettings

LOOK_BACK = Timespan(7 * TICKS_PER_DAY)
_OLD = Timespan(TICKS_PER_DAY)
_SKEW_NOTED, _SKEW_FATAL = 60.0, 300.0
_SLOW = 5.0


class Grade(str, Enum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One line of the doctor's account; ``place`` is the table and workspace it is about."""

    profile: str
    name: str
    grade: Grade
    words: str
    hint: str = ""
    place: str = ""

    @property
    def said(self) -> str:
        """What was found, and where."""
        return f"{self.place}: {self.words}" if self.place else self.words


def examine(
    settings: ProfileSettings, live: LiveBackends, hunts: Sequence[RenderedQuery]
) -> Iterator[Check]:
    """All checks of a profile. ``hunts`` say which tables and columns it takes."""
    name = settings.name
    if settings.profile.write:
        yield from _rules(settings, live)
        return
    try:
        address = address_of(settings.profile, live.trusted_hosts)
        backend = live.open(settings)
    except QakhuntError as problem:
        yield Check(name, "configuration", Grade.FAILED, problem.message, problem.hint or "")
        return
    yield Check(name, "configuration", Grade.OK, _described(settings, address))
    token = _token(settings, live, address)
    yield token
    if token.grade is Grade.FAILED:
        return
    needed = _needed_columns(hunts)
    for number, target in enumerate(targets_of(settings)):
        for table, wanted in needed.items():
            yield from _table(backend, target, table, wanted, live.now)
        if not number and backend.clock_skew is not None:
            yield _clock(name, backend.clock_skew)


def _rules(settings: ProfileSettings, live: LiveBackends) -> Iterator[Check]:
    """What a profile that writes can be seen to do without writing: read the rules."""
    name = settings.name
    for form in service_named(settings.profile.backend).rule_service().forms:
        try:
            for store in live.open_rules(settings, form):
                words = f"{store.label} has {len(store.all())}; whether more can be written is seen"
                yield Check(name, form, Grade.OK, f"{words} when one is")
        except QakhuntError as problem:
            yield Check(name, form, Grade.FAILED, problem.message, problem.hint or "")


def _described(settings: ProfileSettings, address: Address) -> str:
    profile = settings.profile
    count = len(profile.workspaces)
    places = f"{count} workspace{'s' if count != 1 else ''}" if count else "the tenant"
    return f"{profile.backend}, {places}, {address.endpoint}, {profile.sign_in_settings.kind}"


def _clock(name: str, skew: float) -> Check:
    words = f"this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead'}"
    if abs(skew) < _SKEW_NOTED:
        return Check(name, "clock", Grade.OK, "agrees with the service's within a minute")
    grade = Grade.WARNING if abs(skew) < _SKEW_FATAL else Grade.FAILED
    return Check(name, "clock", grade, words, "set the clock: sign-ins and windows depend on it")


def _token(settings: ProfileSettings, live: LiveBackends, address: Address) -> Check:
    name, profile = settings.name, settings.profile
    service = service_named(profile.backend)
    try:
        info = live.tokens(profile, address).get_token_info(address.scope)
    except QakhuntError as problem:
        return Check(name, "token", Grade.FAILED, problem.message, problem.hint or "")
    claims = claims_of(info.token)
    if not claims:
        return Check(name, "token", Grade.OK, "one that does not say what it is for")
    tenant, audience = str(claims.get("tid", "")), str(claims.get("aud", "")).rstrip("/")
    granted = [*claims.get("roles", []), *str(claims.get("scp", "")).split()]
    words = f"tenant {tenant}, for {audience}, grants {', '.join(granted) or 'nothing by name'}"
    if audience not in (address.scope.removesuffix("/.default"), service.app_id):
        return Check(
            name, "token", Grade.FAILED, f"it is for {audience}, not for {address.scope}",
            "check the profile's cloud",
        )  # fmt: skip
    if tenant.casefold() != profile.tenant.casefold():
        if service.foreign_tokens:
            return Check(
                name, "token", Grade.WARNING, words,
                "another tenant's: right with Azure Lighthouse, else check the tenant",
            )  # fmt: skip
        return Check(
            name, "token", Grade.FAILED, words,
            f"{profile.backend} needs a token of the customer's tenant {profile.tenant}",
        )  # fmt: skip
    if service.permission and service.permission not in granted:
        return Check(
            name, "token", Grade.FAILED, words,
            f"grant the app {service.permission} and have an administrator consent",
        )  # fmt: skip
    return Check(name, "token", Grade.OK, words)


def _needed_columns(hunts: Sequence[RenderedQuery]) -> dict[str, set[str]]:
    """Table -> the columns of its schema that the hunts name."""
    needed: dict[str, set[str]] = {}
    for rendered in hunts:
        words = {t.text for t in tokenize(rendered.text) if t.kind is Kind.IDENTIFIER}
        for table in rendered.tables:
            known = columns(rendered.product, table)
            needed.setdefault(table, set()).update(words & known.keys())
    return needed


def _table(
    backend: Backend, target: Target, table: str, wanted: set[str], now: Instant
) -> Iterator[Check]:
    window = Window(now - LOOK_BACK, now)
    place = f"{table} in {target.workspace}" if target.workspace else table

    def check(name: str, grade: Grade, words: str, hint: str = "") -> Check:
        return Check(target.profile, name, grade, words, hint, place)

    answer = backend.ask(Question(f"{table}\n| take 0\n", window, target, (table,)))
    if answer.table is None:
        yield check("permission", Grade.FAILED, answer.detail, answer.hint)
        return
    query = CoverageQuery(table, backend.product, window)
    covered = backend.ask(Question(query.text, window, target, (table,)))
    if covered.table is not None and other_workspace(covered.table, target.workspace):
        yield check("permission", Grade.FAILED, covered.detail, covered.hint)
        return
    yield check("permission", Grade.OK, "may be read")
    missing = sorted(wanted - set(answer.table.names))
    if missing:
        yield check("columns", Grade.FAILED, f"lacks {', '.join(missing)}",
                    "is this the table that the data connector fills?")  # fmt: skip
    else:
        yield check("columns", Grade.OK, f"has the {len(wanted)} needed")
    yield _round_trip(target, answer)
    yield check("data", *_data(query, covered, now))


def _round_trip(target: Target, answer: Answer) -> Check:
    words = f"{answer.elapsed:.1f} s"
    if answer.attempts > 1:
        words += f", {answer.attempts} tries"
    grade = Grade.OK if answer.elapsed < _SLOW and answer.attempts == 1 else Grade.WARNING
    return Check(target.profile, "round trip", grade, words)


def _data(query: CoverageQuery, covered: Answer, now: Instant) -> tuple[Grade, str, str]:
    """How the data is, in words, and the fix."""
    if covered.table is None or covered.status is not Status.COMPLETE:
        return Grade.FAILED, covered.detail, covered.hint
    try:
        seen = query.read(covered.table, now=now, longest=LOOK_BACK).source
    except UnsoundAnswer as problem:
        return Grade.FAILED, f"the service answered the coverage check with {problem}", ""
    if not seen.rows:
        return Grade.FAILED, "no records in seven days", "is the data connector on?"
    words = f"{seen.rows:,} records of {seen.devices:,} devices in seven days"
    if seen.last is None:
        return Grade.OK, words, ""
    age = now.since(seen.last)
    words += f", the newest {_length(age)} old"
    if age > _OLD:
        return Grade.WARNING, words, "has the connector stopped?"
    return Grade.OK, words, ""


def _length(span: Timespan) -> str:
    minutes = max(int(span.seconds // 60), 0)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"
