"""The configuration: found, read, checked, and what is in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qakhunt.backends.auth.identity import SignIn
from qakhunt.backends.profile import Limits, Profile
from qakhunt.core.errors import ConfigError, UsageError
from qakhunt.run.config import (
    LOCAL_KEYS,
    SIGN_IN_KEYS,
    Config,
    ConfigFile,
    find_config,
    json_schema,
    load_config,
    parse_config,
)
from qakhunt.run.settings import VARIABLES, effective, shown

ROOT = Path(__file__).parents[2]
TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
WORKSPACE = "bbbbbbbb-0000-4000-8000-000000000001"
APP = "cccccccc-0000-4000-8000-000000000001"
SECRET = "Wk8~planted.secret-5a"
PROFILE = f"""\
[profiles.contoso]
backend = "log-analytics"
tenant = "{TENANT}"
workspaces = ["{WORKSPACE}"]
"""
LAKE = PROFILE.replace("log-analytics", "kusto").replace(WORKSPACE, f"soc-{WORKSPACE}")
CLUSTER = "".join(LAKE.splitlines(keepends=True)[:3])


def parse(text: str, *, local: bool = False) -> Config:
    return parse_config(text, Path("c.toml"), local=local)


def refused(text: str, *, local: bool = False) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, local=local)
    assert SECRET not in str(caught.value) + (caught.value.hint or "")
    return caught.value


def test_the_example_loads_and_shows_every_key() -> None:
    text = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    config = load_config(ROOT / "config.example.toml")
    for model in (Profile, SignIn, Limits):
        for key in model.__struct_fields__:
            assert f"\n{key} = " in text or key in ("sign_in", "limits"), key
    for key in ("default_profile", "deadline", "expected_tenants"):
        assert f"\n{key} = " in text
    kinds = {p.sign_in_settings.kind for p in config.profiles.values()}
    assert kinds | {"default"} == set(SIGN_IN_KEYS)


def test_the_schema_for_editors_is_the_one_shipped() -> None:
    shipped = (ROOT / "qakhunt" / "data" / "config.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json_schema(), "run: qakhunt config schema"


@pytest.mark.parametrize(
    ("text", "line", "words", "hint"),
    [
        (PROFILE + "tenantt = 1", 5, "unknown key 'tenantt'", "did you mean 'tenant'?"),
        ("profile = 1", 1, "unknown key 'profile'", "did you mean 'profiles'?"),
        (PROFILE.replace(TENANT, "contoso"), 3, "tenant: not a GUID: 'contoso'", "names are not"),
        (PROFILE.replace(WORKSPACE, "law-soc"), 4, "workspaces: not a GUID: 'law-soc'", "names are"),
        (PROFILE.replace(f'"{WORKSPACE}"', ""), 1, "at least one workspace", "Overview"),
        (PROFILE + 'cloud = "usgv"', 5, "cloud: no such value: 'usgv'", "did you mean 'usgov'?"),
        (PROFILE + 'sign_in = "azurecli"', 5, "no such value: 'azurecli'", "'azure-cli'?"),
        (PROFILE + "limits.server_wait = 900", 5, "limits.server_wait: expected", ""),
        (PROFILE + 'workspace_resources.x = "/subscriptions"', 5, "not a GUID: 'x'", ""),
        (PROFILE + f'workspace_resources.{WORKSPACE} = "soc"', 5, "not the resource id", "providers"),
        (PROFILE + "hunts = 3", 5, "hunts: expected a list", ""),
        (PROFILE + "[groups]\na = ['contosso']", 6, "no profile 'contosso'", "'contoso'?"),
        (PROFILE + "[groups]\ncontoso = []", 6, "is a profile and a group", ""),
        (PROFILE + "[groups]\na = []", 6, "the group 'a' has no profiles", ""),
        (PROFILE + 'graph_endpoint = "https://me:p4ss@localhost"', 5, "a name or password", ""),
        (PROFILE + 'authority = "https:/me:p4ss@localhost"', 5, "authority: a name or", ""),
        ("default_profile = 'x'\n" + PROFILE, 1, "no profile or group named 'x'", ""),
        ("deadline = 'soon'\n" + PROFILE, 1, "not a length of time: 'soon'", "45m"),
        ("expected_tenants = ['x']\n" + PROFILE, 1, "expected_tenants: not a GUID", ""),
        ('[profiles."a\\u001bb"]\nbackend = "defender"', 1, "missing required", ""),
        (PROFILE.replace("log-analytics", "defender") + "cloud = 'china'", 5, "not served", ""),
        (PROFILE + "cluster = 'https://x.kusto.windows.net'", 5, "log-analytics does not take it",
         'backend = "kusto"'),
        (PROFILE + "tables = 'external'", 5, "tables: log-analytics does not take it", ""),
        (LAKE.replace("soc-", ""), 4, "not a workspace's name and id", "NAME-GUID"),
        (LAKE.replace(WORKSPACE, "law"), 4, "not a workspace's name and id", "NAME-GUID"),
        (LAKE.replace('"]', f'", "other-{WORKSPACE}"]'), 4, "workspaces: one stands twice", ""),
        (LAKE + "database = 'D'", 5, "the data lake's databases are its workspaces", "default"),
        (LAKE + "cloud = 'usgov'", 5, "the Sentinel data lake is not served", "cluster"),
        (LAKE + "cluster = 'https://x.kusto.windows.net'", 5, "a cluster needs one", "NAME"),
        (LAKE + "cluster = 'https://x.kusto.windows.net'\ndatabase = 'D'", 4, "has databases", ""),
        (LAKE + 'cluster = "https://me:p4ss@localhost"\ndatabase = "D"', 4, "has databases", ""),
        (LAKE + "tables = 'mine'", 5, "tables: no such value: 'mine'", ""),
        (PROFILE + f'client_secret = "{SECRET}"', 5, "a secret does not belong", "variable"),
        (PROFILE + f'sign_in = {{ password = "{SECRET}" }}', 5, "", ""),
        (PROFILE + f'[profiles.contoso.sign_in]\nkind = "client-secret"\nsecret = "{SECRET}"',
         7, "a secret does not belong", "client_secret_env"),
        (PROFILE + f'[profiles.contoso.sign_in]\nkind = "client-secret"\nclient_id = "{APP}"\n'
         f'client_secret_env = "{SECRET}"', 8, "the name of an environment variable", "capitals"),
        (PROFILE + f'[profiles.contoso.sign_in]\nkind = "client-secret"\nclient_id = "{APP}"',
         5, "client_secret_env or client_secret_vault", ""),
        (PROFILE + '[profiles.contoso.sign_in]\nkind = "client-certificate"',
         5, "client-certificate needs client_id", ""),
        (PROFILE + '[profiles.contoso.sign_in]\nkind = "azure-cli"\ntoken_file = "x"',
         7, "azure-cli does not take token_file", ""),
        (PROFILE + '[profiles.contoso.sign_in]\nkind = "federated"\nassertion = "azure-pipelines"'
         f'\nclient_id = "{APP}"', 7, "needs service_connection_id", ""),
        (PROFILE + 'longest_gap = "20m"', 5, "'20m' is shorter than an hour", "72h"),
        (PROFILE + 'longest_gap = "long"', 5, "longest_gap: not a length of time", ""),
        ("a = [1,\n", 2, "broken TOML", ""),
        ("profiles = 3", 1, "expected tables", ""),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(text: str, line: int, words: str, hint: str) -> None:
    problem = refused(text)
    assert words in problem.message
    assert "p4ss" not in problem.message + (problem.hint or "")
    assert hint in (problem.hint or "")
    assert problem.location is not None
    assert (problem.location.path, problem.location.line) == ("c.toml", line)


FOUND_HERE = {
    "allow_billed_search": PROFILE + "allow_billed_search = true",
    "billed_tables": PROFILE + "billed_tables = []",
    "retention": PROFILE + "retention = '900d'",
    "hunts": PROFILE + "hunts = ['other']",
    "limits": PROFILE + "limits = { row_limit = 1 }",
    "workspace_resources": PROFILE + "workspace_resources = {}",
    **{
        host: PROFILE + f'{host} = "https://localhost"'
        for host in ("graph_endpoint", "log_analytics_endpoint", "authority", "ca_file")
    },
    "cluster": CLUSTER + "cluster = 'https://localhost'\ndatabase = 'D'",
    "database": CLUSTER + "database = 'D'\ncluster = 'https://localhost'",
    "tables": LAKE + "tables = 'external'",
    "token_file": PROFILE + "sign_in = { kind = 'workload-identity', token_file = '/x' }",
    "client_secret_vault": PROFILE + f"sign_in = {{ kind = 'client-secret', client_id = '{APP}', "
    "client_secret_vault = 'https://x.vault.azure.net/secrets/a' }",
    "hunts_folders": "hunts_folders = ['.']\n" + PROFILE,
    "deadline": "deadline = '1s'\n" + PROFILE,
    "sinks": PROFILE + "[sinks.a]\nkind = 'stdout'",
    "schedule": PROFILE + "[schedule]\nsign_in = 'login'",
}


@pytest.mark.parametrize("key", FOUND_HERE)
def test_a_file_of_the_current_folder_sets_only_who_is_hunted(key: str) -> None:
    parse(FOUND_HERE[key])
    problem = refused(FOUND_HERE[key], local=True)
    assert problem.message == f"{key}: a file found in the current folder cannot set it"
    assert "--config" in (problem.hint or "")
    assert problem.location is not None
    assert problem.location.path == "c.toml"


def test_every_other_key_of_the_configuration_is_refused_there() -> None:
    """A new setting is refused until somebody says that it can do no harm."""
    known = {*ConfigFile.__struct_fields__, *Profile.__struct_fields__, *SignIn.__struct_fields__}
    allowed = {key for keys in LOCAL_KEYS.values() for key in keys}
    assert allowed < known
    assert known - allowed >= {*FOUND_HERE}
    parse("default_profile = 'all'\n" + PROFILE + "cloud = 'usgov'\nlog_analytics_cloud = 'public'\n"
          "sign_in = { kind = 'login', account = 'a' }\n[groups]\nall = ['contoso']", local=True)  # fmt: skip


def test_the_first_file_of_four_places_is_taken(tmp_path: Path) -> None:
    user, current = tmp_path / "user", tmp_path / "here"
    user.mkdir()
    current.mkdir()

    def find(option: Path | None = None, **environment: str) -> Any:
        return find_config(option, environment, folder=user, current=current)

    assert find() is None
    (current / "qakhunt.toml").touch()
    assert find() == (current / "qakhunt.toml", True)
    (user / "config.toml").touch()
    assert find() == (user / "config.toml", False)
    assert find(QAKHUNT_CONFIG="/x") == (Path("/x"), False)
    assert find(Path("/y"), QAKHUNT_CONFIG="/x") == (Path("/y"), False)


def test_an_expected_tenant_without_a_profile_is_missing() -> None:
    other = TENANT.replace("1", "7")
    config = parse(f"expected_tenants = ['{TENANT.upper()}', '{other}']\n" + PROFILE)
    assert config.missing_tenants() == [other]


SEVERAL = (
    "[groups]\nboth = ['contoso', 'fabrikam']\n" + PROFILE + PROFILE.replace("contoso", "fabrikam")
)


def test_profiles_are_chosen_by_name_group_all_or_default() -> None:
    config = parse(SEVERAL)
    assert config.select(["fabrikam", "fabrikam"]) == ["fabrikam"]
    assert config.select(group="both") == ["contoso", "fabrikam"]
    assert config.select(everything=True) == ["contoso", "fabrikam"]
    assert parse("default_profile = 'both'\n" + SEVERAL).select() == ["contoso", "fabrikam"]
    assert parse("default_profile = 'fabrikam'\n" + SEVERAL).select() == ["fabrikam"]


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"names": ["contos"]}, "no profile named 'contos'", "did you mean 'contoso'?"),
        ({"names": ["zzzzzz"]}, "no profile named", "profiles: contoso, fabrikam"),
        ({"group": "bot"}, "no group named 'bot'", "did you mean 'both'?"),
        ({"names": ["contoso"], "everything": True}, "exclude each other", ""),
        ({}, "which profile? c.toml has contoso, fabrikam", "--all-profiles"),
    ],
)
def test_a_choice_that_is_none(options: dict[str, Any], words: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(SEVERAL).select(**options)
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_flag_beats_the_environment_beats_the_profile_beats_the_default() -> None:
    config = parse(PROFILE + "sign_in = 'azure-cli'\ncloud = 'usgov'\n")
    settings = effective(
        config, "contoso", environment={"QAKHUNT_CLOUD": "china", "QAKHUNT_SIGN_IN": "login"},
        flags={"sign_in": "managed-identity", "backend": None},
    )  # fmt: skip
    assert (settings.profile.cloud, settings.profile.sign_in) == ("china", "managed-identity")
    assert settings.sources["sign_in"] == "flag --sign-in"
    assert settings.sources["cloud"] == "environment QAKHUNT_CLOUD"
    assert settings.sources["tenant"] == "c.toml:3"
    assert settings.sources["ca_file"] == "default"


def test_another_kind_of_sign_in_drops_what_it_does_not_take() -> None:
    text = PROFILE + f'sign_in = {{ kind = "managed-identity", client_id = "{APP}" }}'
    kept = effective(parse(text), "contoso", environment={"QAKHUNT_SIGN_IN": "login"})
    assert kept.profile.sign_in_settings == SignIn(kind="login", client_id=APP)
    dropped = effective(parse(text), "contoso", environment={"QAKHUNT_SIGN_IN": "azure-cli"})
    assert dropped.profile.sign_in_settings == SignIn(kind="azure-cli")


def test_the_environment_alone_can_be_a_profile() -> None:
    environment = {
        "QAKHUNT_BACKEND": "log-analytics", "QAKHUNT_TENANT": TENANT,
        "QAKHUNT_WORKSPACES": f"{WORKSPACE}, {APP}", "QAKHUNT_ALLOW_BILLED_SEARCH": "true",
    }  # fmt: skip
    profile = effective(None, "environment", environment=environment).profile
    assert profile.workspaces == [WORKSPACE, APP]
    assert profile.allow_billed_search is True


CHECKED = {
    name
    for key, name in VARIABLES.items()
    if not key.endswith("_endpoint") and key not in {"authority", "ca_file"}
}


@pytest.mark.parametrize("variable", sorted(CHECKED))
def test_a_wrong_variable_is_named(variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        effective(parse(PROFILE), "contoso", environment={variable: "nonsense"})


def test_the_environment_does_not_move_many_profiles_to_one_tenant() -> None:
    with pytest.raises(ConfigError, match="several profiles at once"):
        effective(
            parse(SEVERAL), "contoso", environment={"QAKHUNT_TENANT": TENANT}, alone=False
        )  # fmt: skip


def test_what_is_shown_has_a_line_per_value() -> None:
    lines = shown(effective(parse(PROFILE), "contoso", environment={}))
    assert ("tenant", TENANT, "c.toml:3") in lines
    assert ("sign_in", "default", "default") in lines
    assert ("limits", "as the service documents", "default") in lines
