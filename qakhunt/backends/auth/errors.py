"""Why a sign-in failed, as a sentence and a hint."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from json import JSONDecodeError

import msgspec

from qakhunt.answers.response import without_tokens
from qakhunt.backends.connection_faults import causes
from qakhunt.backends.connection_faults import explain as explain_connection
from qakhunt.core.documents import to_model
from qakhunt.core.errors import UnansweredError

_CODE = re.compile(r"AADSTS(\d{4,8})")
_NOISE = re.compile(r"\s*(?:Trace ID|Correlation ID|Timestamp|Client app ID)\b.*", re.DOTALL)
_CHAIN_PART = re.compile(r"^\s+(\w+Credential): (.*)$", re.MULTILINE)
_NO_AUTHORITY = "Unable to get authority configuration"  # all that MSAL says of it
_LONGEST = 300


class _Fault(msgspec.Struct, frozen=True):
    says: str
    fix: str


@cache
def _faults() -> dict[str, _Fault]:
    """What is known of Entra ID's codes, by their number."""
    data = files("qakhunt").joinpath("data/sign_in_errors.yaml").read_bytes()
    return to_model(msgspec.yaml.decode(data), dict[str, _Fault])


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
    fault = _faults().get(number)
    if fault is not None:
        hint = fault.fix.format(tenant=tenant, client=client or "CLIENT_ID", authority=authority)
        return UnansweredError(f"no sign-in: {fault.says} (AADSTS{number})", hint=hint)
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
