"""The queue as tenants meet it: a flood harms its sender, shares follow weights, priorities and bounds hold."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

import httpx
import pytest

from inferry.policy.fairness import service_gap_max

from .inferry_process import Inferry, Up, wait_for

SLOTS = 4
TTFT_MS, ITL_MS, TOKENS = 80, 4, 20
"""An answer holds its slot for 160 ms, so that one of four comes free every 40 ms."""
FILE = f"""\
gateway: {{auth: keys}}
tenants:
  heavy: {{weight: 2}}
deployments:
  chat:
    engine: simulated
    ttft_ms: {TTFT_MS}
    itl_ms: {ITL_MS}
    queue: {{running_max: {SLOTS}, wait_max_s: 600}}
  narrow:
    engine: simulated
    ttft_ms: 2000
    queue: {{running_max: 1, waiting_max: 1, wait_max_s: 1}}
"""


@dataclass(frozen=True)
class Streamed:
    """One streamed answer: when it was asked for, and when its first event was there."""

    asked_s: float
    first_s: float
    status: int

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.asked_s


class Streams:
    """`clients` that stream with one key, one answer after the other, until the block ends."""

    def __init__(
        self, url: str, key: str, *, clients: int, tokens: int = TOKENS, pause_s: float = 0.0
    ) -> None:
        self._place = urlsplit(url)
        self._clients = clients
        self._pause_s = pause_s
        body = json.dumps({
            "model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": tokens,
            "ignore_eos": True, "stream": True,
        }).encode()  # fmt: skip
        self._request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\nConnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._done = threading.Event()
        self.answers: list[Streamed] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="streams")

    def __enter__(self) -> Streams:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        """All go away at once, whether they wait or are being answered."""
        self._done.set()

    async def _run(self) -> None:
        clients = [asyncio.create_task(self._ask_forever()) for _ in range(self._clients)]
        while not self._done.is_set():
            await asyncio.sleep(0.01)
            assert not any(client.done() for client in clients), clients
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)

    async def _ask_forever(self) -> None:
        while True:
            asked_s = time.monotonic()
            reader, writer = await asyncio.open_connection(self._place.hostname, self._place.port)
            try:
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readuntil(b"data: ")
                first_s = time.monotonic()
                await reader.read()
            finally:
                writer.close()
            self.answers.append(Streamed(asked_s, first_s, int(head.split(b" ")[1])))
            await asyncio.sleep(self._pause_s)

    def ttfts_s(self, after_s: float = 0.0) -> list[float]:
        """Of those that were asked for after that moment."""
        return [each.ttft_s for each in list(self.answers) if each.asked_s >= after_s]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, str]]:
    inferry = Inferry(tmp_path_factory.mktemp("fairness"))
    inferry.write(FILE)
    with inferry.up() as up:
        yield up, up.wait_ready()


def key_for(running: tuple[Up, str], tenant: str, **settings: object) -> str:
    up, url = running
    key = up.new_key(tenant, **settings)
    headers = {"x-api-key": key}
    wait_for(
        "the key is known", lambda: httpx.get(f"{url}/v1/models", headers=headers).status_code == 200, 5.0
    )
    return key


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def flooded(running: tuple[Up, str], seconds: float) -> tuple[list[float], list[float], list[float]]:
    """TTFTs of a tenant with two clients alone, the same beside one with forty, and those of that one."""
    _, url = running
    small, large = key_for(running, "small"), key_for(running, "large")
    with Streams(url, small, clients=2, pause_s=0.05) as alone:
        time.sleep(seconds)
    with Streams(url, large, clients=40) as flood:
        wait_for("the flood is there", lambda: len(flood.answers) > 2 * 40)
        with Streams(url, small, clients=2, pause_s=0.05) as beside:
            began_s = time.monotonic()
            time.sleep(seconds)
    return alone.ttfts_s(), beside.ttfts_s(), flood.ttfts_s(began_s)


@pytest.mark.slow
def test_a_flood_harms_its_sender(running: tuple[Up, str]) -> None:
    """A tenant that asks for 20 times as much as another raises that one's median TTFT to 3 times what it has alone
    at most, while the flood's own is at least three times that."""
    alone, beside, flood = flooded(running, 2.5)
    assert len(beside) >= 10
    factor = statistics.median(beside) / statistics.median(alone)
    assert factor <= 3
    assert statistics.median(flood) >= 3 * statistics.median(beside)


