"""What every sink is: turning a report into messages, and sending one.

A sink turns a report into messages, whole and final, before anything is sent; the
state keeps them. Sending one again sends the same bytes under the same key.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qakhunt.core.documents import read_text
from qakhunt.core.errors import ConfigError, DeliveryError, SourceLocation
from qakhunt.core.safe_text import for_json
from qakhunt.schedule.store import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult
    from qakhunt.kql.values import Instant
    from qakhunt.run.config import Schedule


@dataclass(frozen=True)
class Report:
    """What a run reports: ``qakhunt.finding/1`` documents, and the run with their hits alone.

    ``findings`` may be made as they are read, since there can be many: read them once.
    """

    run_id: str
    now: Instant
    findings: Iterable[dict[str, Any]]
    result: RunResult


@dataclass(frozen=True)
class SinkContext:
    """What sinks need from outside.

    ``secret`` resolves a reference, ``env:NAME`` or ``vault:https://...``;
    ``credential`` makes what azure-core signs in with; ``verify`` is a CA file for TLS,
    or True.
    """

    secret: Callable[[str], str]
    environment: Mapping[str, str] = field(default_factory=dict)
    credential: Callable[[], Any] | None = None
    verify: str | bool = True


class Sink:
    """A receiver, by the name the user gave it: one JSON message per finding.

    A kind of sink says how it sends, and overrides what its messages hold.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def messages(self, report: Report) -> Iterable[Message]:
        """The messages that report the findings; none for none."""
        for finding in report.findings:
            yield Message(self.name, finding["id"], self.body(finding), findings=(finding["id"],))

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """The messages for a ``qakhunt.heartbeat/1``."""
        return [
            Message(self.name, heartbeat_key(document), self.heartbeat_body(document), "heartbeat")
        ]

    def body(self, finding: dict[str, Any]) -> bytes:
        """One finding's message."""
        return to_json(finding)

    def heartbeat_body(self, document: dict[str, Any]) -> bytes:
        """A heartbeat's message."""
        return to_json(document)

    def send(self, message: Message) -> None:
        """Send one and return when the receiver has confirmed it. Raises NotTaken."""
        raise NotImplementedError

    def close(self) -> None:
        """Close connections, where any are held open."""


@dataclass(frozen=True)
class SinkKind:
    """All that the program knows of one kind of sink.

    ``form`` shows how ``KIND:ADDRESS`` is written and ``read`` turns the address into
    settings; ``settings`` is their model and ``open`` makes the sink. For a runbook:
    ``not_in_automation`` says why it has no place there, ``extra`` is the part of
    qakhunt that it needs, and ``role`` the row that STEPS.md shows: for, role, on.
    """

    name: str
    form: str
    read: Callable[[str], dict[str, Any]]
    settings: type[Any]
    open: Callable[[str, Any, SinkContext], Sink]
    not_in_automation: str = ""
    extra: str = ""
    role: tuple[str, str, str] | None = None


class NotTaken(DeliveryError):
    """A receiver did not confirm.

    ``again`` says whether trying again can help, ``after`` the seconds it asked for.
    """

    def __init__(
        self, message: str, *, again: bool = True, after: float | None = None,
        hint: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint)
        self.again = again
        self.after = after


def to_json(document: Any) -> bytes:
    """One line of JSON in which no control or invisible character stands bare."""
    return for_json(json.dumps(document, ensure_ascii=False)).encode("utf-8", "backslashreplace")


def heartbeat_key(document: dict[str, Any]) -> str:
    """The idempotency key of a heartbeat."""
    return f"heartbeat-{document['run']}"


# Secrets


def reference(settings: Any, name: str) -> str | None:
    """The reference that ``NAME_vault`` or ``NAME_env`` of a sink's settings stands for."""
    vault, variable = getattr(settings, f"{name}_vault"), getattr(settings, f"{name}_env")
    if vault:
        return f"vault:{vault}"
    return f"env:{variable}" if variable else None


