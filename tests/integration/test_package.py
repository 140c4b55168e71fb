"""The package's own description, its container and its release, as far as they run without one."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from qakhunt import __version__
from tests.conftest import ROOT

pytest.importorskip("hatchling", reason="building needs hatchling")

HOME = "https://code.example/team/qakhunt"


def described(root: Path) -> dict[str, Any]:
    """What the build hook adds to the metadata."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    metadata: dict[str, Any] = {"version": __version__}
    module.CustomMetadataHook(str(root), {}).update(metadata)
    return metadata


def test_a_release_leads_to_the_repository_that_built_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAKHUNT_REPOSITORY", HOME + "/")
    metadata = described(ROOT)
    text = metadata["readme"]["text"]
    assert (
        f"![The Qakbot hunt on the bundled sample]({HOME}/raw/v{__version__}/.github/screen.svg)"
        in text
    )
    assert f"]({HOME}/blob/v{__version__}/docs/guides/sign-in.md)" in text
    assert not re.search(r"\]\((?!https?://|#)", text), (
        "a relative link leads nowhere on an index page"
    )
    assert metadata["urls"]["Repository"] == HOME


def test_without_an_address_none_is_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QAKHUNT_REPOSITORY", raising=False)
    metadata = described(ROOT)
    assert "urls" not in metadata
    assert metadata["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_source_distribution_keeps_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("QAKHUNT_REPOSITORY", raising=False)
    shutil.copy(ROOT / "README.md", tmp_path)
    info = (
        f"Metadata-Version: 2.4\nProject-URL: Issues, x\nProject-URL: Repository, {HOME}\n\ntext\n"
    )
    (tmp_path / "PKG-INFO").write_text(info, encoding="utf-8")
    assert described(tmp_path)["urls"]["Issues"] == f"{HOME}/issues"


def test_the_container_has_what_the_wheel_is_made_from_and_is_not_root(tmp_path: Path) -> None:
    """The wheel, built from the files that .dockerignore lets through alone."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (line[1:] for line in ignored if line.startswith("!")):
        source, target = ROOT / name, tmp_path / "source" / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        target.parent.mkdir(exist_ok=True)
        copy(source, target)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=tmp_path / "source", check=True, capture_output=True,
    )  # fmt: skip
    with zipfile.ZipFile(next((tmp_path / "dist").iterdir())) as archive:
        names = archive.namelist()
    assert "qakhunt/_queries/qakbot-post-compromise-commands.yaml" in names
    assert "qakhunt/py.typed" in names
    steps = re.findall(
        r"^([A-Z]+) (.*)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    last = dict(steps)
    assert last["USER"].split(":")[0] not in ("0", "root")
    assert last["ENTRYPOINT"] == '["qakhunt"]'
    assert [word for word, _ in steps].index("USER") < [word for word, _ in steps].index(
        "ENTRYPOINT"
    )


def test_a_release_publishes_what_was_tested_without_a_secret() -> None:
    path = ROOT / ".github" / "workflows" / "release.yml"
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {}
    assert workflow[True]["push"] == {"tags": ["v*"]}
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    before, waiting = set(), ["publish"]
    while waiting:
        for name in jobs[waiting.pop()].get("needs", []):
            before.add(name)
            waiting.append(name)
    assert before == {"test", "pythons", "build", "attest"}
    # Only the job that was checked makes files; those with rights run nothing of ours.
    for name, job in jobs.items():
        if "write" in job["permissions"].values():
            assert not any("checkout" in step.get("uses", "") for step in job["steps"]), name
