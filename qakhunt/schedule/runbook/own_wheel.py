"""qakhunt's own wheel: built from the checkout that runs, else packed from what is installed."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from qakhunt.errors import QakhuntError
from qakhunt.locations import checkout
from qakhunt.schedule.runbook.wheels import Source, Wheel, read_wheel, run_pip

_LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "uv_cache.json")


def own_wheel(source: Source, into: Path) -> Wheel:
    """The wheel of the qakhunt that runs, in ``into``."""
    root = checkout()
    if root is not None:
        before = set(into.glob("*.whl"))
        run_pip(
            ["wheel", "--no-deps", "--wheel-dir", str(into), *source.options, str(root)],
            "qakhunt's own wheel cannot be built from its source",
        )
        (path,) = set(into.glob("qakhunt-*.whl")) - before
        return read_wheel(path)
    try:
        installed = distribution("qakhunt")
    except PackageNotFoundError:
        raise QakhuntError("qakhunt is not installed, so there is no wheel to take along") from None
    return read_wheel(packed(installed, into))


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
