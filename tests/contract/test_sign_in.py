"""Every kind of sign-in, with the real libraries, against the emulator's Entra ID over TLS."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("duckdb_kql", reason="the emulator needs the embedded engine (Python 3.11)")
pytest.importorskip("uvicorn", reason="the emulator is an extra")

from azure.core.credentials import AccessTokenInfo

from qakhunt.backends.auth.credentials import TokenSource
from qakhunt.backends.auth.identity import Identity, SignIn, checked_authority, claims_of
from qakhunt.backends.auth.interactive import InteractiveSignIns
from qakhunt.backends.auth.workload import seconds_of
from qakhunt.core.errors import ConfigError, UnansweredError
from qakhunt.testing.emulator.replies import AADSTS
from qakhunt.testing.emulator.scenario import App, FaultRule, LoadedScenario, Scenario, Tenant
from qakhunt.testing.emulator.server import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOME = "aaaaaaaa-0000-4000-8000-000000000001"
CUSTOMER = "aaaaaaaa-0000-4000-8000-000000000002"
APP = "cccccccc-0000-4000-8000-000000000001"
SECRET = "planted~secret.7b1e"
LOG_ANALYTICS = "https://api.loganalytics.io/.default"
GRAPH = "https://graph.microsoft.com/.default"
SIGN_IN_ERRORS = [code for code in AADSTS if code != "AADSTS70016"]


def tenant_of_error(code: str) -> str:
    return f"eeeeeeee-0000-4000-8000-{int(code.removeprefix('AADSTS')):012d}"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    failing = [
        Tenant(id=tenant_of_error(code), faults=(FaultRule(fault=code),)) for code in SIGN_IN_ERRORS
    ]
    expired = FaultRule(fault="expires-on-text", paths=("managed-identity",), calls="1-")
    scenario = Scenario(
        tenants=(
            Tenant(id=HOME, faults=(expired,)),
            Tenant(id=CUSTOMER),
            *failing,
        ),
        apps=(App(client_id=APP, secret=SECRET), App("04b07795-8ddb-461a-bbee-02f9e1bf7b46")),
    )
    folder: Path = tmp_path_factory.mktemp("emulator")
    with Emulator(LoadedScenario(scenario, folder), tls=True, host="localhost") as served:
        yield served


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_", "ACTIONS_", "SYSTEM_")) or name in (
            "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy",
        ):  # fmt: skip
            monkeypatch.delenv(name)
    return monkeypatch


def identity(emulator: Emulator, tenant: str = CUSTOMER, **sign_in: Any) -> Identity:
    cache = sign_in.pop("cache", None)
    ask = sign_in.pop("ask", None)
    return Identity(
        SignIn(**sign_in), tenant, emulator.url, "public", str(emulator.ca), cache, ask
    )  # fmt: skip


def signed_in(source: TokenSource, tenant: str = CUSTOMER, scope: str = GRAPH) -> dict[str, Any]:
    try:
        claims = claims_of(source.get_token_info(scope).token)
    finally:
        source.close()
    assert (claims["tid"], claims["aud"]) == (tenant, scope.removesuffix("/.default"))
    return claims


def test_a_client_secret_from_the_environment(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("HUNTER", SECRET)
    who = identity(emulator, kind="client-secret", client_id=APP, client_secret_env="HUNTER")
    assert signed_in(TokenSource(who))["appid"] == APP


def test_a_secret_that_is_not_there_names_its_variable(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    who = identity(emulator, kind="client-secret", client_id=APP, client_secret_env="HUNTER")
    with pytest.raises(ConfigError, match="variable HUNTER is not set"):
        TokenSource(who).get_token_info(GRAPH)


def test_a_wrong_secret_is_told_and_never_shown(
    emulator: Emulator, clean: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wrong-planted-9d"
    clean.setenv("HUNTER", wrong)
    who = identity(emulator, kind="client-secret", client_id=APP, client_secret_env="HUNTER")
    source = TokenSource(who)
    with caplog.at_level(logging.DEBUG), pytest.raises(UnansweredError) as caught:
        source.get_token_info(GRAPH)
    source.close()
    assert "the client secret is wrong (AADSTS7000215)" in caught.value.message
    assert wrong not in "\n".join(r.getMessage() for r in caplog.records) + repr(caught.value)


@pytest.mark.parametrize("password", [None, "planted-password"])
def test_a_certificate(
    emulator: Emulator, clean: pytest.MonkeyPatch, tmp_path: Path, password: str | None
) -> None:
    path = write_certificate(tmp_path, password)
    if password:
        clean.setenv("CERT_PASSWORD", password)
    who = identity(
        emulator, kind="client-certificate", client_id=APP, certificate_path=str(path),
        certificate_password_env="CERT_PASSWORD" if password else None,
    )  # fmt: skip
    signed_in(TokenSource(who))


def write_certificate(folder: Path, password: str | None, *, key: bool = True) -> Path:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hunter")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(private.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )  # fmt: skip
    lock: Any = (
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption()
    )
    data = certificate.public_bytes(serialization.Encoding.PEM)
    if key:
        data += private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock
        )
    path = folder / "hunter.pem"
    path.write_bytes(data)
    return path


def test_a_certificate_without_its_key_or_file_is_told(
    emulator: Emulator, clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_certificate(tmp_path, None, key=False)
    for name, words in ((path, "private key"), (tmp_path / "none.pem", "cannot read")):
        who = identity(
            emulator, kind="client-certificate", client_id=APP, certificate_path=str(name)
        )
        with pytest.raises(ConfigError, match=words):
            TokenSource(who).get_token_info(GRAPH)


def test_a_managed_identity_of_an_endpoint_that_gives_a_date(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("IDENTITY_ENDPOINT", f"{emulator.url}/msi/token")
    clean.setenv("IDENTITY_HEADER", "planted-header")
    who = identity(emulator, HOME, kind="managed-identity", client_id=APP)
    source = TokenSource(who)
    info = source.get_token_info(LOG_ANALYTICS)
    assert claims_of(info.token)["appid"] == APP
    assert 3000 < info.expires_on - claims_of(info.token)["iat"] <= 3700
    signed_in(source, HOME, LOG_ANALYTICS)


def test_a_managed_identity_of_a_hybrid_worker(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("MSI_ENDPOINT", f"{emulator.url}/msi/token")
    clean.setenv("MSI_SECRET", "planted-msi-secret")
    signed_in(TokenSource(identity(emulator, HOME, kind="managed-identity")), HOME)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1795507200", 1_795_507_200),
        (1_795_507_200, 1_795_507_200),
        ("11/24/2026 08:00:00 +00:00", 1_795_507_200),
        ("11/24/2026 8:00:00 AM +00:00", 1_795_507_200),
        ("11/24/2026 08:00:00 PM +00:00", 1_795_550_400),
        ("2026-11-24T08:00:00Z", 1_795_507_200),
    ],
)
def test_every_known_form_of_the_expiry_is_read(text: Any, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_a_managed_identity_vouches_for_an_app_in_a_customers_tenant(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("IDENTITY_ENDPOINT", f"{emulator.url}/msi/token")
    clean.setenv("IDENTITY_HEADER", "planted-header")
    who = identity(emulator, kind="federated", client_id=APP, assertion="managed-identity")
    assert signed_in(TokenSource(who))["appid"] == APP


def test_a_github_job_vouches_with_a_fresh_assertion_each_time(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{emulator.url}/oidc/github?api-version=2")
    clean.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "planted-job-token")
    who = identity(emulator, kind="federated", client_id=APP, assertion="github")
    source = TokenSource(who)
    before = asked_for_assertions(emulator)
    first = source.get_token_info(GRAPH)
    source.renew(f"Bearer {first.token}")
    assert source.get_token_info(GRAPH).token != first.token
    assert asked_for_assertions(emulator) == before + 2
    source.close()


def asked_for_assertions(emulator: Emulator) -> int:
    return sum(call.path == "federation" for call in emulator.calls)


def test_a_job_without_the_right_to_ask_is_told(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    source = TokenSource(identity(emulator, kind="federated", client_id=APP, assertion="github"))
    with pytest.raises(ConfigError) as caught:
        source.get_token_info(GRAPH)
    assert caught.value.hint == "permissions: id-token: write, in the workflow"
    source.close()


def test_an_azure_pipelines_job_vouches(emulator: Emulator, clean: pytest.MonkeyPatch) -> None:
    clean.setenv("SYSTEM_OIDCREQUESTURI", f"{emulator.url}/oidc/pipelines")
    clean.setenv("SYSTEM_ACCESSTOKEN", "planted-pipeline-token")
    who = identity(
        emulator, kind="federated", client_id=APP, assertion="azure-pipelines",
        service_connection_id=APP,
    )  # fmt: skip
    signed_in(TokenSource(who))


def test_a_workload_identity(emulator: Emulator, clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(
        emulator.emulation.issuer.issue(HOME, "api://AzureADTokenExchange", sub="pod")
    )
    who = identity(
        emulator, kind="workload-identity", client_id=APP, token_file=str(tmp_path / "token")
    )
    signed_in(TokenSource(who))


def test_the_default_chain_says_what_was_tried_and_why_each_failed(
    emulator: Emulator, clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean.setenv("PATH", str(tmp_path))  # no az, azd or pwsh
    clean.setenv("HOME", str(tmp_path))
    clean.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://localhost:1")
    source = TokenSource(identity(emulator, kind="default"))
    with pytest.raises(UnansweredError) as caught:
        source.get_token_info(GRAPH)
    source.close()
    assert caught.value.message.startswith("no sign-in possible. Tried ")
    for part in ("Environment: ", "Managed Identity: ", "Azure Cli: "):
        assert part in caught.value.message
    assert caught.value.hint is not None


def test_the_default_chain_takes_the_environment(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("AZURE_TENANT_ID", HOME)
    clean.setenv("AZURE_CLIENT_ID", APP)
    clean.setenv("AZURE_CLIENT_SECRET", SECRET)
    signed_in(TokenSource(identity(emulator, kind="default")))


def test_an_azure_cli_that_is_not_there_is_told(
    emulator: Emulator, clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean.setenv("PATH", str(tmp_path))
    with pytest.raises(UnansweredError) as caught:
        TokenSource(identity(emulator, kind="azure-cli")).get_token_info(GRAPH)
    assert "no sign-in by azure-cli" in caught.value.message
    assert caught.value.hint == "az login --tenant TENANT"


@pytest.mark.parametrize("code", SIGN_IN_ERRORS)
def test_what_entra_says_becomes_a_sentence_and_a_mend(
    emulator: Emulator, clean: pytest.MonkeyPatch, code: str
) -> None:
    clean.setenv("HUNTER", SECRET)
    tenant = tenant_of_error(code)
    who = identity(
        emulator, tenant, kind="client-secret", client_id=APP, client_secret_env="HUNTER"
    )
    source = TokenSource(who)
    with pytest.raises(UnansweredError) as caught:
        source.get_token_info(GRAPH)
    source.close()
    assert caught.value.message.endswith(f"({code})")
    assert "Trace ID" not in caught.value.message
    assert caught.value.hint
    assert "{" not in caught.value.hint


def test_an_entra_id_that_cannot_be_reached_is_told(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("HUNTER", SECRET)
    who = Identity(
        SignIn(kind="client-secret", client_id=APP, client_secret_env="HUNTER"),
        CUSTOMER, "https://localhost:1",
    )  # fmt: skip
    source = TokenSource(who)
    with pytest.raises(UnansweredError, match="refuses the connection"):
        source.get_token_info(GRAPH)
    source.close()


def test_one_sign_in_of_an_analyst_serves_many_tenants(
    emulator: Emulator, clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[str] = []
    analysts = InteractiveSignIns(identity(emulator, HOME, kind="login", cache=tmp_path), "plain")
    assert analysts.sign_in_by_code(LOG_ANALYTICS, shown.append) == "analyst@contoso.example"
    assert "enter the code" in shown[0]
    assert [account.name for account in analysts.accounts()] == ["analyst@contoso.example"]
    for tenant in (HOME, CUSTOMER):
        who = identity(emulator, tenant, kind="login", cache=tmp_path)
        for scope in (GRAPH, LOG_ANALYTICS):
            signed_in(TokenSource(who), tenant, scope)
    assert (tmp_path / "sign-ins.json").stat().st_mode & 0o077 == 0
    assert analysts.sign_out() == ["analyst@contoso.example"]
    analysts.close()
    assert not (tmp_path / "sign-ins.json").exists()
    source = TokenSource(identity(emulator, kind="login", cache=tmp_path))
    with pytest.raises(UnansweredError) as caught:
        source.get_token_info(GRAPH)
    source.close()
    assert caught.value.message == "no sign-in: nobody is signed in"
    assert caught.value.hint == f"qakhunt login --tenant {CUSTOMER}"


def test_a_rejected_token_of_an_analyst_is_renewed(
    emulator: Emulator, clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    who = identity(emulator, HOME, kind="login", cache=tmp_path)
    analysts = InteractiveSignIns(who, "plain")
    analysts.sign_in_by_code(GRAPH, lambda _: None)
    analysts.close()
    source = TokenSource(who)
    first = source.get_token_info(GRAPH)
    assert source.get_token_info(GRAPH).token == first.token
    source.renew(f"Bearer {first.token}")
    assert source.get_token_info(GRAPH).token != first.token
    source.close()


def test_a_person_is_asked_where_nobody_is_signed_in(
    emulator: Emulator, clean: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    who = identity(emulator, kind="login", ask=shown.append)
    signed_in(TokenSource(who))
    assert len(shown) == 1


class Counting:
    """A credential that hands out tokens of a given life."""

    def __init__(self, life: float, clock: list[float]) -> None:
        self.life, self.clock, self.fetched = life, clock, 0
        self.fails = False

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        if self.fails:
            raise RuntimeError("Entra ID is away")
        self.fetched += 1
        return AccessTokenInfo(f"token-{self.fetched}", int(self.clock[0] + self.life))


def counting_source(life: float) -> tuple[TokenSource, Counting, list[float]]:
    clock = [1000.0]
    made = Counting(life, clock)
    who = Identity(SignIn(kind="azure-cli"), CUSTOMER, "https://localhost")
    return TokenSource(who, build=lambda _: made, wall=lambda: clock[0]), made, clock


def test_a_token_is_fetched_once_per_audience_by_however_many_threads() -> None:
    source, made, _ = counting_source(3600)
    threads = [
        threading.Thread(target=source.get_token_info, args=(scope,))
        for scope in (GRAPH, LOG_ANALYTICS) * 8
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.fetched == 2


def test_a_token_is_refreshed_before_it_ends_and_kept_when_that_fails() -> None:
    source, made, clock = counting_source(3600)
    first = source.get_token_info(GRAPH).token
    clock[0] += 3600 - 301
    assert source.get_token_info(GRAPH).token == first
    clock[0] += 2
    assert source.get_token_info(GRAPH).token == "token-2"
    clock[0] += 3600 - 200
    made.fails = True
    assert source.get_token_info(GRAPH).token == "token-2"
    clock[0] += 150
    with pytest.raises(UnansweredError, match="Entra ID is away"):
        source.get_token_info(GRAPH)


def test_only_a_rejected_token_is_dropped() -> None:
    source, made, _ = counting_source(3600)
    source.get_token_info(GRAPH)
    source.renew("Bearer another")
    assert source.get_token_info(GRAPH).token == "token-1"
    source.renew("Bearer token-1")
    source.renew("Bearer token-1")
    assert source.get_token_info(GRAPH).token == "token-2"
    assert made.fetched == 2


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://login.evil.example", "no host of this profile's cloud"),
        ("http://localhost:5", "over https only"),
        ("https://login.microsoftonline.us", "no host"),
    ],
)
def test_a_secret_goes_to_no_other_authority(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        checked_authority(url, "login.microsoftonline.com")


def test_claims_are_read_without_a_key() -> None:
    import base64

    body = base64.urlsafe_b64encode(json.dumps({"tid": "x"}).encode()).rstrip(b"=").decode()
    assert claims_of(f"h.{body}.s") == {"tid": "x"}
    assert claims_of("no token at all") == {}
