"""What a simulated engine does, without a clock: continuous batching in steps, prompts in chunks, KV blocks, a queue.

It is told what comes and what time it is, and says when it wants to be asked again (`next_s`). The simulator lets it
take many steps at once, and the simulated engine over HTTP one by one; both come out at the same times.

One step computes a token of each answer under way, and prompt tokens as far as they still fit into it, oldest first.
As vLLM's V1 does (docs.vllm.ai, "Optimization and Tuning": preemption, chunked prefill): who comes is let in while
there are places, tokens in the step, and blocks for the whole prompt; where an answer finds no block for its next
token, the youngest gives up all of its own and is computed anew later, what it had said included. What it leaves out:
several KV groups, speculation, the cost of a cache lookup, and that two who compute the same prompt at the same time
hold it twice.
"""

from __future__ import annotations

import heapq
from math import ceil, inf, sqrt
from typing import TypeVar

from inferry.simulate.kv_pool import KvPool
from inferry.simulate.replica_batch import ReplicaBatch, by_number
from inferry.simulate.replica_request import ReplicaListener, SimulatedRequest, Stage
from inferry.simulate.timing import EngineTiming

R = TypeVar("R", bound=SimulatedRequest)


class ReplicaModel(ReplicaBatch[R]):
    """`submit` and `leave` at any time, `advance` at `next_s`; times never go back."""

    def __init__(
        self, timing: EngineTiming, listener: ReplicaListener[R], *, whole_steps: bool = True
    ) -> None:
        """`whole_steps`: many steps at once where nothing happens in between; else one by one, each token told."""
        super().__init__(timing, listener)
        self.now_s = 0.0
        """Of what happened last."""
        self.next_s = inf
        self._whole_steps = whole_steps
        self._slowness = 1.0
        self._busy_s = 0.0
        """Of steps that have passed."""
        self._inside = False
        """Something happens: what comes of calls meanwhile is seen when it is over."""
        self._frozen_s: float | None = None
        # Steps under way.
        self._planned = 0
        self._began_s = 0.0
        self._step_s = 0.0
        """The first one's duration."""
        self._growth_s = 0.0
        """Each takes so much longer than the one before."""
        self._only_answers = False

    # --- what it tells at any time --------------------------------------------------------------------

    def busy_s(self, now_s: float) -> float:
        """Seconds in which it computed, since its begin."""
        if not self._planned:
            return self._busy_s
        passed_s = (now_s if self._frozen_s is None else self._frozen_s) - self._began_s
        return self._busy_s + min(max(passed_s, 0.0), self._lasts_s(self._planned))

    def kv_use(self, now_s: float) -> float:
        """0 to 1: blocks that running requests hold; those that are only kept are free."""
        return min(self._pool.used(self._steps + self._passed_by(now_s)) / self._pool.blocks_max, 1.0)

    # --- what it is told ------------------------------------------------------------------------------

    def submit(self, request: R, now_s: float) -> None:
        """It arrives now. Only one that `fits`."""
        assert self.fits(request.prompt_tokens, request.answer_tokens), "it is longer than the KV cache"
        if self.next_s < now_s and not self._inside:
            self.advance(now_s)
        request.stage = Stage.WAITING
        request.due_s = now_s + self.timing.request_s
        request.said = 0
        request.first_token_s = None
        self._waiting.append(request)
        if len(self._waiting) == 1:
            self._look_at_queue(now_s)

    def leave(self, request: R, now_s: float) -> None:
        """It ends here, wherever it is, and nothing more is told of it; others have its room after the step under way."""
        if self.next_s < now_s and not self._inside:
            self.advance(now_s)
        if request.stage is Stage.WAITING:
            self._waiting.remove(request)
            self._look_at_queue(now_s)
        elif request.stage is Stage.COMPUTING:
            self._stop_computing(request, self._steps + self._passed_by(now_s))
            if self._planned:
                self._end_plan_by(now_s)
            else:
                self._look_at_queue(now_s)
        elif request.stage is Stage.ANSWERING:
            passed = self._passed_by(now_s)
            self.answer_tokens += passed
            self._stop_answering(request, self._steps + passed)
            self._keep(request)
            self._end_plan_by(now_s)
        request.stage = Stage.GONE

    def clear(self, now_s: float) -> list[R]:
        """It has crashed: all requests that it had, oldest first. It is as new; only its counts go on."""
        if self.next_s < now_s and not self._inside:
            self.advance(now_s)
        passed = self._passed_by(now_s)
        answering = [entry[2] for entry in self._answering]
        for request in answering:
            request.said = request.base + self._steps + passed - request.prompt_tokens
        self.answer_tokens += passed * len(answering)
        lost = [*sorted([*self._computing, *answering], key=by_number), *self._waiting]
        for request in lost:
            request.stage = Stage.GONE
        self._busy_s = self.busy_s(now_s)
        self._pool = KvPool(self._pool.blocks_max, self._pool.block_tokens)
        for queue in (self._waiting, self._computing, self._answering):
            queue.clear()
        self._planned = 0
        self._frozen_s = None
        self.next_s = inf
        return lost

    def advance(self, now_s: float) -> None:
        """Let everything happen up to now."""
        while self.next_s <= now_s:
            self._go_on()

    def slow_down(self, factor: float, now_s: float) -> None:
        """Steps take so many times as long, from the next one on."""
        self.advance(now_s)
        self._slowness = factor
        self._end_plan_by(now_s)

    def freeze(self, now_s: float) -> None:
        """Nothing goes on until `thaw`; requests may come and leave."""
        self.advance(now_s)
        if self._frozen_s is None:
            self._frozen_s = now_s
            self.next_s = inf

    def thaw(self, now_s: float) -> None:
        """The step under way goes on where it stood."""
        if self._frozen_s is None:
            return
        self._began_s += now_s - self._frozen_s
        self._frozen_s = None
        if self._planned:
            self.next_s = self._began_s + self._lasts_s(self._planned)
            self._end_plan_by(now_s)
        else:
            self._look_at_queue(now_s)

    # --- steps ----------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """What was planned has passed: tokens, first tokens, ends; then the next steps."""
        self._inside = True
        self.now_s = self.next_s
        if self._planned:
            self._steps += self._planned
            self._busy_s += self.now_s - self._began_s
            self.answer_tokens += self._planned * len(self._answering)
            self._planned = 0
            if not self._whole_steps:
                self._tell_tokens()
            while self._computing and not self._computing[0].left:
                self._answer(self._computing.popleft())
            while self._answering and self._answering[0][0] <= self._steps:
                self._end(heapq.heappop(self._answering)[2])
        self._begin()
        self._inside = False

    def _tell_tokens(self) -> None:
        for request in sorted((entry[2] for entry in self._answering), key=by_number):
            if request.stage is Stage.ANSWERING:  # else an earlier one's token made it leave
                self._listener.token(request)

    def _answer(self, request: R) -> None:
        """Its prompt is computed, and a token is out."""
        self._pool.prompt_blocks -= self._prompt_blocks(request)
        request.said += 1
        request.base = request.prompt_tokens + request.said - self._steps
        request.stage = Stage.ANSWERING
        self._pool.grow(request.base)
        self.answer_tokens += 1
        heapq.heappush(
            self._answering, (self._steps + request.answer_tokens - request.said, request.number, request)
        )
        if request.said == 1:
            request.first_token_s = self.now_s
            self._listener.first_token(request)
        elif not self._whole_steps:
            self._listener.token(request)

    def _end(self, request: R) -> None:
        self._free_answer(request, self._steps)
        request.said = request.answer_tokens
        self._keep(request)
        request.stage = Stage.GONE
        request.ended_s = self.now_s
        self._listener.ended(request)

    def _begin(self) -> None:
        """Begin a step; where only answers are under way, all steps up to the next change."""
        preempted = self._make_room() if self._answering else False
        answering = len(self._answering)
        tokens, pairs = 0, 0.0
        if self._computing or (self._waiting and not preempted):
            tokens, pairs = self._fill(max(self.timing.step_tokens_max - answering, 1), preempted)
        if not tokens and not answering:
            self.next_s = self._idle_until_s(preempted)
            return
        timing = self.timing
        context = self._pool.context_tokens(self._steps)
        self._began_s = self.now_s
        self._step_s = self._slowness * timing.step_s_of(answering, context, tokens, pairs)
        self._growth_s = self._slowness * timing.step_s_per_kv_token * answering
        self._only_answers = not tokens
        self._planned = 1
        if self._only_answers and self._whole_steps and not preempted:
            self._planned = self._steps_with_room(self._answering[0][0] - self._steps)
        self.next_s = self._began_s + self._lasts_s(self._planned)
        if self._computing and self._only_answers:
            self._end_plan_by(self._computing[0].due_s)
        if self._waiting and self._waiting[0].due_s > self.now_s:
            self._look_at_queue(self.now_s)
        # Else the first in the queue found no room, and finds none before somebody ends.

    def _idle_until_s(self, preempted: bool) -> float:
        """Nothing can be computed now. When may something be, unless somebody comes or leaves?"""
        due_s = self._computing[0].due_s if self._computing else inf
        if self._waiting and (preempted or self._waiting[0].due_s > self.now_s):
            due_s = min(due_s, max(self._waiting[0].due_s, self.now_s))
        return due_s

    def _look_at_queue(self, now_s: float) -> None:
        """Somebody new is the first in the queue, or nobody: whoever it is may come in when the step under way ends."""
        if self._frozen_s is not None or (self._inside and not self._planned):
            return
        due_s = max(self._waiting[0].due_s, now_s) if self._waiting else inf
        if self._planned:
            if self._only_answers and self.running < self.timing.sequences_max:
                self._end_plan_by(due_s)
            return
        self.next_s = min(due_s, self._computing[0].due_s) if self._computing else due_s
        self.advance(now_s)

    def _end_plan_by(self, at_s: float) -> None:
        """Of the steps that were planned, the one that is under way at that time is the last."""
        if self._planned > 1 and self._frozen_s is None:
            steps = self._begun_by(at_s)
            if steps < self._planned:
                self._planned = steps
                self.next_s = max(self._began_s + self._lasts_s(steps), at_s)

    def _lasts_s(self, steps: int) -> float:
        """The first so many of the planned ones together."""
        return steps * self._step_s + self._growth_s * (steps * (steps - 1) / 2)

    def _begun_by(self, at_s: float) -> int:
        """How many of the planned ones have begun by then, at least one: the least n with lasts(n) >= passed."""
        passed_s = at_s - self._began_s
        if passed_s <= self._step_s:
            return 1
        if passed_s >= self._lasts_s(self._planned):
            return self._planned
        half = self._step_s - self._growth_s / 2
        steps = ceil(2 * passed_s / (half + sqrt(half * half + 2 * self._growth_s * passed_s)))
        # What rounding did to the root.
        while self._lasts_s(steps) < passed_s:
            steps += 1
        while steps > 1 and self._lasts_s(steps - 1) >= passed_s:
            steps -= 1
        return steps

    def _passed_by(self, now_s: float) -> int:
        """How many of the planned ones have passed by then."""
        if self._planned <= 1:
            return 0
        return self._begun_by(now_s if self._frozen_s is None else self._frozen_s) - 1

    def _fill(self, room: int, preempted: bool) -> tuple[int, float]:
        """Give the next step prompt tokens, at most `room`; returns how many, and their pairs."""
        taken, pairs = 0, 0.0
        for request in self._computing:
            part = min(request.left, room - taken)
            if not part or request.due_s > self.now_s:
                break
            pairs += self._compute(request, part)
            taken += part
        waiting, running_max = self._waiting, self.timing.sequences_max
        while waiting and taken < room and self.running < running_max and not preempted:
            request = waiting[0]
            if request.due_s > self.now_s or not self._let(request):
                break
            waiting.popleft()
            if self.timing.place_s:
                request.due_s = self.now_s + self.timing.place_s
                continue
            part = min(request.left, room - taken)
            pairs += self._compute(request, part)
            taken += part
        return taken, pairs
