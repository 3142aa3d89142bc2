"""A TCP proxy between gateway and engine that does harm at one byte of an answer.

kind      what happens at byte `at` of the answer (its head included), which is not sent
close     the connection closes, as when the engine's host shuts down in order
reset     the connection is reset, as when it crashes
silence   nothing more comes, and the connection stays open
freeze    nothing comes for `seconds`, then the rest
corrupt   that byte becomes zero, and the rest comes as it was
drip      from there on, bytes come one by one
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["close", "reset", "silence", "freeze", "corrupt", "drip"]
_ABORT = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Damage:
    kind: Kind
    at: int
    seconds: float = 0.0


@dataclass(slots=True)
class Damages:
    """What the next answers suffer, one each, whichever proxy they come through; then none."""

    waiting: deque[Damage | None] = field(default_factory=deque)
    answers: list[int] = field(default_factory=list)
    """Bytes of each answer so far, by order of their requests."""
    done: int = 0
    """Damages whose byte was reached."""
    seen: bytes = b""
    """What engines have sent of the first answer."""

    def plan(self, damages: Iterable[Damage | None]) -> None:
        """Forget what has not happened yet; these are next."""
        self.waiting = deque(damages)
        self.answers.clear()
        self.done = 0
        self.seen = b""


class _Connection:
    """One connection through the proxy."""

    def __init__(self, damages: Damages, client: asyncio.StreamWriter, engine: asyncio.StreamWriter) -> None:
        self._damages = damages
        self._client = client
        self._engine = engine
        self._damage: Damage | None = None
        self._answer = -1

    async def up(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            # One read holds the beginning of a request at most: the gateway waits for each answer.
            if data.startswith(b"POST "):
                self._answer = len(self._damages.answers)
                self._damages.answers.append(0)
                self._damage = self._damages.waiting.popleft() if self._damages.waiting else None
            self._engine.write(data)
            await self._engine.drain()

    async def down(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            if self._answer < 0 or self._answer >= len(self._damages.answers):
                self._client.write(data)  # a probe, or the rest of an answer that nobody waits for
                continue
            sent = self._damages.answers[self._answer]
            self._damages.answers[self._answer] += len(data)
            if self._answer == 0:
                self._damages.seen += data
            damage = self._damage
            if damage is None or sent + len(data) <= damage.at:
                self._client.write(data)
            else:
                self._damage = None
                self._damages.done += 1
                if not await self._harm(damage, data[: damage.at - sent], data[damage.at - sent :]):
                    return
            await self._client.drain()

    async def _harm(self, damage: Damage, before: bytes, rest: bytes) -> bool:
        """Whether the connection goes on."""
        self._client.write(before)
        match damage.kind:
            case "corrupt":
                self._client.write(b"\0" + rest[1:])
            case "freeze":
                await asyncio.sleep(damage.seconds)
                self._client.write(rest)
            case "drip":
                for byte in rest:
                    self._client.write(bytes([byte]))
                    await asyncio.sleep(0)
            case "silence":
                await (
                    asyncio.Event().wait()
                )  # until the gateway closes: that ends the other way, and this with it
            case "reset":
                await self._client.drain()
                self._client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                self._client.transport.abort()
                return False
            case "close":
                return False
        return True


@contextlib.asynccontextmanager
async def cutting_proxy(engine_url: str, damages: Damages) -> AsyncIterator[int]:
    """A proxy before one engine; gives its port."""
    place = urlsplit(engine_url)
    relays: set[asyncio.Task[None]] = set()
    ways: set[asyncio.Future[None]] = set()

    async def relay(client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        relays.add(task)
        engine_reader, engine = await asyncio.open_connection(place.hostname, place.port)
        connection = _Connection(damages, client, engine)
        both = {
            asyncio.ensure_future(each)
            for each in (connection.up(client_reader), connection.down(engine_reader))
        }
        ways.update(both)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for way in both:
            way.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        client.close()
        engine.transport.abort()
        ways.difference_update(both)
        relays.discard(task)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for way in ways:  # not the relays: asyncio's streams complain of a handler that was cancelled
            way.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
