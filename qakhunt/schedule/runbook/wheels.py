"""The wheels that a runbook takes along: qakhunt's own, and what uv finds that it needs.

Azure Automation runs CPython 3.10 on Linux x86-64, whatever Python builds. uv resolves for
that platform (pip evaluates markers such as ``python_version < "3.11"`` for the Python that
runs it) and locks every file with its hash.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from qakhunt.core.errors import QakhuntError
from qakhunt.core.locations import checkout
from qakhunt.core.toml_document import parse_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PYTHON = "3.10"
PLATFORM = "x86_64-manylinux_2_28"
"""glibc 2.28, which every supported Linux has."""
SECONDS = 60
_LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "uv_cache.json")


@dataclass(frozen=True)
class Wheel:
    """A wheel file, its project and version."""

    project: str
    version: str
    path: Path


def closure(own: Wheel, extras: Iterable[str], folder: Path | None, into: Path) -> list[Wheel]:
    """All wheels that ``own`` needs with ``extras``, fetched into ``into``; by project.

    They come from uv's index, or from ``folder`` alone. What came is resolved once more
    from ``into`` alone, so that nothing is missing, of another platform or of another
    version. Raises QakhuntError.
    """
    locked = _locked(own, extras, folder)
    wheels = [_fetched(package, into) for package in locked]
    there = {package["name"]: package["version"] for package in _locked(own, extras, into)}
    if there != {wheel.project: wheel.version for wheel in wheels}:
        raise QakhuntError("the fetched wheels are not those that were resolved: build again")
    return sorted(wheels, key=lambda wheel: wheel.project)


def own_wheel(folder: Path | None, into: Path) -> Wheel:
    """The wheel of the qakhunt that runs: built from its checkout, else packed as installed."""
    root = checkout()
    if root is not None:
        _uv(
            ["build", "--wheel", "--no-create-gitignore", "--out-dir", str(into), str(root)],
            folder, "qakhunt's own wheel cannot be built from its source",
        )  # fmt: skip
        (path,) = into.glob("qakhunt-*.whl")
    else:
        try:
            path = packed(distribution("qakhunt"), into)
        except PackageNotFoundError:
            raise QakhuntError(
                "qakhunt is not installed, so there is no wheel to take along"
            ) from None
    return Wheel("qakhunt", path.name.split("-")[1], path)


def packed(installed: Distribution, into: Path, package: str = "qakhunt") -> Path:
    """A wheel with the files of an installed distribution, the same bytes every time."""
    files = sorted(
        (file for file in installed.files or () if _belongs(PurePosixPath(file), package)),
        key=str,
    )
    info = next(f.parts[0] for f in files if f.parts[0].endswith(".dist-info"))
    path = into / f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            content = Path(str(installed.locate_file(file))).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.append(f"{file.as_posix()},sha256={digest.decode()},{len(content)}")
            _add(archive, file.as_posix(), content)
        record.append(f"{info}/RECORD,,")
        _add(archive, f"{info}/RECORD", ("\n".join(record) + "\n").encode())
    return path


def _belongs(file: PurePosixPath, package: str) -> bool:
    """Package and metadata; not byte code, scripts or what the installer left."""
    if ".." in file.parts or file.is_absolute() or "__pycache__" in file.parts:
        return False
    if file.parts[0].endswith(".dist-info"):
        return file.name not in _LEFT_OUT
    return file.parts[0] == package


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _locked(own: Wheel, extras: Iterable[str], folder: Path | None) -> list[dict[str, Any]]:
    """The packages of a ``pylock.toml`` for Automation's platform, without qakhunt itself."""
    wanted = f"qakhunt[{','.join(extras)}] @ {own.path.resolve().as_uri()}\n"
    text = _uv(
        ["pip", "compile", "-", "--python-version", PYTHON, "--python-platform", PLATFORM,
         "--only-binary", ":all:", "--format", "pylock.toml", "--no-header"],
        folder, f"no wheels for Python {PYTHON} on Linux x86-64", wanted,
    )  # fmt: skip
    packages: list[dict[str, Any]] = parse_toml(text, "pylock.toml", QakhuntError).value["packages"]
    return [package for package in packages if package["name"] != "qakhunt"]


def _fetched(package: dict[str, Any], into: Path) -> Wheel:
    """A locked package's wheel in ``into``, checked against its hash."""
    if not package.get("wheels"):
        raise QakhuntError(f"{package['name']} {package['version']} has no wheel")
    # Any of them fits the platform; one with compiled parts is the faster one.
    wheel = min(package["wheels"], key=lambda wheel: "-none-any" in wheel["url"])
    parts = urlsplit(wheel["url"])
    target = into / PurePosixPath(unquote(parts.path)).name
    if parts.scheme == "file":
        content = Path(url2pathname(parts.path)).read_bytes()
    else:
        content = _downloaded(wheel["url"])
    digest = hashlib.sha256(content).hexdigest()
    if wheel.get("hashes", {}).get("sha256", digest) != digest:
        raise QakhuntError(f"{target.name}: what {parts.hostname} gave has another hash")
    target.write_bytes(content)
    return Wheel(package["name"], package["version"], target)


def _downloaded(url: str) -> bytes:
    import requests

    try:
        answer = requests.get(url, timeout=SECONDS)
        answer.raise_for_status()
    except requests.RequestException as problem:
        raise QakhuntError(
            f"cannot fetch {PurePosixPath(urlsplit(url).path).name} from "
            f"{urlsplit(url).hostname}: {type(problem).__name__}",
            hint="fetch the wheels yourself and give their folder with --wheels",
        ) from None
    return answer.content


def _uv(arguments: Sequence[str], folder: Path | None, failure: str, given: str = "") -> str:
    """What uv prints, asked with its own configuration or for ``folder`` alone."""
    source = [] if folder is None else ["--no-index", "--find-links", str(folder)]
    done = subprocess.run(  # noqa: S603 - uv, with arguments of our own
        [sys.executable, "-m", "uv", "--quiet", "--no-progress", "--color", "never",
         "--no-python-downloads", *arguments, *source],
        input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        _, _, words = done.stderr.partition("error: ")
        raise QakhuntError(
            f"{failure}: {' '.join((words or done.stderr).split())}",
            hint="uv needs an index (UV_DEFAULT_INDEX), or give a folder of wheels with --wheels",
        )
    return done.stdout
