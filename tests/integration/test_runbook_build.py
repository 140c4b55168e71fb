"""What a runbook's build checks before it fetches anything, and what it writes."""

from __future__ import annotations

import json
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest

from qakhunt.__main__ import run as qakhunt
from qakhunt.core.errors import QakhuntError, UsageError
from qakhunt.hunts.catalog import Catalog
from qakhunt.run.config import Config, parse_config
from qakhunt.schedule.runbook import wheels
from qakhunt.schedule.runbook.build import pages, script
from qakhunt.schedule.runbook.payload import Job, payload_of
from qakhunt.schedule.runbook.wheels import Wheel, closure, packed

pytest.importorskip("tomli_w", reason="building a runbook is an extra")
pytest.importorskip("uv", reason="building a runbook is an extra")

HOME = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
APP = "cccccccc-0000-4000-8000-000000000001"
STATE = "https://acct.blob.core.windows.net/qakhunt/state.db"
PROFILE = """
[profiles.p]
backend = "{backend}"
tenant = "{tenant}"
workspaces = ["bbbbbbbb-0000-4000-8000-000000000001"]
[profiles.p.sign_in]
{sign_in}
[schedule]
sign_in = "managed-identity"
{home}
[sinks.ticketing]
kind = "webhook"
url = "https://tickets.example/in"
secret_env = "TICKETING_SECRET"
"""


def config(
    sign_in: str = 'kind = "managed-identity"', *, backend: str = "defender", tenant: str = HOME,
    home: str | None = HOME,
) -> Config:  # fmt: skip
    text = PROFILE.format(
        sign_in=sign_in, backend=backend, tenant=tenant, home=f'tenant = "{home}"' if home else ""
    )
    return parse_config(text, Path("config.toml"))


def job(**changes: Any) -> Job:
    given: dict[str, Any] = {
        "profiles": ["p"], "hunts": Catalog().find("qakbot-post-compromise-commands"),
        "state": STATE, "sinks": ["ticketing"], **changes,
    }  # fmt: skip
    return Job(**given)


@pytest.mark.parametrize(
    ("sign_in", "backend", "tenant", "home"),
    [
        ('kind = "managed-identity"', "defender", HOME, HOME),
        ('kind = "managed-identity"', "log-analytics", OTHER, HOME),  # through Lighthouse
        (f'kind = "federated"\nassertion = "managed-identity"\nclient_id = "{APP}"', "defender",
         OTHER, HOME),
        (f'kind = "client-secret"\nclient_secret_env = "S"\nclient_id = "{APP}"', "defender",
         OTHER, None),
    ],
)  # fmt: skip
def test_sign_ins_that_reach_their_tenant_are_taken(
    sign_in: str, backend: str, tenant: str, home: str | None
) -> None:
    payload = payload_of(config(sign_in, backend=backend, tenant=tenant, home=home), job())
    assert (payload.lighthouse == ("p",)) == (backend == "log-analytics")
    assert "TICKETING_SECRET" in payload.variables


@pytest.mark.parametrize(
    ("sign_in", "tenant", "home", "words", "line"),
    [
        ('kind = "managed-identity"', OTHER, HOME, "no token of another tenant", 4),
        ('kind = "managed-identity"', OTHER, None, "is not known", 4),
        ('kind = "azure-cli"', HOME, HOME, "Automation runs no other programs", 6),
        ('kind = "login"', HOME, HOME, "nobody is there to sign in", 6),
        ('kind = "default"', HOME, HOME, "need a person or another program", 6),
        ('kind = "workload-identity"', HOME, HOME, "Kubernetes", 6),
        (f'kind = "client-certificate"\nclient_id = "{APP}"\ncertificate_path = "x.pem"', HOME,
         HOME, "does not travel", 6),
        (f'kind = "federated"\nassertion = "github"\nclient_id = "{APP}"', HOME, HOME,
         "github is no credential", 6),
    ],
)  # fmt: skip
def test_sign_ins_that_cannot_are_refused_at_their_line(
    sign_in: str, tenant: str, home: str | None, words: str, line: int
) -> None:
    with pytest.raises(QakhuntError, match=words) as caught:
        payload_of(config(sign_in, tenant=tenant, home=home), job())
    assert caught.value.location is not None
    assert caught.value.location.line == line


