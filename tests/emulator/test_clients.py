"""The vendor's own clients against the emulator, over TLS on loopback, and plain curl."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.monitor.query import (
    LogsBatchQuery,
    LogsQueryClient,
    LogsQueryError,
    LogsQueryPartialResult,
    LogsQueryResult,
    LogsQueryStatus,
)

from qakhunt.testing.emulator.scenario import App, FaultRule, Limits
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import (
    APP,
    GRAPH,
    LOG_ANALYTICS,
    fetch,
    guid,
    scenario_of,
    tenant_of,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OCTOBER = (
    dt.datetime(2026, 10, 1, tzinfo=dt.timezone.utc),
    dt.datetime(2026, 11, 1, tzinfo=dt.timezone.utc),
)
SECRET = "only-for-the-emulator"
FAULTY = (
    "AADSTS65001", "AADSTS7000222", "AADSTS53003", "AADSTS90002",
    "expires-on-text", "partial", "semantic-error",
)  # fmt: skip


@pytest.fixture(scope="module")
def emulator(events: str) -> Iterator[Emulator]:
    tenants = [
        tenant_of("home", events),
        tenant_of("customer", events),
        tenant_of("small", events, limits=Limits(rows=7)),
        *(tenant_of(name, events, faults=(FaultRule(fault=name),)) for name in FAULTY),
    ]
    scenario = scenario_of(*tenants, apps=(App(client_id=APP, secret=SECRET),))
    with Emulator(scenario, tls=True) as served:
        yield served


def settings(emulator: Emulator) -> dict[str, Any]:
    return {
        "authority": emulator.url,
        "disable_instance_discovery": True,
        "connection_verify": str(emulator.ca),
    }


def secret_credential(emulator: Emulator, tenant: str, secret: str = SECRET) -> Any:
    return ClientSecretCredential(guid("tenant", tenant), APP, secret, **settings(emulator))


def logs_client(emulator: Emulator, credential: Any) -> LogsQueryClient:
    return LogsQueryClient(
        credential, endpoint=emulator.url, audience=LOG_ANALYTICS,
        connection_verify=str(emulator.ca), retry_total=0,
    )  # fmt: skip


HARD_TYPES = """print
  text = 'Grüße "x"', whole = long(9007199254740993), fraction = 1.5, yes = true,
  moment = datetime(2026-10-01T00:00:00.1234560Z), span = 1d + 2h, nothing = long(null),
  thing = dynamic({"a": [1, null, "ü"]})"""


def first_table(answer: LogsQueryResult | LogsQueryPartialResult) -> Any:
    assert isinstance(answer, LogsQueryResult)
    return answer.tables[0]


def test_the_sdk_reads_every_type(emulator: Emulator) -> None:
    with logs_client(emulator, secret_credential(emulator, "home")) as client:
        answer = client.query_workspace(guid("workspace", "home"), HARD_TYPES, timespan=OCTOBER)
    assert answer.status == LogsQueryStatus.SUCCESS
    row = first_table(answer).rows[0]
    found = dict(zip(first_table(answer).columns, row, strict=True))
    assert found == {
        "text": 'Grüße "x"', "whole": 9007199254740993, "fraction": 1.5, "yes": True,
        "moment": dt.datetime(2026, 10, 1, 0, 0, 0, 123456, tzinfo=dt.timezone.utc),
        "span": "1.02:00:00", "nothing": None, "thing": '{"a":[1,null,"ü"]}',
    }  # fmt: skip


def test_the_sdk_s_time_span_is_honoured(emulator: Emulator) -> None:
    day = dt.datetime(2026, 10, 3, tzinfo=dt.timezone.utc)
    with logs_client(emulator, secret_credential(emulator, "home")) as client:
        answer = client.query_workspace(
            guid("workspace", "home"),
            "DeviceProcessEvents | summarize count(), min(TimeGenerated) by TenantId",
            timespan=(day, day + dt.timedelta(days=2)),
        )
    rows = [list(row) for row in first_table(answer).rows]
    first = day + dt.timedelta(hours=8, microseconds=123456)
    assert rows == [[guid("workspace", "home"), 8, first]]


def test_the_sdk_s_batch_is_answered_query_by_query(emulator: Emulator) -> None:
    texts = ("DeviceProcessEvents | count", "Nonesuch | count")
    wanted = [("home", text) for text in texts] + [("small", "print 1")]
    with logs_client(emulator, secret_credential(emulator, "home")) as client:
        answers = client.query_batch([
            LogsBatchQuery(workspace_id=guid("workspace", name), query=text, timespan=OCTOBER)
            for name, text in wanted
        ])  # fmt: skip
    good, unknown, foreign = answers
    assert not isinstance(good, LogsQueryError)
    assert first_table(good).rows[0][0] == 40
    assert isinstance(unknown, LogsQueryError)
    assert isinstance(foreign, LogsQueryError)
    assert "Failed to resolve table or column expression named 'Nonesuch'" in str(unknown)
    assert foreign.code == "InsufficientAccessError"
    calls = [call for call in emulator.calls if call.query in texts]
    assert {call.status for call in calls[-2:]} == {200, 400}


def test_the_sdk_sees_a_partial_error(emulator: Emulator) -> None:
    for name, rows in (("partial", 20), ("small", 7)):
        with logs_client(emulator, secret_credential(emulator, name)) as client:
            answer = client.query_workspace(
                guid("workspace", name), "DeviceProcessEvents", timespan=OCTOBER
            )
        assert isinstance(answer, LogsQueryPartialResult)
        assert answer.partial_error is not None
        assert answer.partial_error.code == "PartialError"
        assert len(answer.partial_data[0].rows) == rows


def test_the_sdk_raises_the_services_own_words(emulator: Emulator) -> None:
    with (
        logs_client(emulator, secret_credential(emulator, "semantic-error")) as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.query_workspace(
            guid("workspace", "semantic-error"), "DeviceProcessEvents", timespan=OCTOBER
        )
    assert caught.value.status_code == 400
    assert "Nonesuch" in str(caught.value)


def test_statistics_and_visualisation_are_there_when_asked_for(emulator: Emulator) -> None:
    with logs_client(emulator, secret_credential(emulator, "home")) as client:
        answer = client.query_workspace(
            guid("workspace", "home"), "DeviceProcessEvents | count", timespan=OCTOBER,
            include_statistics=True, include_visualization=True,
        )  # fmt: skip
    assert answer.statistics
    assert answer.visualization is not None


def test_a_token_of_another_tenant_does_not_open_the_workspace(emulator: Emulator) -> None:
    with (
        logs_client(emulator, secret_credential(emulator, "customer")) as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.query_workspace(guid("workspace", "home"), "DeviceProcessEvents", timespan=OCTOBER)
    assert caught.value.status_code == 403


def _certificate(emulator: Emulator, folder: Path) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "app")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "app.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return CertificateCredential(guid("tenant", "home"), APP, str(path), **settings(emulator))


def _github(emulator: Emulator, folder: Path) -> Any:
    def assertion() -> str:
        path = "/oidc/github?audience=api://AzureADTokenExchange"
        _, _, body = fetch(emulator, path, authorization="Bearer job")
        return str(json.loads(body)["value"])

    return ClientAssertionCredential(guid("tenant", "home"), APP, assertion, **settings(emulator))


def _workload(emulator: Emulator, folder: Path) -> Any:
    path = folder / "assertion"
    _, _, body = fetch(emulator, "/oidc/github", authorization="Bearer job")
    path.write_text(json.loads(body)["value"])
    return WorkloadIdentityCredential(
        tenant_id=guid("tenant", "home"), client_id=APP, token_file_path=str(path),
        **settings(emulator),
    )  # fmt: skip


@pytest.mark.parametrize("build", [_certificate, _github, _workload])
def test_credentials_without_a_secret_get_a_token_that_opens_the_workspace(
    emulator: Emulator, tmp_path: Path, build: Callable[[Emulator, Path], Any]
) -> None:
    with logs_client(emulator, build(emulator, tmp_path)) as client:
        answer = client.query_workspace(
            guid("workspace", "home"), "DeviceProcessEvents | count", timespan=OCTOBER
        )
    assert first_table(answer).rows[0][0] == 40


def test_a_managed_identity_s_assertion_gets_a_token_of_a_customer(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{emulator.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header")
    identity = ManagedIdentityCredential(client_id=APP, connection_verify=str(emulator.ca))
    credential = ClientAssertionCredential(
        guid("tenant", "customer"), APP,
        lambda: identity.get_token("api://AzureADTokenExchange/.default").token,
        **settings(emulator),
    )  # fmt: skip
    claims = emulator.emulation.issuer.read(credential.get_token(f"{GRAPH}/.default").token)
    assert claims is not None
    assert (claims["tid"], claims["aud"]) == (guid("tenant", "customer"), GRAPH)
    assert claims["roles"] == ["ThreatHunting.Read.All"]


IDENTITY_SETTINGS = {
    "app-service": {"IDENTITY_ENDPOINT": "{url}/msi/token", "IDENTITY_HEADER": "header"},
    "azure-ml": {"MSI_ENDPOINT": "{url}/msi/token", "MSI_SECRET": "secret"},
    "cloud-shell": {"MSI_ENDPOINT": "{url}/msi/token"},
    "imds": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "{url}"},
}


@pytest.fixture(params=sorted(IDENTITY_SETTINGS))
def machine(
    request: pytest.FixtureRequest, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> str:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in IDENTITY_SETTINGS[request.param].items():
        monkeypatch.setenv(name, value.format(url=emulator.url))
    return str(request.param)


def test_managed_identity_in_all_its_forms(emulator: Emulator, machine: str) -> None:
    credential = ManagedIdentityCredential(connection_verify=str(emulator.ca))
    with logs_client(emulator, credential) as client:
        answer = client.query_workspace(
            guid("workspace", "home"), "DeviceProcessEvents | count", timespan=OCTOBER
        )
    assert first_table(answer).rows[0][0] == 40


def test_an_expiry_in_words_is_what_msal_stumbles_over(
    events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = tenant_of("worded", events, faults=(FaultRule(fault="expires-on-text"),))
    with Emulator(scenario_of(tenant)) as served:
        _, _, body = fetch(
            served, f"/msi/token?api-version=2019-08-01&resource={GRAPH}", x_identity_header="x"
        )
        assert json.loads(body)["expires_on"].endswith(" +00:00")
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{served.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        with pytest.raises((ValueError, ClientAuthenticationError)):
            ManagedIdentityCredential().get_token(f"{GRAPH}/.default")


@pytest.mark.parametrize("code", [name for name in FAULTY if name.startswith("AADSTS")])
def test_entra_s_errors_arrive_with_their_code(emulator: Emulator, code: str) -> None:
    with pytest.raises(ClientAuthenticationError, match=code):
        secret_credential(emulator, code).get_token(f"{GRAPH}/.default")


def test_a_wrong_secret_and_an_unknown_app_are_refused(emulator: Emulator) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        secret_credential(emulator, "home", "wrong").get_token(f"{GRAPH}/.default")
    stranger = ClientSecretCredential(
        guid("tenant", "home"), guid("app"), SECRET, **settings(emulator)
    )
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
        stranger.get_token(f"{GRAPH}/.default")


def msal_app(emulator: Emulator, tenant: str = "organizations", cache: Any = None) -> Any:
    import msal

    return msal.PublicClientApplication(
        APP, authority=f"{emulator.url}/{tenant}", instance_discovery=False,
        verify=str(emulator.ca), token_cache=cache,
    )  # fmt: skip


def test_msal_signs_in_once_and_serves_many_tenants(emulator: Emulator) -> None:
    app = msal_app(emulator)
    scopes = [f"{GRAPH}/ThreatHunting.Read.All"]
    flow = app.initiate_device_flow(scopes)
    flow["interval"] = 0
    assert flow["user_code"] in flow["message"]
    assert "access_token" in app.acquire_token_by_device_flow(flow)
    (account,) = app.get_accounts()
    assert account["username"] == "analyst@contoso.example"
    for name in ("home", "customer"):
        # msal takes no authority per call: an app per tenant over one cache.
        here = msal_app(emulator, guid("tenant", name), app.token_cache)
        result = here.acquire_token_silent(scopes, account)
        claims = emulator.emulation.issuer.read(result["access_token"])
        assert claims is not None
        assert claims["tid"] == guid("tenant", name)
        assert claims["scp"] == "ThreatHunting.Read.All"


@pytest.mark.filterwarnings("ignore:response_mode=:UserWarning")
def test_msal_signs_in_through_the_browser(emulator: Emulator) -> None:
    app = msal_app(emulator, guid("tenant", "home"))
    flow = app.initiate_auth_code_flow(
        [f"{GRAPH}/.default"], redirect_uri="http://localhost:1/back"
    )
    answered = _location(emulator, flow["auth_uri"])
    result = app.acquire_token_by_auth_code_flow(flow, answered)
    assert result["id_token_claims"]["preferred_username"] == "analyst@contoso.example"


def _location(emulator: Emulator, url: str) -> dict[str, str]:
    """The query string that the sign-in page sends the browser back with."""
    import urllib.parse

    import requests

    answer = requests.get(url, verify=str(emulator.ca), allow_redirects=False, timeout=30)
    assert answer.status_code == 302
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(answer.headers["location"]).query))


def test_msal_finds_the_instance_by_discovery(emulator: Emulator) -> None:
    import msal

    app = msal.PublicClientApplication(
        APP, authority=f"{emulator.url}/{guid('tenant', 'home')}",
        instance_discovery=f"{emulator.url}/common/discovery/instance", verify=str(emulator.ca),
    )  # fmt: skip
    assert app.authority.token_endpoint.startswith(emulator.url)


def test_the_published_keys_verify_the_tokens(emulator: Emulator) -> None:
    import jwt

    token = secret_credential(emulator, "home").get_token(f"{GRAPH}/.default").token
    _, _, body = fetch(emulator, f"/{guid('tenant', 'home')}/discovery/v2.0/keys")
    (key,) = jwt.PyJWKSet.from_dict(json.loads(body)).keys
    assert jwt.decode(token, key.key, algorithms=["RS256"], audience=GRAPH)["appid"] == APP


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reads_both_services(emulator: Emulator) -> None:
    def curl(path: str, audience: str, body: dict[str, str]) -> Any:
        token = secret_credential(emulator, "home").get_token(f"{audience}/.default").token
        done = subprocess.run(
            ["curl", "-sS", "--fail", "--cacert", str(emulator.ca),
             "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json",
             "-d", json.dumps(body), emulator.url + path],
            capture_output=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    path = f"/v1/workspaces/{guid('workspace', 'home')}/query"
    found = curl(path, LOG_ANALYTICS, {"query": "DeviceProcessEvents | count", "timespan": "P900D"})
    assert found["tables"][0]["rows"] == [[40]]
    span = "2026-10-01/2026-10-02"
    body = {"Query": "DeviceProcessEvents | distinct DeviceName", "Timespan": span}
    found = curl("/v1.0/security/runHuntingQuery", GRAPH, body)
    assert sorted(row["DeviceName"] for row in found["results"]) == [
        f"pc-{n}.contoso.example" for n in range(4)
    ]
