"""The bundle: the runbook script, its wheels, a manifest, and the pages that say what to do."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt import __version__
from qakhunt.backends.services import service_named
from qakhunt.core.errors import OutputError, UsageError
from qakhunt.kql.values import Timespan
from qakhunt.schedule.runbook.payload import payload_of
from qakhunt.schedule.runbook.wheels import PYTHON, closure, own_wheel
from qakhunt.schedule.sinks.log_analytics import COLUMNS, STREAM, LogAnalyticsSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.kql.values import Instant
    from qakhunt.run.config import Config
    from qakhunt.schedule.runbook.payload import Job, Payload
    from qakhunt.schedule.runbook.wheels import Wheel

SCHEMA = "qakhunt.runbook/1"


@dataclass(frozen=True)
class Parameter:
    """A positional parameter; ``-`` or nothing keeps what was built in."""

    name: str
    help: str


PARAMETERS = (
    Parameter("HUNTS", "names of hunts, separated by commas"),
    Parameter("PROFILES", "names of profiles or groups, separated by commas"),
    Parameter("DEADLINE", "ask nothing more after this long, such as 150m"),
    Parameter("STATE", "the URL of the state's blob"),
)


def build(
    config: Config, job: Job, out: Path, wheels_from: Path | None = None, *, now: Instant,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Make the bundle in the folder ``out``, which must not exist; the manifest.

    Everything is checked before anything is fetched, and the folder appears whole or
    not at all. Wheels come from uv's index, or from the folder ``wheels_from``. Raises
    ConfigError, UsageError or QakhuntError.
    """
    if out.exists():
        raise OutputError(f"{out} exists", hint="name a folder that is to be made")
    if not out.parent.is_dir():
        raise OutputError(f"no such folder: {out.parent}")
    _require_tools()
    payload = payload_of(config, job)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        wheels = work / "wheels"
        wheels.mkdir()
        say("building qakhunt's own wheel")
        own = own_wheel(wheels_from, wheels)
        say("gathering the wheels that it needs")
        needed = closure(own, payload.extras, wheels_from, wheels)
        (work / "runbook.py").write_text(script(payload, job), encoding="utf-8")
        manifest = _manifest(work, [own, *needed], payload.hunts, job, now)
        for name, text in pages(payload, job, manifest).items():
            (work / name).write_text(text, encoding="utf-8")
        (work / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        work.chmod(0o755)
        work.rename(out)
    except OSError as problem:
        raise OutputError(f"cannot write {out}: {problem.strerror or problem}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _manifest(
    work: Path, wheels: list[Wheel], hunts: tuple[str, ...], job: Job, now: Instant
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "qakhunt": __version__,
        "built_at": now.isoformat(),
        "python": PYTHON,
        "platform": "Linux x86-64",
        "runbook": {"file": "runbook.py", "sha256": _sha256(work / "runbook.py")},
        "parameters": [asdict(parameter) for parameter in PARAMETERS],
        "profiles": list(job.profiles),
        "hunts": list(hunts),
        "state": job.state,
        "sinks": list(job.sinks),
        "wheels": [
            {
                "project": wheel.project, "version": wheel.version,
                "file": f"wheels/{wheel.path.name}", "bytes": wheel.path.stat().st_size,
                "sha256": _sha256(wheel.path),
            }
            for wheel in wheels
        ],
    }  # fmt: skip


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_tools() -> None:
    missing = [name for name in ("uv", "tomli_w") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"building a runbook needs {' and '.join(missing)}", hint="install qakhunt[runbook]"
        )


# The script


def script(payload: Payload, job: Job) -> str:
    """The script's text: Python 3.10, no secret in it."""
    built = {
        "config": payload.config,
        "files": payload.files,
        "hunts": list(payload.hunts),
        "profiles": list(job.profiles),
        "state": job.state,
        "sinks": list(job.sinks),
        "heartbeat": job.heartbeat,
        "every": job.every,
        "repeat_after": job.repeat_after,
        "deadline": job.deadline,
        "variables": list(payload.variables),
    }
    lines = [f"    {n}. {p.name}: {p.help}" for n, p in enumerate(PARAMETERS, 1)]
    return _filled("runbook.txt", {"PARAMETERS": "\n".join(lines), "BUILT": _literal(built)})


def _literal(built: Mapping[str, object]) -> str:
    """A Python literal, one entry a line, in ASCII."""
    lines = [f"    {json.dumps(name)}: {value!a}," for name, value in built.items()]
    return "{\n" + "\n".join(lines) + "\n}"


# The pages


def pages(payload: Payload, job: Job, manifest: dict[str, Any]) -> dict[str, str]:
    """File name -> text."""
    values = _values(payload, job, manifest)
    return {name: _filled(name, values) for name in ("STEPS.md", "main.bicep", "deploy.ps1")}


def _filled(name: str, values: dict[str, str]) -> str:
    text = (files("qakhunt.schedule.runbook") / "templates" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@@{key}@@", value)
    return text


def _values(payload: Payload, job: Job, manifest: dict[str, Any]) -> dict[str, str]:
    state = job.state or "https://ACCOUNT.blob.core.windows.net/qakhunt/state.db"
    container, _, blob = urlsplit(state).path.strip("/").partition("/")
    size = sum(wheel["bytes"] for wheel in manifest["wheels"])
    every = Timespan.parse(job.every).seconds
    tables = [s for _, s in payload.sinks.values() if isinstance(s, LogAnalyticsSettings)]
    stream = tables[0].stream if tables else STREAM
    return {
        "VERSION": manifest["qakhunt"],
        "DATE": manifest["built_at"][:10],
        "COUNT": str(len(manifest["wheels"])),
        "MEGABYTES": f"{size / 1e6:.0f}",
        "HUNTS": ", ".join(payload.hunts),
        "PROFILES": ", ".join(job.profiles),
        "STATE": job.state or "no blob (each run reports everything anew)",
        "SINKS": ", ".join(payload.sinks) or "nobody",
        "DEADLINE": job.deadline,
        "CONTAINER": container,
        "BLOB": blob or "state.db",
        "HOURS": str(max(1, round(every / 3600))),
        "MAX_AGE": f"{round(every / 3600) + 2}h",
        "TABLE": stream.removeprefix("Custom-"),
        "STREAM": stream,
        "COLUMNS": "\n".join(
            f"          {{\n            name: '{name}'\n            type: '{kind}'\n          }}"
            for name, kind in COLUMNS.items()
        ),
        "WORKSPACE_ARGUMENT": " -FindingsWorkspace WORKSPACE" if tables else "",
        "VAULT_ARGUMENT": " -KeyVaultName VAULT" if payload.vaults else "",
        "SECRETS": _secrets(payload),
        "ROLES": _roles(payload),
        "GRANTS": _grants(payload),
        "PARAMETERS": "\n".join(f"{n}. `{p.name}`: {p.help}" for n, p in enumerate(PARAMETERS, 1)),
    }


def _secrets(payload: Payload) -> str:
    lines = []
    for name in payload.variables:
        lines.append(f"- an **encrypted Automation variable** named `{name}` (Variables > Add)")
    for address in payload.vaults:
        lines.append(f"- the Key Vault secret `{address}`, which the managed identity reads")
    return "\n".join(lines) or "This job needs none."


def _roles(payload: Payload) -> str:
    rows = []
    services = [service_named(name) for name in payload.backends]
    if any(service.needs_workspaces for service in services):
        rows.append(("Log Analytics", "Log Analytics Data Reader", "each workspace that is hunted"))
    if any(service.database_keys for service in services):
        where = "each workspace in the data lake; of a cluster's database: Viewer"
        rows.append(("the data lake or a cluster", "Log Analytics Reader", where))
    for permission in filter(None, (service.permission for service in services)):
        rows.append(("advanced hunting", f"Graph `{permission}` (application)", "the tenant"))
    rows += dict.fromkeys(kind.role for kind, _ in payload.sinks.values() if kind.role)
    if payload.vaults:
        rows.append(("secrets", "Key Vault Secrets User", "those secrets"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _grants(payload: Payload) -> str:
    services = [service_named(name) for name in payload.backends]
    needed = {
        "workspaces": any(service.needs_workspaces for service in services),
        "lighthouse": bool(payload.lighthouse),
        "kusto": any(service.database_keys for service in services),
        "graph": any(service.permission for service in services),
        "federated": '"federated"' in payload.config,
    }
    values = {"LIGHTHOUSE": ", ".join(payload.lighthouse)}
    return "\n".join(_filled(f"grants/{name}.md", values) for name in needed if needed[name])