def test_without_a_schedule_section_the_job_is_the_accounts_managed_identity() -> None:
    text = PROFILE.format(sign_in='kind = "managed-identity"', backend="log-analytics",
                          tenant=HOME, home="")  # fmt: skip
    minimal = text.replace('[schedule]\nsign_in = "managed-identity"\n', "")
    assert "schedule" not in minimal
    payload = payload_of(parse_config(minimal, Path("config.toml")), job())
    carried = parse_config(payload.config, Path("config.toml")).file.schedule
    assert carried.sign_in_settings.kind == "managed-identity"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"profiles": []}, "at least one profile"),
        ({"state": "/var/lib/state.db"}, "does not outlive the job"),
        ({"sinks": ["file:/tmp/x"]}, "does not outlive the job"),
        ({"sinks": ["stdout"]}, "no place for findings"),
        ({"sinks": [], "heartbeat": True}, "needs a --sink"),
    ],
)
def test_what_has_no_place_in_automation_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        payload_of(config(), job(**changes))


def test_a_job_without_a_state_carries_no_blob_package() -> None:
    assert payload_of(config(), job()).extras == ("blob",)
    assert payload_of(config(), job(state=None)).extras == ()


def test_a_build_without_a_configuration_or_beyond_three_hours_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["runbook", "build", "--out", str(tmp_path / "b"), "--state", STATE]
    assert qakhunt([*base, "--config", str(tmp_path / "none.toml")]) == 2
    assert qakhunt([*base, "--deadline", "3h"]) == 2
    assert "Automation stops a job after three hours" in capsys.readouterr().err
    (tmp_path / "c.toml").write_text(PROFILE.format(
        sign_in='kind = "azure-cli"', backend="defender", tenant=HOME, home=""))  # fmt: skip
    assert qakhunt([*base, "--config", str(tmp_path / "c.toml"), "--profile", "p"]) == 2
    assert not (tmp_path / "b").exists()


def test_the_script_carries_what_it_needs_and_no_secret(tmp_path: Path) -> None:
    own = tmp_path / "my-hunt.yaml"
    own.write_text(Path(Catalog().find("qakbot-post-compromise-commands")[0].path).read_text())
    suppressions = tmp_path / "s.yaml"
    suppressions.write_text(
        'suppressions:\n  - {owner: jd, reason: \'\u202e"""\', expires: 2027-01-01, device: d}\n',
        encoding="utf-8",
    )
    wanted = job(hunts=Catalog((tmp_path,)).find("my-hunt"), suppressions=suppressions)
    payload = payload_of(config(), wanted)
    assert set(payload.files) == {"hunts/my-hunt.yaml", "suppressions.yaml"}
    text = script(payload, wanted)
    assert text.isascii()
    names: dict[str, Any] = {}
    exec(compile(text.replace("run(sys.argv[1:], BUILT)", ""), "runbook.py", "exec"), names)
    assert names["BUILT"]["files"]["suppressions.yaml"] == suppressions.read_text(encoding="utf-8")
    assert parse_config(names["BUILT"]["config"], Path("c")).profiles["p"].tenant == HOME
    assert "import subprocess" not in text


def test_the_pages_say_what_this_job_needs() -> None:
    vault = (
        'kind = "client-secret"\nclient_secret_vault = "https://soc.vault.azure.net/secrets/h"\n'
        f'client_id = "{APP}"'
    )
    wanted = job(every="6h")
    payload = payload_of(config(vault), wanted)
    manifest = {"qakhunt": "1", "built_at": "2026-11-24", "wheels": [{"bytes": 1_000_000}]}
    made = pages(payload, wanted, manifest)
    assert set(made) == {"STEPS.md", "main.bicep", "deploy.ps1"}
    assert "@@" not in "".join(made.values())
    steps = made["STEPS.md"]
    for text in ("https://soc.vault.azure.net/secrets/h", "TICKETING_SECRET", "--max-age 8h",
                 "Storage Blob Data Contributor", "ThreatHunting.Read.All", "every 6 hours"):  # fmt: skip
        assert text in steps
    assert "Monitoring Metrics Publisher" not in steps


