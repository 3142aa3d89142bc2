"""Many clients that ask for one stream after the other until told to stop, and what they heard."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from .expected_answers import CHAT, COMPLETIONS, expected_answer
from .strict_client import Ask, Heard, ask_strictly

TOPICS = ("the sea", "old trains", "a lighthouse", "two friends", "seven lamps", "the moon", "a long winter")


def random_asks(dice: random.Random, name: str = "chat", tokens_max: int = 80) -> Iterator[Ask]:
    """Without end: chats and completions, with and without usage, that end by themselves or by their length."""
    number = 0
    while True:
        number += 1
        yield random_ask(dice, f"{number:06}", name, tokens_max)


def random_ask(
    dice: random.Random, id: str, name: str = "chat", tokens_max: int = 80, tokens_min: int | None = None
) -> Ask:
    """With `tokens_min`, the answer has no fewer; otherwise it may end by itself."""
    body: dict[str, Any] = {"model": name, "stream": True}
    body["max_tokens"] = dice.randint(
        max(tokens_max // 4, 1) if tokens_min is None else tokens_min, tokens_max
    )
    if tokens_min is not None or dice.random() < 0.5:
        body["ignore_eos"] = True
    if dice.random() < 0.5:
        body["stream_options"] = {"include_usage": True}
    if dice.random() < 0.3:
        body["seed"] = dice.randrange(1 << 31)
    text = f"Request {id} asks for a tale about {dice.choice(TOPICS)}."
    if dice.random() < 0.7:
        body["messages"] = [{"role": "user", "content": text}]
        path = CHAT
    else:
        body["prompt"] = text
        path = COMPLETIONS
    return Ask(id, path, body, expected_answer(path, body))


class Load:
    """`clients` streams at once on one gateway. `stop` ends it: each stream under way is heard to its end."""

    def __init__(
        self, url: str, asks: Iterator[Ask], clients: int, headers: dict[str, str] | None = None
    ) -> None:
        place = urlsplit(url)
        self._host, self._port = str(place.hostname), int(place.port or 0)
        self._asks = asks
        self._clients = clients
        self._headers = headers or {}
        self._stopping = asyncio.Event()
        self.heard: list[Heard] = []
        self.running = 0

    async def run(self) -> list[Heard]:
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._ask_on(number * 0.01))
        return self.heard

    def stop(self) -> None:
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    async def pause(self, seconds: float) -> None:
        """Sleep under load, or until it stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _ask_on(self, delay_s: float) -> None:
        await self.pause(delay_s)  # not all at once
        while not self.stopping:
            ask = next(self._asks)
            ask.headers.update(self._headers)
            self.running += 1
            self.heard.append(await ask_strictly(self._host, self._port, ask))
            self.running -= 1
