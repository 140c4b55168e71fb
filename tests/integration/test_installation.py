"""What travels with qakhunt is found: in a wheel, from an sdist, and in a checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("hatchling", reason="building needs hatchling")

CHECK = """\
import json
from importlib.resources import files
from qakhunt.hunts.command_catalogue import families
from qakhunt.hunts.catalog import Catalog
from qakhunt.kql.schema import tables
from qakhunt.core.locations import example_config, queries_folder
from qakhunt.run.sample import sample_events, sample_now
print(json.dumps({
    "queries": str(queries_folder()),
    "hunts": sorted(Catalog().paths()),
    "cases": sorted(p.stem for p in (queries_folder() / "tests").glob("*.yaml")),
    "tables": [len(tables(p)) > 50 for p in ("defender", "log-analytics")],
    "sample": [len(sample_events()), str(sample_now())],
    "example": example_config().read_text(encoding="utf-8")[:40],
    "families": len(families().families) > 9,
    "typed": files("qakhunt").joinpath("py.typed").is_file(),
}))
"""


def build(target: str, source: Path, folder: Path) -> Path:
    """Build the wheel or sdist of a source tree into a folder."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.iterdir())


def installed(wheel: Path, folder: Path) -> Path:
    """The wheel's files where an installer would put them."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def facts(python_path: Path, cwd: Path) -> dict[str, object]:
    import json

    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{CHECK}"],
        cwd=cwd, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(python_path)},
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def test_a_wheel_and_an_sdist_carry_what_a_checkout_has(
    wheel: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import tarfile

    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    source = next((tmp_path / "unpacked").iterdir())
    rebuilt = build("wheel", source, tmp_path / "rebuilt")

    stray = tmp_path / "stray"
    (stray / "queries").mkdir(parents=True)
    (stray / "queries" / "evil.yaml").write_text("query: T\n", encoding="utf-8")
    checkout = facts(ROOT, stray)
    assert checkout["queries"] == str(ROOT / "queries")
    for built in (wheel, rebuilt):
        folder = installed(built, tmp_path_factory.mktemp("installed"))
        found = facts(folder, stray)
        assert found["queries"] == str(folder / "qakhunt" / "_queries")
        assert {**found, "queries": ""} == {**checkout, "queries": ""}


def test_a_stray_folder_beside_the_package_is_not_taken(wheel: Path, tmp_path: Path) -> None:
    import shutil

    folder = installed(wheel, tmp_path / "site")
    shutil.move(folder / "qakhunt" / "_queries", folder / "queries")
    (folder / "pyproject.toml").write_text('[project]\nname = "other"\n', encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError) as problem:
        facts(folder, tmp_path)
    assert "missing from this installation" in problem.value.stderr


def test_the_wheel_names_its_licence_and_its_floor(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert "Requires-Python: >=3.10" in metadata
    assert "duckdb-kql==1.1.2; python_version >= '3.11'" in metadata or (
        'duckdb-kql==1.1.2; python_version >= "3.11"' in metadata
    )
    assert not any("tests/" in name and "_queries" not in name for name in names)
