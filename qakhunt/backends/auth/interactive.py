"""InteractiveSignIns: one sign-in of a person serves many tenants, kept in an encrypted cache.

Where the machine has no keyring, the cache is kept as plain text only when the person
says so, else in memory for as long as the program runs.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.backends.auth.errors import entra_error, sign_in_error
from qakhunt.core.errors import UnansweredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials import AccessTokenInfo

    from qakhunt.backends.auth.identity import Identity

AZURE_CLI_APP = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
"""The vendor's public client that is used where the profile names no app registration."""

ENCRYPTED, PLAIN, MEMORY = "encrypted", "plain", "memory"
_TIMEOUT = 30.0
STORES = (ENCRYPTED, PLAIN, MEMORY)


@dataclass(frozen=True)
class Account:
    """Somebody who is signed in, with the home tenant; ``authority`` is Entra ID's host."""

    name: str
    tenant: str
    authority: str


class InteractiveSignIns:
    """The sign-ins of people on this machine.

    ``store`` is where a new sign-in is kept; left out, where the others are, else
    encrypted. ``everywhere`` lists and removes those of every authority, not of the
    identity's alone. Raises UnansweredError with a fix.
    """

    def __init__(
        self, identity: Identity, store: str | None = None, *, everywhere: bool = False
    ) -> None:
        self._identity, self._everywhere = identity, everywhere
        self._folder = identity.cache
        self.store = store or self._used_store()
        self._apps: dict[str, Any] = {}

    def accounts(self) -> list[Account]:
        """Everybody who is signed in; asks nobody over the network."""
        found = {
            Account(
                entry.get("username", ""),
                entry.get("home_account_id", "").partition(".")[2],
                entry.get("environment", ""),
            )
            for entry in self._entries(self._cache(), "Account")
        }
        return sorted(found, key=lambda account: (account.name, account.authority))

    def _entries(self, cache: Any, kind: str) -> list[dict[str, Any]]:
        """What the cache holds of one kind (``msal.TokenCache.CredentialType``)."""
        address = urlsplit(self._identity.authority)
        return [
            entry
            for entry in cache.search(kind)
            if self._everywhere or entry.get("environment") in (address.hostname, address.netloc)
        ]

    def sign_in_by_code(self, scope: str, show: Callable[[str], None]) -> str:
        """Sign in on any device; ``show`` gets the sentence with the code. The account's name."""
        app = self._app(self._identity.tenant)
        flow = app.initiate_device_flow([scope])
        if "message" not in flow:
            raise self._error(flow)
        show(flow["message"])
        return self._signed_in(app.acquire_token_by_device_flow(flow))

    def sign_in_by_browser(self, scope: str) -> str:
        """Sign in with this machine's browser. The account's name."""
        app = self._app(self._identity.tenant)
        return self._signed_in(app.acquire_token_interactive([scope], timeout=300))

    def sign_out(self, name: str | None = None) -> list[str]:
        """Remove one account's tokens, or everybody's, from this machine; the names removed.

        Asks nobody over the network: Entra ID keeps its own session.
        """
        cache = self._cache()
        found = [
            entry
            for entry in self._entries(cache, "Account")
            if name is None or entry.get("username", "").casefold() == name.casefold()
        ]
        owners = {(entry["environment"], entry["home_account_id"]) for entry in found}
        for kind, remove in (
            ("RefreshToken", cache.remove_rt), ("AccessToken", cache.remove_at),
            ("IdToken", cache.remove_idt), ("Account", cache.remove_account),
        ):  # fmt: skip
            for entry in self._entries(cache, kind):
                if (entry.get("environment"), entry.get("home_account_id")) in owners:
                    remove(entry)
        if self._folder is not None and not any(cache.search("Account")):
            _plain_file(self._folder).unlink(missing_ok=True)
        return sorted({entry.get("username", "") for entry in found})

    def token(self, scope: str, claims: str | None, *, renew: bool) -> AccessTokenInfo:
        """The tenant's token for the account, without asking anybody."""
        from azure.core.credentials import AccessTokenInfo

        app = self._app(self._identity.tenant)
        result = app.acquire_token_silent_with_error(
            [scope], account=self._account(app), claims_challenge=claims, force_refresh=renew
        )
        if not result or "access_token" not in result:
            raise self._error(result or {"error_description": "AADSTS50058: nobody is signed in"})
        return AccessTokenInfo(result["access_token"], int(time.time()) + int(result["expires_in"]))

    def close(self) -> None:
        """Close the connections."""
        for app in self._apps.values():
            app.http_client.close()
        self._apps.clear()

    def _account(self, app: Any) -> Any:
        wanted = self._identity.sign_in.account
        found = app.get_accounts(username=wanted)
        names = sorted({account.get("username", "") for account in found})
        if not names:
            who = f"{wanted} is not" if wanted else "nobody is"
            raise UnansweredError(
                f"no sign-in: {who} signed in",
                hint=f"qakhunt login --tenant {self._identity.tenant}",
            )
        if len(names) > 1:
            raise UnansweredError(
                f"no sign-in: several are signed in: {', '.join(names)}",
                hint="name one: account under sign_in in the profile",
            )
        return found[0]

    def _signed_in(self, result: Any) -> str:
        if "access_token" not in result:
            raise self._error(result)
        return str(result.get("id_token_claims", {}).get("preferred_username", ""))

    def _error(self, result: Any) -> UnansweredError:
        words = str(result.get("error_description") or result.get("error") or "no token")
        return entra_error(
            words, tenant=self._identity.tenant, client=self._client_id,
            authority=self._identity.authority.partition("://")[2],
        )  # fmt: skip

    @property
    def _client_id(self) -> str:
        return self._identity.sign_in.client_id or AZURE_CLI_APP

    def _app(self, tenant: str) -> Any:
        import msal

        if tenant in self._apps:
            return self._apps[tenant]
        identity = self._identity
        options = {} if identity.known_authority else {"instance_discovery": False}
        try:
            app = msal.PublicClientApplication(
                self._client_id, authority=f"{identity.authority}/{tenant}",
                token_cache=self._cache(), http_client=_session(identity.ca_file), **options,
            )  # fmt: skip
        except (ValueError, OSError) as problem:
            raise sign_in_error(
                problem, kind="login", tenant=tenant, client=self._client_id,
                authority=identity.authority.partition("://")[2],
            ) from None  # fmt: skip
        self._apps[tenant] = app
        return app

    def _used_store(self) -> str:
        if self._folder is None:
            return MEMORY
        return PLAIN if _plain_file(self._folder).exists() else ENCRYPTED

    def _cache(self) -> Any:
        import msal_extensions

        if self._folder is None or self.store == MEMORY:
            return _memory()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.store == PLAIN:
            persistence = msal_extensions.FilePersistence(str(_plain_file(self._folder)))
        else:
            persistence = encrypted_persistence(self._folder)
            if persistence is None:
                return _memory()
        return msal_extensions.PersistedTokenCache(persistence)