def test_a_job_on_the_data_lake_says_whom_to_let_in() -> None:
    text = PROFILE.replace('["bbbb', '["soc-bbbb').replace(
        "[profiles.p.sign_in]", "allow_billed_search = true\n[profiles.p.sign_in]"
    )
    lake = parse_config(
        text.format(backend="kusto", tenant=HOME, home=f'tenant = "{HOME}"',
                    sign_in='kind = "managed-identity"'), Path("config.toml"),
    )  # fmt: skip
    payload = payload_of(lake, job())
    assert (payload.backends, payload.lighthouse) == (("kusto",), ())
    manifest = {"qakhunt": "1", "built_at": "2026-11-24", "wheels": [{"bytes": 1_000_000}]}
    steps = pages(payload, job(), manifest)["STEPS.md"]
    assert "each workspace in the data lake" in steps
    assert "-RoleDefinitionName 'Log Analytics Reader'" in steps
    assert "ThreatHunting.Read.All" not in steps


def test_the_bicep_is_bicep() -> None:
    parser = pytest.importorskip("pycep", reason="no Bicep parser here")
    wanted = job()
    manifest = {"qakhunt": "1", "built_at": "2026-11-24", "wheels": [{"bytes": 1}]}
    text = pages(payload_of(config(), wanted), wanted, manifest)["main.bicep"]
    parsed = parser.BicepParser().parse(text=text)
    kinds = {resource["type"] for resource in parsed["resources"].values()}
    assert {
        "Microsoft.Automation/automationAccounts", "Microsoft.Insights/dataCollectionRules",
        "Microsoft.Automation/automationAccounts/runtimeEnvironments",
        "Microsoft.Authorization/roleAssignments",
        "Microsoft.Automation/automationAccounts/schedules",
    } <= kinds  # fmt: skip
    assert text.count("{") == text.count("}")


def test_a_ready_template_is_no_file_and_needs_no_signing_secret() -> None:
    text = PROFILE.format(sign_in='kind = "managed-identity"', backend="defender",
                          tenant=HOME, home=f'tenant = "{HOME}"')  # fmt: skip
    sink = '[sinks.slack]\nkind = "webhook"\nurl_env = "SLACK_URL"\ntemplate = "slack"\n'
    payload = payload_of(parse_config(text + sink, Path("c")), job(sinks=["slack"]))
    assert payload.variables == ("SLACK_URL",)
    assert parse_config(payload.config, Path("c")).file.sinks["slack"]["template"] == "slack"


def test_hostile_values_survive_in_the_carried_configuration() -> None:
    hostile = 'x"\\\n\u202e\U0001f600\x7f]'
    text = PROFILE.format(sign_in='kind = "managed-identity"', backend="defender",
                          tenant=HOME, home=f'tenant = "{HOME}"')  # fmt: skip
    template = json.dumps(hostile, ensure_ascii=False).replace("\x7f", "\\u007f")
    made = parse_config(text + f'[sinks."k.e y"]\nkind = "webhook"\nurl = {template}\n', Path("c"))
    payload = payload_of(made, job(sinks=["k.e y"]))
    assert parse_config(payload.config, Path("c")).file.sinks["k.e y"]["url"] == hostile


# Wheels


