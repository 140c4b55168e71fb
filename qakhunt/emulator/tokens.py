"""Access tokens: made, signed, read back and revoked."""

from __future__ import annotations

import base64
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qakhunt.emulator.server import Clock

LOG_ANALYTICS = (
    "https://api.loganalytics.io", "https://api.loganalytics.azure.com",
    "https://api.loganalytics.us", "https://api.loganalytics.azure.cn",
)  # fmt: skip
GRAPH = (
    "https://graph.microsoft.com", "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us", "00000003-0000-0000-c000-000000000000",
)  # fmt: skip
INGESTION = ("https://monitor.azure.com", "https://monitor.azure.us", "https://monitor.azure.cn")
TOKEN_EXCHANGE = "api://AzureADTokenExchange"  # noqa: S105 - an audience


@dataclass(frozen=True)
class Refusal:
    """Why a token is not let in: ``unauthorized``, ``token-expired`` or ``forbidden``."""

    kind: str


@dataclass
class Issuer:
    """Signs tokens with a key of its own and judges those that come back.

    ``origin`` is the emulator's own address, an audience of every service too.
    """

    clock: Clock
    lifetime: float
    any_token: bool
    origin: str = ""
    _revoked: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = uuid.uuid4().hex

    def issue(self, tenant: str, audience: str, **claims: Any) -> str:
        """A signed token for ``audience`` in ``tenant``, good for the scenario's time."""
        now = self.clock.time()
        body = {
            "aud": audience, "iss": f"{self.origin}/{tenant}/v2.0", "tid": tenant,
            "iat": int(now), "nbf": int(now), "exp": int(now + self.lifetime),
            "uti": uuid.uuid4().hex, "ver": "2.0", **claims,
        }  # fmt: skip
        return self._sign(body)

    def _sign(self, body: dict[str, Any]) -> str:
        import jwt

        return jwt.encode(body, self._key, algorithm="RS256", headers={"kid": self.key_id})

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a token of ours, whether or not it is still good; else None."""
        import jwt

        try:
            return jwt.decode(
                token, self._key.public_key(), algorithms=["RS256"],
                options={"verify_exp": False, "verify_aud": False, "verify_iat": False,
                         "verify_nbf": False},
            )  # fmt: skip
        except jwt.PyJWTError:
            return None

    def revoke(self, authorization: str | None) -> None:
        """Let this bearer token in no more."""
        with self._lock:
            self._revoked.add(bearer(authorization))

    def judge(
        self, authorization: str | None, audiences: Collection[str]
    ) -> dict[str, Any] | Refusal:
        """The claims of a request's token, empty for a foreign one that is let in."""
        token = bearer(authorization)
        if not token:
            return Refusal("unauthorized")
        with self._lock:
            if token in self._revoked:
                return Refusal("token-expired")
        claims = self.read(token)
        if claims is None:
            return {} if self.any_token else Refusal("unauthorized")
        if claims["exp"] <= self.clock.time():
            return Refusal("token-expired")
        if not self.any_token and str(claims["aud"]).rstrip("/") not in {*audiences, self.origin}:
            return Refusal("unauthorized")
        return claims

    def keys(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA", "use": "sig", "kid": self.key_id, "alg": "RS256",
            "n": _base64_integer(numbers.n), "e": _base64_integer(numbers.e),
        }  # fmt: skip
        return {"keys": [key]}


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header; empty where there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def audience_of(scopes: Sequence[str]) -> tuple[str, str]:
    """The audience and the permissions of OAuth scopes such as ``https://host/.default``."""
    audience, names = "", []
    for scope in scopes:
        host, slash, name = scope.rpartition("/")
        if slash and host:
            audience = host.rstrip("/")
            names.append(name)
    return audience, " ".join(name for name in names if name != ".default")


def _base64_integer(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
