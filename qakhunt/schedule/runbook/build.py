"""The bundle: the runbook, its wheels, a manifest, and the steps to put it in place."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt import __version__
from qakhunt.errors import OutputError, UsageError
from qakhunt.schedule.runbook.own_wheel import own_wheel
from qakhunt.schedule.runbook.payload import payload_of
from qakhunt.schedule.runbook.platform_310 import PYTHON
from qakhunt.schedule.runbook.script import PARAMETERS, script
from qakhunt.schedule.runbook.steps import pages
from qakhunt.schedule.runbook.wheels import Source, closure

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.config import Config
    from qakhunt.kql.values import Instant
    from qakhunt.schedule.runbook.payload import Job
    from qakhunt.schedule.runbook.wheels import Wheel

SCHEMA = "qakhunt.runbook/1"


def build(
    config: Config, job: Job, out: Path, source: Source, *, now: Instant,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Make the bundle in the folder ``out``, which must not exist; the manifest.

    Everything is checked before anything is fetched, and the folder appears whole or
    not at all. Raises ConfigError, UsageError or QakhuntError.
    """
    if out.exists():
        raise OutputError(f"{out} exists", hint="name a folder that is to be made")
    if not out.parent.is_dir():
        raise OutputError(f"no such folder: {out.parent}")
    _require_packaging()
    payload = payload_of(config, job)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        wheels = work / "wheels"
        wheels.mkdir()
        say("building qakhunt's own wheel")
        own = own_wheel(source, wheels)
        say("gathering the wheels that it needs")
        needed = closure(own, payload.extras, source, wheels)
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


def _require_packaging() -> None:
    try:
        import packaging  # noqa: F401
    except ImportError:
        raise UsageError(
            "building a runbook needs the package 'packaging'", hint="install qakhunt[runbook]"
        ) from None