def _session(ca_file: str | None) -> Any:
    """Connections for MSAL that trust ``ca_file``, whatever REQUESTS_CA_BUNDLE says."""
    import requests

    class Session(requests.Session):
        def request(self, *arguments: Any, **options: Any) -> requests.Response:
            if ca_file:
                options["verify"] = ca_file
            options.setdefault("timeout", _TIMEOUT)
            return super().request(*arguments, **options)

    return Session()


@cache
def _memory() -> Any:
    """The sign-ins of this process, shared by its tenants."""
    import msal

    return msal.TokenCache()


def _plain_file(folder: Path) -> Path:
    return folder / "sign-ins.json"


def encrypted_persistence(folder: Path) -> Any:
    """The platform's encrypted store, or None where it has none."""
    import msal_extensions

    try:
        store = msal_extensions.build_encrypted_persistence(str(folder / "sign-ins.bin"))
        if hasattr(store, "trial_run"):
            store.trial_run()
    except Exception:  # libsecret raises what it likes: no keyring, no bus, no module
        return None
    return store


def cache_folder() -> Path:
    """The platform's folder for this user's sign-ins."""
    import platformdirs

    return Path(platformdirs.user_data_dir("qakhunt", appauthor=False))


class AnalystCredential:
    """A person's sign-in as azure-core takes it.

    Where nobody is signed in and there is somebody to ask, asks with a device code.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._sign_ins = InteractiveSignIns(identity)
        self._lock = threading.Lock()
        self._renew = False

    def close(self) -> None:
        """Close the connections."""
        self._sign_ins.close()

    def renew(self) -> None:
        """The next token is a fresh one."""
        self._renew = True

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """A token of the identity's tenant."""
        scope = scopes[0]
        claims = (options or {}).get("claims")
        with self._lock:
            if self._identity.ask and not self._sign_ins.accounts():
                self._sign_ins.sign_in_by_code(scope, self._identity.ask)
            found = self._sign_ins.token(scope, claims, renew=self._renew)
            self._renew = False
            return found
