"""The engine over HTTP and the simulator compute at the same times: one model, on a loop moved by hand and in events."""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from inferry.simulate.replica import SimulatedReplica
from inferry.simulate.replica_request import SimulatedRequest
from inferry.simulate.timeline import Timeline
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_of_simulated import timing_of_simulated
from inferry.testing.simulated_batch import SimulatedBatch, block_ids
from inferry.testing.simulated_formats import Tally
from inferry.testing.simulated_generation import Generation, Generator, Powers
from inferry.testing.simulated_lateness import BusyShare
from inferry.testing.simulated_model import Limits
from inferry.testing.simulated_requests import Ask
from inferry.testing.simulated_words import TokenTable

TIMING = timing_of_simulated(
    context_tokens=600,
    parallel=6,
    ttft_s=0.06,
    itl_s=0.025,
    step_s_per_sequence=0.0004,
    prefill_tokens_per_s=8000,
    step_tokens_max=256,
    kv_tokens=1200,
)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where nothing is to be done, its time leaps to the next timer, and beyond it by what `late_s` says."""

    def __init__(self, late_s: Callable[[], float]) -> None:
        super().__init__()
        self.now_s = 100.0
        self._late_s = late_s

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        loop = cast("Any", self)
        if not loop._ready and loop._scheduled:
            self.now_s = max(self.now_s, loop._scheduled[0]._when + self._late_s())
        cast("Any", super())._run_once()


@contextmanager
def virtual_loop(late_s: Callable[[], float] = lambda: 0.0) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(late_s)
    try:
        yield loop
    finally:
        loop.close()


@dataclass
class Wire:
    """In place of an HTTP exchange and its format: when something went out."""

    loop: asyncio.AbstractEventLoop
    sent_s: list[float] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    headers: dict[str, str] = field(default_factory=dict)
    on_lost: Any = None
    streaming: bool = True

    def open_stream(self) -> None:
        pass

    def send(self, data: bytes) -> None:
        self.sent_s.append(self.loop.time())

    def close_stream(self, data: bytes) -> None:
        self.send(data)
        self.done.set()

    def opening(self) -> bytes:
        return b""

    def piece(self, index: int, piece: object) -> bytes:
        return b"x"

    def closing(self, choices: object) -> bytes:
        return b""


def asked(seed: int) -> list[tuple[float, array[int], int]]:
    """When, which prompt, how long an answer: families of prompts that begin alike."""
    rng = random.Random(seed)
    at_s = 100.0
    asks = []
    for number in range(60):
        at_s += rng.expovariate(4.0)
        shared, own = rng.randrange(0, 200), rng.randrange(1, 200)
        ids = [rng.randrange(3)] * shared + [1000 + number] * own
        asks.append((at_s, array("I", ids), rng.randrange(1, 120)))
    return asks


async def live(seed: int, timing: EngineTiming) -> tuple[list[Generation], list[Wire], Generator]:
    loop = asyncio.get_running_loop()
    powers = Powers(crash=lambda: None, refuse=lambda seconds: None)
    generator = Generator(timing, table=TokenTable(), seed=0, powers=powers)
    generations, wires = [], []

    def start(prompt: array[int], tokens: int) -> None:
        wire = Wire(loop)
        ask = Ask(prompts=(prompt,), limits=Limits(tokens, ignore_eos=True), stream=True)
        generation = Generation(cast("Any", wire), ask, cast("Any", wire), Tally(len(prompt)), None)
        wires.append(wire)
        generations.append(generation)
        generator.start(generation)

    for at_s, prompt, tokens in asked(seed):
        loop.call_at(at_s, start, prompt, tokens)
    while len(wires) < 60:
        await asyncio.sleep(0.5)
    for wire in wires:
        await wire.done.wait()
    return generations, wires, generator


class Silent:
    def first_token(self, request: SimulatedRequest) -> None:
        pass

    token = ended = preempted = first_token


def simulated(generations: list[Generation], timing: EngineTiming) -> list[SimulatedRequest]:
    timeline = Timeline()
    replica: SimulatedReplica[SimulatedRequest] = SimulatedReplica("r", timing, timeline, Silent())
    requests = []
    for generation in generations:
        [prompt], [place] = generation.ask.prompts, generation.places
        blocks = block_ids(prompt[:-1])
        request = SimulatedRequest(place.arrival_s, len(prompt), place.answer_tokens, blocks)
        request.kept_blocks = place.kept_blocks
        requests.append(request)
        timeline.at(request.arrival_s, replica.submit, request)
    timeline.run()
    return requests


@pytest.mark.parametrize("late_ms", [0.0, 4.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_live_engine_computes_at_the_times_of_a_simulation(seed: int, late_ms: float) -> None:
    """To a nanosecond, hits and preemptions too; timers that are late tell of a step later, and shift no other."""
    rng = random.Random(seed)
    with virtual_loop(lambda: rng.random() * late_ms / 1000) as loop:
        generations, wires, generator = loop.run_until_complete(live(seed, TIMING))
        lateness = generator.batch.lateness
    expected = simulated(generations, TIMING)
    for generation, wire, request in zip(generations, wires, expected, strict=True):
        [place] = generation.places
        assert place.first_token_s == pytest.approx(request.first_token_s, abs=1e-9)
        assert place.cached_tokens == request.cached_tokens
        assert request.first_token_s is not None
        assert request.ended_s is not None
        # Of two timers that are late one after the other, the second one's step is told at once.
        assert 0 <= wire.sent_s[0] - request.first_token_s + 1e-9 <= 2 * late_ms / 1000 + 1e-8
        assert 0 <= wire.sent_s[-1] - request.ended_s + 1e-9 <= 2 * late_ms / 1000 + 1e-8
        assert len(wire.sent_s) == request.answer_tokens
    assert sum(request.cached_tokens for request in expected) > 0
    assert generator.batch.preemptions > 0
    assert lateness.given_up_s == 0
    assert lateness.most_s <= late_ms / 500 + 1e-9
    assert (generator.batch.running, generator.batch.waiting, generator.batch.kv_use()) == (0, 0, 0.0)


def test_a_process_that_was_stopped_goes_on_where_it_stood() -> None:
    """After five seconds without a CPU, no burst of tokens makes up for them: they are given up, and counted."""
    with virtual_loop() as loop:

        async def stopped() -> tuple[list[float], SimulatedBatch[SimulatedRequest]]:
            told: list[float] = []

            class Noted(Silent):
                def token(self, request: SimulatedRequest) -> None:
                    told.append(loop.time() - 100.0)
                    if len(told) == 3:
                        loop.now_s += 5.0

            timing = timing_of_simulated(context_tokens=64, parallel=1, ttft_s=1.0, itl_s=1.0)
            batch: SimulatedBatch[SimulatedRequest] = SimulatedBatch(timing, Noted())
            batch.submit(SimulatedRequest(100.0, 3, 6))
            await asyncio.sleep(20)
            return told, batch

        told, batch = loop.run_until_complete(stopped())
        # Four seconds late for the step that was under way, which is then over; the others take a second each.
        assert told == pytest.approx([2.0, 3.0, 4.0, 9.0, 10.0])
        assert batch.lateness.given_up_s == pytest.approx(4.0)


def test_the_busy_share_is_of_the_last_second() -> None:
    """Half of it, all of it, and none a second after the last work; readings closer than 50 ms take no room."""
    busy = BusyShare()
    for step in range(41):  # two seconds: half of each 50 ms
        busy.note(step * 0.05, step * 0.025)
    assert busy.share(2.0, 1.0) == pytest.approx(0.5)
    for step in range(1000):
        busy.note(2.0 + step / 1000, 1.0 + step / 1000)
    assert busy.share(3.0, 2.0) == pytest.approx(1.0, abs=0.02)
    assert len(busy._noted) < 30
    assert busy.share(3.5, 2.0) == pytest.approx(0.5, abs=0.05)
    assert busy.share(4.5, 2.0) == 0.0
