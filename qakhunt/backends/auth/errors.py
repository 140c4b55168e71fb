"""Why a sign-in failed, as a sentence and a hint."""

from __future__ import annotations

import re
from json import JSONDecodeError

from qakhunt.answers.response import without_tokens
from qakhunt.backends.connection_faults import causes
from qakhunt.backends.connection_faults import explain as explain_connection
from qakhunt.core.errors import UnansweredError

_LOGIN = "sign in again: qakhunt login --tenant {tenant}"
_CONSENT = (
    "an administrator of the tenant has to consent: "
    "https://{authority}/{tenant}/adminconsent?client_id={client}"
)
_SECRET = "make a new secret for the app registration and put it where the profile looks for it"  # noqa: S105 - advice
_FEDERATION = "check the app's federated credentials: issuer, subject and audience must be exact"

_AADSTS: dict[str, tuple[str, str]] = {
    "65001": ("nobody consented to the app in this tenant", _CONSENT),
    "65002": (
        "this first-party app may not ask for that permission",
        "name your own app registration: client_id under sign_in",
    ),
    "65004": ("consent was declined", _CONSENT),
    "70011": ("the permission asked for does not exist", "check the profile's cloud"),
    "500011": (
        "the service asked for is not known in this tenant",
        "check the tenant id and the profile's cloud",
    ),
    "700016": (
        "the app is not known in this tenant",
        "check client_id and tenant; a multi-tenant app needs consent here first: " + _CONSENT,
    ),
    "7000229": ("the app has no service principal in this tenant", _CONSENT),
    "7000112": ("the app is disabled in this tenant", "have it enabled under Enterprise apps"),
    "50194": ("the app is not multi-tenant", "register it as multi-tenant, or use its own tenant"),
    "90002": ("there is no such tenant in this cloud", "check the tenant id and the cloud"),
    "900023": ("the tenant id is malformed", "it is a GUID or a domain"),
    "7000215": (
        "the client secret is wrong",
        "the secret's value is needed, not its id; " + _SECRET,
    ),
    "7000222": ("the client secret has expired", _SECRET),
    "7000218": (
        "the app asks for a secret or certificate",
        "for people: allow public client flows in the app registration",
    ),
    "700027": (
        "the certificate or assertion is not accepted",
        "upload this certificate to the app registration; has it expired?",
    ),
    "700024": (
        "the assertion is outside its time",
        "is this machine's clock right? qakhunt doctor compares it",
    ),
    "70021": ("no federated credential of the app fits", _FEDERATION),
    "700211": ("no federated credential has this issuer", _FEDERATION),
    "700212": ("no federated credential has this audience", _FEDERATION),
    "700213": ("no federated credential has this subject", _FEDERATION),
    "53000": ("conditional access asks for a compliant device", "use one, or another account"),
    "53003": (
        "conditional access blocks this sign-in",
        "the tenant's sign-in log says which policy; ask for an exception for this app or place",
    ),
    "530003": ("conditional access asks for a managed device", "use one, or another account"),
    "50076": ("a second factor is needed", _LOGIN),
    "50079": ("a second factor has to be set up", _LOGIN),
    "50058": ("nobody is signed in", _LOGIN),
    "50105": ("the account is not assigned to the app", "have it assigned under Enterprise apps"),
    "50020": ("the account is no guest of this tenant", "have it invited, or use GDAP"),
    "50034": ("the account does not exist in this tenant", "check the account and the tenant"),
    "50055": ("the password has expired", "change it, then: " + _LOGIN),
    "50057": ("the account is disabled", "have it enabled"),
    "50126": ("the user name or password is wrong", _LOGIN),
    "50173": ("the sign-in was revoked", _LOGIN),
    "70008": ("the sign-in has expired", _LOGIN),
    "700082": ("the sign-in has expired: it was not used for too long", _LOGIN),
    "70016": ("the device code was not confirmed in time", _LOGIN),
    "70020": ("the device code was not confirmed in time", _LOGIN),
    "90094": ("only an administrator may consent to the app", _CONSENT),
}

_CODE = re.compile(r"AADSTS(\d{4,8})")
_NOISE = re.compile(r"\s*(?:Trace ID|Correlation ID|Timestamp|Client app ID)\b.*", re.DOTALL)
_CHAIN_PART = re.compile(r"^\s+(\w+Credential): (.*)$", re.MULTILINE)
_NO_AUTHORITY = "Unable to get authority configuration"  # all that MSAL says of it
_LONGEST = 300


def sign_in_error(
    problem: BaseException, *, kind: str, tenant: str, client: str | None, authority: str
) -> UnansweredError:
    """The error for a failed sign-in of ``kind``, whatever library raised it."""
    text = str(problem)
    from azure.core.exceptions import DecodeError

    code = _CODE.search(text)
    if code:
        return entra_error(text, tenant=tenant, client=client, authority=authority)
    if any(isinstance(cause, (JSONDecodeError, DecodeError)) for cause in causes(problem)):
        return UnansweredError(
            f"no sign-in: what answered at {authority} is not Entra ID",
            hint="a proxy or a captive portal shows a page of its own: check HTTPS_PROXY",
        )
    if _NO_AUTHORITY in text:
        return entra_error("AADSTS90002", tenant=tenant, client=client, authority=authority)
    parts = _CHAIN_PART.findall(text)
    if parts:
        tried = "; ".join(f"{_kind(name)}: {_first_sentence(words)}" for name, words in parts)
        return UnansweredError(
            f"no sign-in possible. Tried {tried}",
            hint="choose one: sign_in in the profile, or 'qakhunt login'",
        )
    if _is_of_the_connection(problem):
        fault = explain_connection(problem, authority)
        return UnansweredError(f"no sign-in: {fault.message}", hint=fault.hint or None)
    hint = _HINTS.get(kind)
    return UnansweredError(f"no sign-in by {kind}: {_first_sentence(text)}", hint=hint)


_HINTS = {
    "azure-cli": "az login --tenant TENANT",
    "managed-identity": "has this machine or runbook a managed identity? is client_id right?",
    "client-certificate": "the file must hold the certificate and its private key",
    "workload-identity": "is the pod labelled azure.workload.identity/use, its account annotated?",
}


def entra_error(text: str, *, tenant: str, client: str | None, authority: str) -> UnansweredError:
    """The error for what Entra ID said, by its AADSTS code."""
    code = _CODE.search(text)
    number = code[1] if code else ""
    if number in _AADSTS:
        sentence, fix = _AADSTS[number]
        hint = fix.format(tenant=tenant, client=client or "CLIENT_ID", authority=authority)
        return UnansweredError(f"no sign-in: {sentence} (AADSTS{number})", hint=hint)
    return UnansweredError(f"no sign-in: {_first_sentence(text)}")


def _is_of_the_connection(problem: BaseException) -> bool:
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    return any(
        isinstance(cause, (ServiceRequestError, ServiceResponseError, OSError))
        or type(cause).__module__.startswith(("requests.", "urllib3."))
        for cause in causes(problem)
    )


def _kind(credential: str) -> str:
    """``AzureCliCredential`` -> ``Azure Cli``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", credential.removesuffix("Credential"))


def _first_sentence(text: str) -> str:
    flat = re.sub(r"\s+", " ", _NOISE.sub("", without_tokens(text))).strip()
    sentence = re.split(r"(?<=[.!?])\s", flat, maxsplit=1)[0]
    if len(sentence) < 25:
        sentence = flat
    return sentence if len(sentence) <= _LONGEST else sentence[: _LONGEST - 1] + "…"
