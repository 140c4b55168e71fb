"""The configuration as the commands use it and show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import qakhunt

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
WORKSPACE = "bbbbbbbb-0000-4000-8000-000000000001"
SECRET = "Wk8~planted.secret-5a"
PROFILE = f"""\
[profiles.contoso]
backend = "log-analytics"
tenant = "{TENANT}"
workspaces = ["{WORKSPACE}"]
"""


def test_a_file_of_the_current_folder_replaces_no_hunt(tmp_path: Path) -> None:
    hunts = tmp_path / "hunts"
    hunts.mkdir()
    mine = hunts / "qakbot-post-compromise-commands.kql"
    mine.write_text("DeviceProcessEvents | where Timestamp > ago(1d) | where false")
    config = tmp_path / "qakhunt.toml"
    config.write_text(f"hunts_folders = ['{hunts}']\n" + PROFILE)
    env = {"XDG_CONFIG_HOME": str(tmp_path / "none")}
    for command in (["hunts", "list"], ["run"], ["render", mine.stem]):
        done = qakhunt(*command, cwd=tmp_path, env=env)
        assert (done.code, done.out) == (2, "")
        assert done.error_lines == [
            f"error: {config}:1:1: hunts_folders: a file found in the current folder cannot set it"
        ]
    for command in (["hunts", "list"], ["render", mine.stem]):
        done = qakhunt(*command, cwd=tmp_path, env={**env, "QAKHUNT_CONFIG": str(config)})
        assert done.code == 0
        notes = [line for line in done.err.splitlines() if line.startswith("note: the hunt ")]
        assert len(notes) == 1
        assert notes[0].startswith(f"note: the hunt {mine.stem} is {mine}, which hides ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"TENANT": TENANT}, "QAKHUNT_BACKEND not set: QAKHUNT_TENANT alone"),
        ({"BACKEND": "defender"}, "QAKHUNT_TENANT not set: QAKHUNT_BACKEND alone"),
        ({"WORKSPACES": WORKSPACE}, "QAKHUNT_BACKEND and QAKHUNT_TENANT not set"),
    ],
)
def test_half_a_profile_in_the_environment_is_no_wish_to_hunt_in_the_sample(
    given: dict[str, str], words: str, tmp_path: Path
) -> None:
    env = {f"QAKHUNT_{key}": value for key, value in given.items()}
    done = qakhunt("run", cwd=tmp_path, env={"XDG_CONFIG_HOME": str(tmp_path), **env})
    assert done.code == 2
    assert len(done.error_lines) == 1
    assert words in done.error_lines[0]
    assert not done.out


def test_a_configuration_without_profiles_hunts_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"expected_tenants = ['{TENANT}']\n")
    for command in ("run", "doctor"):
        done = qakhunt(command, "--all-profiles", "--config", str(path))
        assert done.code == 2
        assert done.error_lines == [f"error: {path} has no profiles"]


def test_a_dry_run_counts_no_call_for_a_tenant_without_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    other = TENANT.replace("1", "7")
    path.write_text(f"expected_tenants = ['{other}']\n{PROFILE}sign_in = 'azure-cli'\n")
    arguments = ["run", "--dry-run", "--all-profiles", "--config", str(path)]
    lines = qakhunt(*arguments).out.splitlines()
    assert f" on - {other}: not queried: an expected tenant that has no profile" in lines[1]
    assert lines[-1] == "2 targets, 1 call; nothing was queried"
    listed = json.loads(qakhunt(*arguments, "--json").out)["lines"]
    assert [line["calls"] for line in listed] == [1, 0]


def test_config_show_names_values_and_sources(tmp_path: Path) -> None:
    (tmp_path / "qakhunt.toml").write_text(PROFILE)
    env = {"XDG_CONFIG_HOME": str(tmp_path), "QAKHUNT_CLOUD": "usgov", "HUNT_SECRET": SECRET}
    done = qakhunt("config", "show", cwd=tmp_path, env=env)
    assert done.code == 0
    assert f"using {tmp_path / 'qakhunt.toml'}, found in the current folder" in done.err
    assert [line.split() for line in done.out.splitlines() if line.startswith("cloud")] == [
        ["cloud", "usgov", "environment", "QAKHUNT_CLOUD"]
    ]
    listed = json.loads(qakhunt("config", "show", "--json", cwd=tmp_path, env=env).out)
    assert listed["profiles"]["contoso"]["tenant"]["value"] == TENANT
    assert SECRET not in done.out + done.err


def test_a_broken_configuration_is_one_error_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(PROFILE + "tenantt = 1\n")
    done = qakhunt("config", "show", "--config", str(path))
    assert done.code == 2
    assert done.error_lines == [f"error: {path}:5:1: unknown key 'tenantt'"]
    assert "did you mean 'tenant'?" in done.err


def test_no_configuration_says_where_one_goes(tmp_path: Path) -> None:
    done = qakhunt("config", "show", cwd=tmp_path, env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert done.code == 2
    assert "there is no configuration" in done.err
    assert str(tmp_path / "qakhunt" / "config.toml") in done.err
