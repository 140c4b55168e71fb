"""What kept a call from being answered, as a sentence and a hint."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class ConnectionFault:
    """``passing`` says that trying again may help; ``timeout`` that time ran out."""

    message: str
    hint: str = ""
    passing: bool = True
    timeout: bool = False


def explain(problem: BaseException, host: str) -> ConnectionFault:
    """The fault behind an exception of azure-core's pipeline."""
    chain = list(causes(problem))
    names = {type(cause).__name__ for cause in chain}
    text = " ".join(str(cause) for cause in chain)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return ConnectionFault(
            f"the certificate of {host} is not trusted",
            "if a proxy or the emulator signs it, ca_file in the profile must name its CA's file",
            passing=False,
        )
    if "407" in text and "roxy" in text:
        return ConnectionFault(
            "the proxy asks for a sign-in", "put it into HTTPS_PROXY", passing=False
        )
    if "ProxyError" in names:
        return ConnectionFault("the proxy cannot be reached or refuses", "check HTTPS_PROXY")
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return ConnectionFault(
            f"no TLS connection to {host}", "is the address https, and nothing in between?",
            passing="EOF" in text,
        )  # fmt: skip
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return ConnectionFault(f"the name {host} cannot be resolved", "check the network and DNS")
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        return ConnectionFault(f"{host} refuses the connection", "is the address right?")
    if "ConnectTimeoutError" in names or "ConnectTimeout" in names:
        return ConnectionFault(f"{host} cannot be reached: no connection in time", timeout=True)
    if any("Timeout" in name for name in names) or any(isinstance(c, TimeoutError) for c in chain):
        return ConnectionFault(
            f"{host} did not answer in time", "ask for a shorter window", timeout=True
        )
    if "IncompleteRead" in text or "IncompleteReadError" in names:
        return ConnectionFault(f"the answer of {host} was cut short")
    if names & {"DecodeError", "ContentDecodingError"}:
        return ConnectionFault(f"the answer of {host} was damaged on its way")
    return ConnectionFault(f"{host} broke the connection off")


def causes(problem: BaseException) -> Iterator[BaseException]:
    """The exception and all that it came from: causes, contexts, arguments."""
    seen: set[int] = set()
    waiting: list[object] = [problem]
    while waiting:
        item = waiting.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        waiting += [item.__cause__, item.__context__, *item.args]
        waiting += [getattr(item, name, None) for name in ("inner_exception", "reason")]
