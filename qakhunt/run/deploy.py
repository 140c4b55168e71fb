"""Rules of hunts, put where a profile says and read from there.

Everything is read and compared before anything is written. Nothing is ever deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

from qakhunt.backends.rule_store import differences
from qakhunt.backends.services import service_named
from qakhunt.core.errors import QakhuntError, UsageError
from qakhunt.hunts.rule_documents import (
    SET_ONCE,
    file_name,
    hunt_of_alert_rule,
    hunt_of_detection,
    hunt_of_saved_search,
    yaml_text,
)
from qakhunt.hunts.rule_functions import called_functions, functions_among, inlined
from qakhunt.hunts.rules import function_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qakhunt.backends.rule_store import Field, RuleStore
    from qakhunt.hunts.rules import Rule
    from qakhunt.run.settings import ProfileSettings

CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"

_READERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
    "sentinel-rule": hunt_of_alert_rule,
    "sentinel-hunt": hunt_of_saved_search,
    "defender-detection": hunt_of_detection,
}


@dataclass(frozen=True)
class Planned:
    """One rule in one place: what is there, and what differs. ``there`` is None for a new one."""

    store: RuleStore
    rule: Rule
    there: Mapping[str, Any] | None
    fields: tuple[Field, ...] = ()

    @property
    def action(self) -> str:
        """What a deployment does: created, updated or unchanged."""
        if self.there is None:
            return CREATED
        return UPDATED if self.fields else UNCHANGED

    @property
    def is_off(self) -> bool:
        """Whether the rule that is there does not run."""
        if self.there is None:
            return False
        settings = self.store.settings(self.there)
        return settings.get("enabled") is False or settings.get("status") in (
            "disabled", "autoDisabled",
        )  # fmt: skip

    def diff(self) -> list[str]:
        """What is there against what would be, line by line; empty where nothing differs."""
        wanted = _without_switch(self.store.wanted(self.rule))
        if self.there is None:
            before: list[str] = []
        else:
            before = _lines(_only(wanted, self.store.settings(self.there)))
        after = _lines(wanted) if self.action != UNCHANGED else before
        name = f"{self.store.label}/{self.rule.id}"
        return list(unified_diff(before, after, f"{name} (there)", f"{name} (here)", lineterm=""))


def forms_of(settings: ProfileSettings) -> tuple[str, ...]:
    """The forms of rule that the profile's service keeps. Raises ConfigError for none."""
    return service_named(settings.profile.backend).rule_service().forms


def check_writable(settings: ProfileSettings) -> None:
    """Raises UsageError for a profile that may not write."""
    if not settings.profile.write:
        raise UsageError(
            f"the profile {settings.name} only reads",
            hint="write = true, in a profile with a sign-in of its own that runs no hunts",
        )


def plan(stores: Iterable[RuleStore], rules: Sequence[Rule]) -> list[Planned]:
    """Read what is there of each rule, and before it of the function that it calls.

    Raises QakhuntError at the first that cannot be read.
    """
    _check_apart(rules, "id", lambda rule: rule.id.casefold())
    _check_apart(
        [one for one in map(function_part, rules) if one], "title", lambda rule: rule.title
    )
    return [one for store in stores for rule in rules for one in _parts(store, rule)]


def _check_apart(rules: Iterable[Rule], what: str, key: Callable[[Rule], str]) -> None:
    seen: dict[str, str] = {}
    for rule in rules:
        other = seen.setdefault(key(rule), rule.title)
        if other is not rule.title:
            raise UsageError(
                f"{other!r} and {rule.title!r} have one {what}, so one would replace the other",
                hint=f"give each hunt a{'n' if what == 'id' else ''} {what} of its own",
            )


def _parts(store: RuleStore, rule: Rule) -> Iterator[Planned]:
    function, functions = function_part(rule), store.functions()
    if function is not None and functions is not None:
        yield _planned(functions, function)
    yield _planned(store, rule)


def _planned(store: RuleStore, rule: Rule) -> Planned:
    try:
        there = store.get(rule.id)
    except QakhuntError as problem:
        problem.message = f"{store.label}: {problem.message}; nothing was changed"
        raise
    if there is None:
        return Planned(store, rule, None)
    wanted = _without_switch(store.wanted(rule))
    return Planned(store, rule, there, tuple(differences(wanted, store.settings(there))))


def apply(planned: Sequence[Planned]) -> Iterator[Planned]:
    """Write what differs, one by one, each given back once it is there.

    Raises QakhuntError, saying what was written before; nothing after it is.
    """
    written = 0
    for one in planned:
        if one.action != UNCHANGED:
            try:
                one.store.put(one.rule, one.there)
            except QakhuntError as problem:
                before = f"{written} written before it" if written else "nothing was changed before"
                problem.message = (
                    f"{one.store.label}: {one.rule.title}: {problem.message}; {before}"
                )
                raise
            written += 1
        yield one


def _without_switch(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if name not in SET_ONCE}


def _only(wanted: Any, there: Any) -> Any:
    """The part of what is there that ``wanted`` speaks of."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return {name: _only(value, there.get(name)) for name, value in wanted.items()}
    return there


def _lines(value: Any) -> list[str]:
    return yaml_text(value).splitlines()


@dataclass(frozen=True)
class Imported:
    """Hunt files of a place's rules by name, and the rules that are none.

    ``calling`` names the functions of the workspace that a file calls and does not hold.
    """

    files: Mapping[str, str]
    left_out: tuple[str, ...]
    calling: Mapping[str, Sequence[str]]


def imported(stores: Iterable[RuleStore], form: str, taken: Iterable[str] = ()) -> Imported:
    """Every rule with a query, as the text of a hunt file; no name is one of ``taken``.

    A rule that is the call of a function of qakhunt's has the function's text.
    """
    used = set(taken)
    files: dict[str, str] = {}
    left_out: list[str] = []
    calling: dict[str, Sequence[str]] = {}
    for store in stores:
        kept = store.functions()
        functions = functions_among(kept.all()) if kept is not None else {}
        for resource in store.all():
            document = _READERS[form](resource)
            if document is None:
                left_out.append(f"{resource.get('name') or resource.get('id')}")
                continue
            name = file_name(document, used | files.keys())
            whole = inlined(document["query"], functions)
            if whole is not None:
                document["query"] = whole.query
                if whole.window is not None:
                    start, end = whole.window
                    document["qakhunt"]["window"] = {"start": start, "end": end}
            called = called_functions(document["query"], functions)
            if called:
                calling[name] = called
            files[name] = yaml_text(document)
    return Imported(files, tuple(left_out), calling)