def make_wheel(folder: Path, project: str, version: str, *requires: str) -> Path:
    path = folder / f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
    info = f"{project.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}"]
    lines += ["Provides-Extra: blob", "Provides-Extra: other", "Provides-Extra: more"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def resolve(tmp_path: Path, *requires: str, extras: tuple[str, ...] = ()) -> dict[str, str]:
    into = tmp_path / "into"
    into.mkdir()
    own = Wheel("qakhunt", "1", make_wheel(tmp_path, "qakhunt", "1", *requires))
    found = closure(own, extras, tmp_path / "wheels", into)
    assert {path.name for path in into.iterdir()} == {wheel.path.name for wheel in found}
    return {wheel.project: wheel.version for wheel in found}


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def test_markers_are_those_of_python_310_on_linux(tmp_path: Path, shelf: Path) -> None:
    for name in ("aa", "bb", "cc", "dd"):
        make_wheel(shelf, name, "1.0")
    found = resolve(
        tmp_path, "aa; python_version < '3.11'", "bb; python_version >= '3.11'",
        "cc; sys_platform == 'win32'", "dd; extra == 'blob'", "ee; extra == 'other'",
        extras=("blob",),
    )  # fmt: skip
    assert found == {"aa": "1.0", "dd": "1.0"}


def test_requirements_of_requirements_narrow_a_choice(tmp_path: Path, shelf: Path) -> None:
    make_wheel(shelf, "aa", "1.0", "shared<2", "deep[more]")
    make_wheel(shelf, "deep", "1.0", "extra-one; extra == 'more'")
    make_wheel(shelf, "extra-one", "1.0")
    make_wheel(shelf, "shared", "2.0", "gone")
    make_wheel(shelf, "shared", "1.5")
    make_wheel(shelf, "gone", "1.0")
    found = resolve(tmp_path, "aa", "shared")
    assert found == {"aa": "1.0", "deep": "1.0", "extra-one": "1.0", "shared": "1.5"}


def test_a_package_without_a_wheel_is_one_error(tmp_path: Path, shelf: Path) -> None:
    with pytest.raises(QakhuntError, match="no wheels for Python 3.10"):
        resolve(tmp_path, "missing-package")


def test_a_contradiction_is_one_error(tmp_path: Path, shelf: Path) -> None:
    make_wheel(shelf, "aa", "1.0", "shared<2")
    make_wheel(shelf, "shared", "2.0")
    with pytest.raises(QakhuntError, match="shared"):
        resolve(tmp_path, "aa", "shared>=2")


def test_a_wheel_of_another_platform_is_not_taken(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_wheel(shelf, "aa", "1.0")
    made.rename(shelf / "aa-1.0-cp310-cp310-win_amd64.whl")
    with pytest.raises(QakhuntError, match="no wheels for Python 3.10"):
        resolve(tmp_path, "aa")
    # Nor where a resolver would name one: what came is checked by itself.
    locked = {"name": "aa", "version": "1.0",
              "wheels": [{"url": (shelf / "aa-1.0-cp310-cp310-win_amd64.whl").as_uri()}]}  # fmt: skip
    real = wheels._locked
    monkeypatch.setattr(
        wheels, "_locked", lambda own, extras, folder: [locked] if folder == shelf
        else real(own, extras, folder)
    )  # fmt: skip
    (tmp_path / "into").rmdir()
    with pytest.raises(QakhuntError, match="no wheels for Python 3.10"):
        resolve(tmp_path, "aa")


def test_a_wheel_that_was_changed_on_its_way_is_refused(tmp_path: Path, shelf: Path) -> None:
    path = make_wheel(shelf, "aa", "1.0")
    package = {"name": "aa", "version": "1.0",
               "wheels": [{"url": path.as_uri(), "hashes": {"sha256": "0" * 64}}]}  # fmt: skip
    with pytest.raises(QakhuntError, match="another hash"):
        wheels._fetched(package, tmp_path)
    assert not (tmp_path / path.name).exists()


def test_an_installed_distribution_is_packed_again(tmp_path: Path) -> None:
    installed: Distribution = distribution("typer")
    first = packed(installed, tmp_path, "typer")
    assert first.name == f"typer-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert any(name.endswith(".dist-info/RECORD") for name in names)
    assert not any("__pycache__" in name or name.endswith("INSTALLER") for name in names)
    again = tmp_path / "again"
    again.mkdir()
    assert packed(installed, again, "typer").read_bytes() == first.read_bytes()
