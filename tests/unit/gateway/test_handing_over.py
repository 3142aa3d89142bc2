"""All requests at a replica move, and nobody else waits long for that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from inferry.core.errors import InferryError
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.gateway.gateway import Gateway
from inferry.gateway.handing_over import HandingOver
from inferry.gateway.host import Active
from inferry.testing.manual_clock import ManualClock

PARSE_S = 0.004


class Crowd:
    """Requests that take 4 ms each to find out where they stand."""

    def __init__(self, size: int) -> None:
        self.clock = ManualClock()
        self.asked: list[tuple[Active, str, str]] = []
        self.faults: list[Exception] = []
        self.active: set[Active] = {Stream(self) for _ in range(size)}
        self.handing_over = HandingOver(
            self.active, asyncio.get_running_loop(), self.clock.now_s, self._one_fault_stays_one
        )

    @contextmanager
    def _one_fault_stays_one(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.faults.append(error)

    def waiting(self) -> list[Active]:
        asked = {each for each, _, _ in self.asked}
        return [each for each in self.active if each not in asked]


class Stream:
    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self.is_faulty = False

    def check(self, now_s: float) -> None:
        raise NotImplementedError

    def abort(self, error: InferryError) -> None:
        raise NotImplementedError

    def hand_over(self, replica_id: str, because: str) -> None:
        self._crowd.clock.advance(PARSE_S)
        self._crowd.asked.append((self, replica_id, because))
        if self.is_faulty:
            raise RuntimeError("a bug")


async def test_a_few_at_a_time() -> None:
    """The first at once; after 10 ms of work everything else has a turn, until all have been asked once."""
    crowd = Crowd(10)
    crowd.handing_over.begin("chat-0", "it drains")
    counts = [len(crowd.asked)]
    while crowd.waiting():
        await asyncio.sleep(0)
        counts.append(len(crowd.asked))
    assert counts == [3, 6, 9, 10]
    assert {each for each, _, _ in crowd.asked} == crowd.active
    assert {(replica, because) for _, replica, because in crowd.asked} == {("chat-0", "it drains")}


async def test_the_gateway_asks_a_few_at_a_time() -> None:
    """It hands the requests of a replica over in such turns."""
    crowd = Crowd(10)
    gateway = Gateway(GatewaySettings(), [], clock=crowd.clock, loop=asyncio.get_running_loop())
    gateway.active.update(crowd.active)
    gateway.hand_over("chat-0", "it drains")
    assert len(crowd.asked) == 3
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(crowd.asked) == 10
    gateway.active.clear()
    await gateway.close()


async def test_who_ends_meanwhile_is_left_out() -> None:
    """Between two turns answers end: those requests are not touched any more."""
    crowd = Crowd(8)
    crowd.handing_over.begin("chat-0", "it drains")
    ended = crowd.waiting()[:4]
    crowd.active.difference_update(ended)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(crowd.asked) == 4
    assert not {each for each, _, _ in crowd.asked} & set(ended)


async def test_asked_again_while_it_goes_on() -> None:
    """The same replica once more changes nothing, another one comes after it; when all is over, all are asked again."""
    crowd = Crowd(5)
    crowd.handing_over.begin("chat-0", "it hangs")
    crowd.handing_over.begin("chat-0", "it hangs")
    crowd.handing_over.begin("chat-1", "it drains")
    for _ in range(9):
        await asyncio.sleep(0)
    assert [replica for _, replica, _ in crowd.asked] == ["chat-0"] * 5 + ["chat-1"] * 5
    crowd.handing_over.begin("chat-0", "it hangs")
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(crowd.asked) == 15


async def test_a_fault_in_one_request() -> None:
    """All others are asked all the same."""
    crowd = Crowd(7)
    for each in crowd.active:
        assert isinstance(each, Stream)
        each.is_faulty = True
    crowd.handing_over.begin("chat-0", "it drains")
    for _ in range(9):
        await asyncio.sleep(0)
    assert (len(crowd.asked), len(crowd.faults)) == (7, 7)
