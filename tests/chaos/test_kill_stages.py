"""kill -9 at each stage of a request: its client has one whole stream, and it has one outcome."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.inferry_process import Inferry

from .books import Books, read_books
from .load import random_ask
from .stand import Stand, write_file
from .strict_client import Ask, Heard, ask_strictly

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Stage:
    """Two replicas, and clients that ask side by side: one stream at each at least."""

    def __init__(self, stand: Stand, url: str, asks: Iterator[Ask]) -> None:
        self.stand = stand
        self._asks = asks
        self._port = int(urlsplit(url).port or 0)
        self.heard: list[Heard] = []

    async def ask(self, count: int) -> None:
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(ask_strictly("127.0.0.1", self._port, next(self._asks)))
                for _ in range(count)
            ]
        self.heard += [each.result() for each in asked]


def asks_of(dice: random.Random, tokens: int) -> Iterator[Ask]:
    """Each with an answer of so many tokens, if it does not end by itself."""
    number = 0
    while True:
        number += 1
        yield random_ask(dice, f"{number:04}", tokens_max=tokens, tokens_min=tokens)


@asynccontextmanager
async def stage(
    folder: Path, dice: random.Random, tokens: int, **chat: Any
) -> AsyncIterator[tuple[Stage, list[Books]]]:
    """At the end, what clients heard is whole, and the books are right; they are put into the list then."""
    inferry = Inferry(folder)
    write_file(inferry, replicas=2, **chat)
    books: list[Books] = []
    with inferry.up() as up:
        url = up.wait_ready()
        played = Stage(Stand(up), url, asks_of(dice, tokens))
        await played.stand.until_all_ready(2)
        yield played, books
    books.append(read_books(inferry, played.heard))
    assert {each.ask.id: each.faults for each in played.heard if each.faults} == {}
    assert books[0].faults == []


async def test_killed_before_the_gateway_connects(tmp_path: Path, dice: random.Random) -> None:
    """Requests that come the moment after a kill, to a port that refuses: none is lost."""
    async with stage(tmp_path, dice, 20, ttft_ms=5, itl_ms=2) as (played, books):
        for _ in range(4):
            victim = dice.choice(list(await played.stand.ready()))
            await played.stand.kill(victim)
            await played.ask(8)
            await played.stand.until_all_ready(2)
    assert len(books[0].rows) == 32


async def test_killed_while_it_computes_the_prompt(tmp_path: Path, dice: random.Random) -> None:
    """After the engine's head and before its first token: another replica begins anew, and nothing is resumed."""
    async with stage(tmp_path, dice, 20, ttft_ms=400, itl_ms=2) as (played, books):
        for _ in range(3):
            victim = dice.choice(sorted((await played.stand.ready()).items()))[1]
            asking = asyncio.ensure_future(played.ask(8))
            await asyncio.sleep(0.2)
            os.kill(victim["pid"], signal.SIGKILL)
            await asking
            await played.stand.until_all_ready(2)
    assert books[0].counts()["retries"] >= 3
    assert books[0].counts()["resumes"] == 0


async def test_killed_after_each_token(tmp_path: Path, dice: random.Random) -> None:
    """The engine dies by its own hand before the first token, after the first, and so on to the last but one, of
    answers with twelve."""
    tokens = 12
    async with stage(tmp_path, dice, tokens, ttft_ms=20, itl_ms=5) as (played, books):
        for after in range(tokens):
            victim = dice.choice(list(await played.stand.ready()))
            await played.stand.arm(victim, kind="crash", after_tokens=after)
            before = (await played.stand.replicas())[victim]["restarts"]
            # As many as it takes: one that has just been started gets fewer at first.
            while (await played.stand.replicas())[victim]["restarts"] == before:
                await played.ask(6)
            await played.stand.until_back(victim, before, 2)
    assert books[0].counts()["resumed streams"] >= tokens - 2