def resolve_reference(text: str, environment: Mapping[str, str], settings: Schedule) -> str:
    """The value of ``env:NAME`` or ``vault:https://VAULT/secrets/NAME``.

    Raises ConfigError for a variable that is not set, UnansweredError where the vault
    does not give the secret.
    """
    kind, _, place = text.partition(":")
    if kind == "vault":
        return _from_vault(place, settings)
    value = environment.get(place)
    if not value:
        raise ConfigError(f"the environment variable {place} is not set")
    return value


def _from_vault(address: str, settings: Schedule) -> str:
    """Opened with the machine's managed identity."""
    from qakhunt.backends.auth.identity import Identity, SignIn
    from qakhunt.backends.auth.workload import read_secret

    machine = settings.sign_in_settings
    opener = machine.managed_identity_client_id or (
        machine.client_id if machine.kind == "managed-identity" else None
    )
    sign_in = SignIn(
        kind="client-secret", client_secret_vault=address, managed_identity_client_id=opener
    )
    return read_secret(
        Identity(sign_in, settings.tenant or "", "", settings.cloud, settings.ca_file)
    )


# Templates: values are put into the parsed template, so no value changes its shape.
# "${device}" as a whole text keeps the value's type; inside other text it becomes text.
# Names reach inward with dots: ${hunt.title}. ${device:150} is cut to 150 characters, and the
# items of a list then stand on lines of their own: ${commands:3000}.

_DEEPEST = 100
_NAME = re.compile(r"\$\{([A-Za-z_][\w.]*)(?::(\d{1,6}))?\}")


def load_template(path: Path) -> Any:
    """A JSON template. Raises ConfigError with the line."""
    text = read_text(path, ConfigError)
    too_deep = ConfigError(f"{path}: the template is nested too deeply")
    try:
        template = json.loads(text)
    except json.JSONDecodeError as problem:
        raise ConfigError(
            f"the template is not JSON: {problem.msg}",
            location=SourceLocation(str(path), problem.lineno, problem.colno),
        ) from None
    except RecursionError:
        raise too_deep from None
    level = [template]
    for _ in range(_DEEPEST):
        groups = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list))
        ]
        level = [inner for group in groups for inner in group]
    if level:
        raise too_deep
    return template


def check_names(template: Any, known: Collection[str], where: str) -> None:
    """Refuse, before any run, a name that no document has."""
    for name in sorted({name for name, _ in _NAME.findall(json.dumps(template))}):
        if name.partition(".")[0] not in known:
            raise ConfigError(
                f"{where}: the template uses ${{{name}}}, which no finding has",
                hint=f"names: {', '.join(known)}",
            )


def fill(
    part: Any, values: dict[str, Any], shown: Callable[[str, str], str], kind: str = ""
) -> Any:
    """The template with its names replaced.

    ``shown(kind, text)`` makes a value's text harmless; ``kind`` is the ``type`` of the
    object that the text stands in, such as TextBlock.
    """
    if isinstance(part, dict):
        own = part.get("type")
        kind = own if isinstance(own, str) else kind
        return {key: fill(value, values, shown, kind) for key, value in part.items()}
    if isinstance(part, list):
        return [fill(item, values, shown, kind) for item in part]
    if not isinstance(part, str):
        return part
    whole = _NAME.fullmatch(part)
    if whole and not whole[2]:
        value = lookup(values, whole[1])
        return shown(kind, value) if isinstance(value, str) else value
    return _NAME.sub(lambda match: _filled(match, values, lambda one: shown(kind, one)), part)


def _filled(match: re.Match[str], values: dict[str, Any], shown: Callable[[str], str]) -> str:
    """What a name inside of text becomes, within the length that it asks for."""
    value = lookup(values, match[1])
    if not match[2]:
        return shown(_text(value))
    items = value if isinstance(value, list) else [value]
    text = "\n".join(shown(_text(item)) for item in items)
    most = int(match[2])
    return text if len(text) <= most else f"{text[: max(most - 3, 0)]}..."


def fill_text(text: str, values: dict[str, Any], shown: Callable[[str], str]) -> str:
    """One line of text with its names replaced."""
    return _NAME.sub(lambda match: _filled(match, values, shown), text)


def lookup(values: Any, name: str) -> Any:
    """The value of a name such as ``hunt.title``, None where there is none."""
    for step in name.split("."):
        values = values.get(step) if isinstance(values, dict) else None
    return values


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
