"""The program `python -m inferry.bench.null_server [PORT]`: answers each API's requests at once, for calibration.

Each token is a write of its own, with other connections served between two of them, as from an engine with no work.
Says on which port of the loopback it listens, and ends when its standard input does. With a PORT, several processes
share it.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from typing import cast

import uvloop

from inferry.bench.null_answers import PATHS, streamed, whole
from inferry.bench.plan import Api

TOKENS_DEFAULT = 16

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_(?:completion_|output_|new_)?tokens": ?(\d+)')
_STREAM = re.compile(rb'"stream": ?true')


class NullConnection(asyncio.Protocol):
    """One client's. Requests come one after the other, each after the last answer's end."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any use
        self._received = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if length is not None and len(body) < int(length[1]):
            return
        self._received = b""
        self._answer(head.split(b" ", 2)[1].decode("latin-1"), body)

    def _answer(self, path: str, body: bytes) -> None:
        api = api_of(path)
        if api is None:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        wanted = _TOKENS.search(body)
        tokens = max(1, int(wanted[1])) if wanted is not None else TOKENS_DEFAULT
        if path.endswith("/generate_stream") or _STREAM.search(body):
            self._go_on(streamed(api, tokens), 0)
        else:
            self._transport.write(whole(api, tokens))

    def _go_on(self, writes: tuple[bytes, ...], number: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(writes[number])
        if number + 1 < len(writes):
            self._loop.call_soon(self._go_on, writes, number + 1)


def api_of(path: str) -> Api | None:
    return next((api for end, api in PATHS.items() if path.endswith(end)), None)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(NullConnection, "127.0.0.1", port, reuse_port=True, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    parent_gone = asyncio.Event()
    loop.add_reader(0, parent_gone.set)  # nothing is ever written to it: it becomes readable by its end
    await parent_gone.wait()
    server.close()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    uvloop.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))


if __name__ == "__main__":
    main()
