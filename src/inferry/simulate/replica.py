"""A simulated replica: continuous batching in steps, prompts in chunks, a prefix cache, a queue.

One step computes a token of each answer under way and as many prompt tokens as still fit into it, oldest request
first. What it leaves out: preemption and the memory of running answers, attention's growth with the length of a
prompt, and the cost of a cache lookup.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferry.simulate.prefix_cache import SimulatedPrefixCache
from inferry.simulate.timeline import Event, Timeline


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """How fast a simulated replica is, and what it holds.

    The defaults are rounded from the measured profile of Llama 2 70B on eight H100 80 GB with tensor parallelism 8
    that SageServe publishes (perf_model.csv: prompts of 4,096 and 8,192 tokens at 10,500 and 9,700 tokens/s; 30 ms
    per step at batch 1, 39 ms at 32, 50 ms at 64).
    """

    prefill_tokens_per_s: float = 10_000.0
    step_s: float = 0.030
    step_s_per_sequence: float = 0.0003
    step_tokens_max: int = 8192
    """Of prompts and answers together, in one step."""
    sequences_max: int = 256
    cache_tokens: int = 3_000_000
    block_tokens: int = 512


@dataclass(slots=True, eq=False)
class SimulatedRequest:
    """One request, and what came of it. Times are simulated seconds since the begin of the run."""

    arrival_s: float
    prompt_tokens: int
    answer_tokens: int
    blocks: Sequence[int] = ()
    replica: str = ""
    cached_tokens: int = 0
    first_token_s: float | None = None
    ended_s: float | None = None

    @property
    def ttft_s(self) -> float:
        """Only of one that has its first token."""
        assert self.first_token_s is not None
        return self.first_token_s - self.arrival_s


@dataclass(slots=True, eq=False)
class _Prefill:
    """A prompt that is being computed."""

    request: SimulatedRequest
    left: int


Heard = Callable[[SimulatedRequest], None]


class SimulatedReplica:
    """Takes requests by `submit`; says when one has its first token and when it has ended."""

    def __init__(
        self, id: str, timing: EngineTiming, timeline: Timeline, on_first_token: Heard, on_end: Heard
    ) -> None:
        self.id = id
        self.uncached_tokens = 0
        """Prompt tokens that it computed, or has begun to."""
        self.busy_s = 0.0
        self._timing = timing
        self._timeline = timeline
        self._on_first_token = on_first_token
        self._on_end = on_end
        self._cache = SimulatedPrefixCache(timing.cache_tokens, timing.block_tokens)
        self._waiting: deque[SimulatedRequest] = deque()
        self._prefills: deque[_Prefill] = deque()
        self._decoding: list[tuple[int, int, SimulatedRequest]] = []
        """By the step that ends each; the middle number breaks ties."""
        self._steps = 0
        self._submitted = 0
        self._event: Event | None = None
        self._began_s = 0.0
        self._planned_steps = 0
        self._planned_s = 0.0
        self._only_decoding = False

    @property
    def running(self) -> int:
        return len(self._prefills) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, request: SimulatedRequest) -> None:
        """A request arrives here now."""
        request.replica = self.id
        self._waiting.append(request)
        if self._event is None:
            self._begin()
        elif self._only_decoding:
            self._stop_after_this_step()

    def _begin(self) -> None:
        """Begin a step, or many equal ones at once where nothing but answers is under way."""
        timing = self._timing
        decoding = len(self._decoding)
        room = max(timing.step_tokens_max - decoding, 1)
        tokens = self._fill(room)
        if not tokens and not decoding:
            self._event = None
            return
        self._only_decoding = not tokens
        each_s = timing.step_s + timing.step_s_per_sequence * decoding + tokens / timing.prefill_tokens_per_s
        self._planned_steps = 1 if tokens else self._decoding[0][0] - self._steps
        self._planned_s = each_s
        self._began_s = self._timeline.now_s
        self._event = self._timeline.at(self._began_s + each_s * self._planned_steps, self._end)

    def _fill(self, room: int) -> int:
        """Give the next step prompt tokens, at most `room`; returns how many it has."""
        taken = 0
        for prefill in self._prefills:
            part = min(prefill.left, room - taken)
            prefill.left -= part
            taken += part
        while self._waiting and taken < room and self.running < self._timing.sequences_max:
            request = self._waiting.popleft()
            request.cached_tokens = self._cache.cached_tokens(request.blocks, request.prompt_tokens)
            left = max(request.prompt_tokens - request.cached_tokens, 1)
            self.uncached_tokens += left
            part = min(left, room - taken)
            self._prefills.append(_Prefill(request, left - part))
            taken += part
        return taken

    def _stop_after_this_step(self) -> None:
        """Somebody has come: of the equal steps that were planned, the one under way is the last."""
        assert self._event is not None
        passed = self._timeline.now_s - self._began_s
        steps = max(math.ceil(passed / self._planned_s), 1)
        if steps < self._planned_steps:
            self._event.cancel()
            self._planned_steps = steps
            ends_s = max(self._began_s + self._planned_s * steps, self._timeline.now_s)
            self._event = self._timeline.at(ends_s, self._end)

    def _end(self) -> None:
        """The step is over: first tokens, ended answers, the next step."""
        self._steps += self._planned_steps
        self.busy_s += self._planned_s * self._planned_steps
        decoding = self._decoding
        while decoding and decoding[0][0] <= self._steps:
            self._finish(heapq.heappop(decoding)[2])
        while self._prefills and not self._prefills[0].left:
            self._answer(self._prefills.popleft().request)
        self._begin()

    def _answer(self, request: SimulatedRequest) -> None:
        """Its prompt is computed, and its first token is out."""
        self._cache.add(request.blocks)
        request.first_token_s = self._timeline.now_s
        self._on_first_token(request)
        if request.answer_tokens <= 1:
            self._finish(request)
            return
        self._submitted += 1
        heapq.heappush(self._decoding, (self._steps + request.answer_tokens - 1, self._submitted, request))

    def _finish(self, request: SimulatedRequest) -> None:
        request.ended_s = self._timeline.now_s
        self._on_end(request)