@pytest.mark.slow
def test_a_flood_does_not_touch_the_slowest_answers_either(running: tuple[Up, str]) -> None:
    """Over a longer time, p99 as well: at most 4 times the one alone; and the flood waits longer than that."""
    alone, beside, flood = flooded(running, 30.0)
    assert len(beside) >= 150
    assert statistics.median(beside) <= 3 * statistics.median(alone)
    assert p99(beside) <= 4 * p99(alone)
    assert statistics.median(flood) >= 1.5 * p99(beside)


@pytest.mark.slow
def test_shares_follow_weights(running: tuple[Up, str]) -> None:
    """Two tenants flood, one with answers four times as long: in the ledger, the one of weight 2 has twice the weighted
    tokens of the other, within a tenth and the stated bound."""
    up, url = running
    light, heavy = key_for(running, "light"), key_for(running, "heavy")
    with (
        Streams(url, light, clients=20, tokens=10) as of_light,
        Streams(url, heavy, clients=20, tokens=40) as of_heavy,
    ):
        time.sleep(6.0)
        of_light.stop()
        of_heavy.stop()
    got = service(up.inferry)
    assert got["heavy"] / got["light"] == pytest.approx(2.0, rel=0.1)
    prompt_tokens_max = 50
    assert abs(got["heavy"] / 2 - got["light"]) <= service_gap_max(prompt_tokens_max, 40, SLOTS)


def service(inferry: Inferry) -> dict[str, int]:
    """What the queue counts, from the ledger: prompt tokens plus twice the generated ones, by tenant."""
    done = inferry.run("usage", "--by", "tenant", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    return {row["tenant"]: row["prompt_tokens"] + 2 * row["completion_tokens"] for row in rows}


@pytest.mark.slow
def test_priorities_go_first_and_nobody_starves(running: tuple[Up, str]) -> None:
    """While all wait, keys of high priority have their first token before normal ones, and these before low ones; and
    the low ones get their turn now and then all the same."""
    _, url = running
    keys = {level: key_for(running, level, priority=level) for level in ("high", "normal", "low")}
    with (
        Streams(url, keys["low"], clients=6) as low,
        Streams(url, keys["normal"], clients=6) as normal,
        Streams(url, keys["high"], clients=6) as high,
    ):
        wait_for("low ones had turns", lambda: len(low.answers) >= 6, 60.0)
        counts = [len(each.answers) for each in (high, normal, low)]
    assert counts[0] > 3 * counts[1]
    assert counts[1] > 0
    assert statistics.median(high.ttfts_s()) < statistics.median(normal.ttfts_s())


def test_the_line_has_an_end(running: tuple[Up, str]) -> None:
    """One runs, one waits: the next is refused at once (queue_full), the one that waits after a second
    (queue_timeout), both with 429 and a time to try again."""
    _, url = running
    key = key_for(running, "narrow")
    body = {"model": "narrow", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}

    async def scenario() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=30) as client:
            async with asyncio.TaskGroup() as group:
                asked = []
                for _ in range(3):
                    asked.append(group.create_task(client.post("/v1/chat/completions", json=body)))
                    await asyncio.sleep(0.2)
            return [task.result() for task in asked]

    first, second, third = asyncio.run(scenario())
    assert first.status_code == 200
    assert [(each.status_code, each.json()["error"]["code"]) for each in (second, third)] == [
        (429, "queue_timeout"),
        (429, "queue_full"),
    ]
    assert all(int(each.headers["retry-after"]) >= 1 for each in (second, third))
