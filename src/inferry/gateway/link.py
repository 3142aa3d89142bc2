"""The private line between the control process and one gateway process: whole messages over a socket pair.

Messages are pickled. Both ends are the same program, and nobody else can reach a socket pair, so nothing from
outside is ever unpickled.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import Callable
from typing import Any, cast

_LENGTH = struct.Struct("<I")
OnReply = Callable[[Any], None]


class LinkLost(ConnectionError):
    """The process at the other end is gone."""


class Link(asyncio.Protocol):
    """One end. `on_message(message, number)` hears what the other end says; a number asks for a `reply`."""

    def __init__(self, on_message: Callable[[Any, int | None], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._number = 0
        self._waiting: dict[int, OnReply] = {}
        self.lost = False

    # --- to the other end -----------------------------------------------------------------------------

    def say(self, message: object) -> None:
        """Send; a message to a process that is gone is dropped, and `on_lost` tells."""
        self._send((None, False, message))

    def call(self, message: object, on_reply: OnReply) -> None:
        """Send, and hear the reply. On a lost link `on_reply` gets a LinkLost."""
        if self.lost:
            on_reply(LinkLost())
            return
        self._number += 1
        self._waiting[self._number] = on_reply
        self._send((self._number, False, message))

    async def ask(self, message: object, timeout_s: float) -> Any:
        """`call`, awaited. Raises LinkLost, or TimeoutError."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_reply(value: Any) -> None:
            if not future.done():
                future.set_result(value)

        self.call(message, on_reply)
        async with asyncio.timeout(timeout_s):
            value = await future
        if isinstance(value, LinkLost):
            raise value
        return value

    def reply(self, number: int, value: object) -> None:
        self._send((number, True, value))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _send(self, frame: tuple[int | None, bool, object]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        data = pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)
        self._transport.write(_LENGTH.pack(len(data)) + data)

    # --- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, start)
            end = start + _LENGTH.size + length
            if len(received) < end:
                break
            number, is_reply, value = pickle.loads(memoryview(received)[start + _LENGTH.size : end])
            start = end
            if is_reply:
                self._waiting.pop(number)(value)
            else:
                self._on_message(value, number)
        del received[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        waiting, self._waiting = self._waiting, {}
        for on_reply in waiting.values():
            on_reply(LinkLost())
        self._on_lost()
