"""How a reply travels: whole through ASGI, or broken on the connection itself."""

from __future__ import annotations

import asyncio
import email.utils
import http
import socket
import struct
from typing import TYPE_CHECKING, Any

from qakhunt.emulator.faults import Delivery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from qakhunt.emulator.clock import Clock
    from qakhunt.emulator.replies import Reply

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

CONNECTION = "qakhunt.connection"
"""The ASGI extension that holds the connection's transport."""

_DRIPS = 20


class Door:
    """Whether the emulator takes connections at all; the server puts its own in place."""

    async def shut(self, seconds: float) -> None:
        """Refuse connections for so long."""


class Carrier:
    """Delivers replies on one connection after another."""

    def __init__(self, clock: Clock, door: Door) -> None:
        self._clock = clock
        self._door = door

    def date(self) -> str:
        """The Date header of now."""
        return email.utils.formatdate(self._clock.time(), usegmt=True)

    async def deliver(
        self,
        reply: Reply,
        delivery: Delivery,
        seconds: float,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Send the reply as ``delivery`` says; ``seconds`` is the fault's time."""
        if delivery is Delivery.WHOLE:
            await _send(reply, [reply.body], send)
        elif delivery is Delivery.DRIP:
            await self._drip(reply, seconds, send)
        else:
            transport = scope["extensions"][CONNECTION]
            await self._break(reply, delivery, seconds, transport)
            await _until_gone(receive)

    async def _drip(self, reply: Reply, seconds: float, send: Send) -> None:
        await send(_start(reply))
        step = max(-(-len(reply.body) // _DRIPS), 1)
        for at in range(0, len(reply.body), step):
            await self._clock.sleep(seconds / _DRIPS)
            await send(_body(reply.body[at : at + step], more=True))
        await send(_body(b"", more=False))

    async def _break(
        self, reply: Reply, delivery: Delivery, seconds: float, transport: Any
    ) -> None:
        half = reply.body[: len(reply.body) // 2]
        if delivery is Delivery.REFUSED:
            await self._door.shut(seconds)
            _reset(transport)
        elif delivery is Delivery.RESET_BEFORE:
            _reset(transport)
        elif delivery is Delivery.RESET_DURING:
            transport.write(_head(reply, len(reply.body)) + half)
            await _flushed(transport)
            _reset(transport)
        elif delivery is Delivery.CUT:
            transport.write(_head(reply, len(reply.body)) + half)
            transport.close()
        elif delivery is Delivery.LENGTH_TOO_LONG:
            transport.write(_head(reply, len(reply.body) + 100) + reply.body)
            transport.close()
        elif delivery is Delivery.LENGTH_TOO_SHORT:
            transport.write(_head(reply, len(half)) + reply.body)
            transport.close()


def _start(reply: Reply) -> dict[str, Any]:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.status != http.HTTPStatus.NO_CONTENT:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    return {"type": "http.response.start", "status": reply.status, "headers": headers}


def _body(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _send(reply: Reply, chunks: list[bytes], send: Send) -> None:
    await send(_start(reply))
    for chunk in chunks:
        await send(_body(chunk, more=True))
    await send(_body(b"", more=False))


def _head(reply: Reply, length: int) -> bytes:
    """Status line and headers as they stand on the wire."""
    phrase = http.HTTPStatus(reply.status).phrase
    lines = [f"HTTP/1.1 {reply.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines += [f"content-length: {length}", "connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def _flushed(transport: Any) -> None:
    """Wait until the kernel has what was written, so that a reset comes after it."""
    for _ in range(200):
        if not transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)


def _reset(transport: Any) -> None:
    """Drop the connection with a TCP reset instead of an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _until_gone(receive: Receive) -> None:
    """Wait until the server has seen the connection end: nothing is to be sent on it."""
    while (await receive())["type"] != "http.disconnect":
        pass
