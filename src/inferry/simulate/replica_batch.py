"""Who waits, computes and answers in a simulated engine, and which blocks they hold; counted in steps, without time."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Generic, TypeVar

from inferry.simulate.kv_pool import KvPool
from inferry.simulate.replica_request import ReplicaListener, SimulatedRequest, Stage
from inferry.simulate.timing import EngineTiming

R = TypeVar("R", bound=SimulatedRequest)


class ReplicaBatch(Generic[R]):
    """What ReplicaModel moves on."""

    def __init__(self, timing: EngineTiming, listener: ReplicaListener[R]) -> None:
        self.timing = timing
        self.prompt_tokens = 0
        """Of requests that were let in, each once."""
        self.cached_tokens = 0
        """Of those, what needed no computing."""
        self.uncached_tokens = 0
        """What it computed before answers, or has begun to; of preempted requests each time."""
        self.answer_tokens = 0
        self.preemptions = 0
        self._listener = listener
        self._pool = KvPool(timing.kv_tokens // timing.block_tokens, timing.block_tokens)
        self._waiting: deque[R] = deque()
        self._computing: deque[R] = deque()
        self._answering: list[tuple[int, int, R]] = []
        """A heap: by the step that ends each, then by number."""
        self._steps = 0
        """That have passed."""
        self._let_in = 0

    @property
    def running(self) -> int:
        return len(self._computing) + len(self._answering)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def fits(self, prompt_tokens: int, answer_tokens: int) -> bool:
        """Can it be answered here at all? Engines refuse what is longer than their memory or the model's context."""
        total = prompt_tokens + answer_tokens
        context_tokens = self.timing.context_tokens
        if context_tokens is not None and total > context_tokens:
            return False
        return total <= self._pool.blocks_max * self._pool.block_tokens

    def answer_fits(self, prompt_tokens: int, answer_tokens: int) -> int:
        """So many tokens of the answer, before the model's context ends; at least one: whom it can't have, it refuses."""
        context_tokens = self.timing.context_tokens
        return (
            answer_tokens
            if context_tokens is None
            else max(min(answer_tokens, context_tokens - prompt_tokens), 1)
        )

    # --- in and out -----------------------------------------------------------------------------------

    def _let(self, request: R) -> bool:
        """Let it in with blocks for its prompt, and for what it had said before; False: there are not enough."""
        pool = self._pool
        tokens = max(request.prompt_tokens + request.said, 1)
        wanted = -(-tokens // pool.block_tokens)
        known = 0
        if request.blocks:
            if len(request.blocks) > wanted:
                request.blocks = request.blocks[:wanted]
            pool.evict(self._steps)
            known = pool.known(request.blocks)
        if not pool.has_room(self._steps, wanted - known + pool.unused(request.blocks, known)):
            return False
        pool.prompt_blocks += wanted
        pool.hold(request.blocks, 0, known)
        cached = min(known * pool.block_tokens, tokens - 1)
        request.held = known
        request.left = tokens - cached
        request.stage = Stage.COMPUTING
        self._let_in += 1
        request.number = self._let_in
        self._computing.append(request)
        self.uncached_tokens += request.left
        if not request.said:
            request.cached_tokens = cached
            self.cached_tokens += cached
            self.prompt_tokens += request.prompt_tokens
        return True

    def _compute(self, request: R, part: int) -> float:
        """So many of its tokens are in the next step; returns their pairs."""
        before = request.prompt_tokens + request.said - request.left
        request.left -= part
        if request.held < len(request.blocks):
            # Others that are let in find them from now on: layer by layer, they are there before they are read.
            done = len(request.blocks)
            if request.left:
                done = min((before + part) // self._pool.block_tokens, done)
            if done > request.held:
                self._pool.evict(self._steps)
                self._pool.hold(request.blocks, request.held, done)
                request.held = done
        return part * (before + part / 2)

    def _prompt_blocks(self, request: R) -> int:
        """What it was let in with."""
        return -(-max(request.prompt_tokens + request.said, 1) // self._pool.block_tokens)

    def _stop_computing(self, request: R, steps: int) -> None:
        self._computing.remove(request)
        self._pool.evict(steps)
        self._pool.prompt_blocks -= self._prompt_blocks(request)
        self._pool.let_go(request.blocks, request.held)

    def _stop_answering(self, request: R, steps: int) -> None:
        """Before its end, after so many steps."""
        self._answering = [entry for entry in self._answering if entry[2] is not request]
        heapq.heapify(self._answering)
        request.said = request.base + steps - request.prompt_tokens
        self._free_answer(request, steps)

    def _free_answer(self, request: R, steps: int) -> None:
        pool = self._pool
        pool.evict(steps)
        pool.stop_growing(request.base)
        pool.let_go(request.blocks, request.held)

    def _keep(self, request: R) -> None:
        """It is over: what was computed of its answer, too, serves others from now on."""
        if request.kept_blocks:
            computed = (request.prompt_tokens + request.said) // self._pool.block_tokens
            self._pool.keep(request.kept_blocks[request.held : computed])

    # --- room for answers -----------------------------------------------------------------------------

    def _make_room(self) -> bool:
        """Blocks for the next step's tokens: while there are not enough, the youngest gives up its own."""
        preempted = False
        while not self._pool.has_room(self._steps):
            preempted = True
            if self._computing:
                request = self._computing[-1]
                self._stop_computing(request, self._steps)
            else:
                request = max((entry[2] for entry in self._answering), key=by_number)
                self._stop_answering(request, self._steps)
            request.stage = Stage.WAITING
            self._waiting.appendleft(request)
            self.preemptions += 1
            self._listener.preempted(request)
        return preempted

    def _steps_with_room(self, steps: int) -> int:
        """How many of so many steps find blocks; the first one does."""
        if self._pool.has_room(self._steps + steps - 1):
            return steps
        enough, too_many = 1, steps
        while too_many - enough > 1:
            middle = (enough + too_many) // 2
            if self._pool.has_room(self._steps + middle - 1):
                enough = middle
            else:
                too_many = middle
        return enough


def by_number(request: SimulatedRequest) -> int:
    return request.number
