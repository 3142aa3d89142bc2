"""Many clients that ask with one key all the time, and what each of them was told when."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

WINDOW_S = 60.0


@dataclass(frozen=True)
class Asked:
    """One request. Whatever admitted it did so between the two times (monotonic)."""

    sent_s: float
    answered_s: float
    status: int
    """0: the connection broke."""
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])

    @property
    def tokens(self) -> int:
        return int(json.loads(self.body)["usage"]["total_tokens"])


class Hammer:
    """`clients` over all `urls` in turn, each on a connection of its own, until the block ends."""

    def __init__(
        self, urls: Sequence[str], key: str, *, clients: int = 50, pause_s: float = 0.02, **fields: object
    ) -> None:
        self._places = [urlsplit(urls[number % len(urls)]) for number in range(clients)]
        self._pause_s = pause_s
        body = json.dumps({
            "model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10, **fields
        }).encode()  # fmt: skip
        self._request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._done = threading.Event()
        self.asked: list[Asked] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="hammer")

    def __enter__(self) -> Hammer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for place in self._places:
                group.create_task(self._ask_forever(place.hostname or "", place.port or 80))

    async def _ask_forever(self, host: str, port: int) -> None:
        writer: asyncio.StreamWriter | None = None
        while not self._done.is_set():
            sent_s = time.monotonic()
            try:
                async with asyncio.timeout(30):
                    if writer is None:
                        reader, writer = await asyncio.open_connection(host, port)
                    writer.write(self._request)
                    self.asked.append(await _read_answer(reader, sent_s))
            except (OSError, asyncio.IncompleteReadError):
                self.asked.append(Asked(sent_s, time.monotonic(), 0, {}, b""))
                if writer is not None:
                    writer.close()
                writer = None
            await asyncio.sleep(self._pause_s)
        if writer is not None:
            writer.close()

    @property
    def admitted(self) -> list[Asked]:
        return [each for each in list(self.asked) if each.status == 200]

    @property
    def refused(self) -> list[Asked]:
        return [each for each in list(self.asked) if each.status != 200]


async def _read_answer(reader: asyncio.StreamReader, sent_s: float) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    body = await reader.readexactly(int(headers["content-length"]))
    return Asked(sent_s, time.monotonic(), int(head[0].split(" ")[1]), headers, body)


def worst_window(asked: Sequence[Asked], weight: Callable[[Asked], int] = lambda each: 1) -> int:
    """The most that was certainly admitted within any 60 s: asked for and answered inside them."""
    weights = [(each.sent_s, each.answered_s, weight(each)) for each in asked]
    return max(
        (
            sum(much for sent_s, answered_s, much in weights if start_s <= sent_s and answered_s <= start_s + WINDOW_S)
            for start_s, _, _ in weights
        ),
        default=0,
    )  # fmt: skip
