"""The simulated engine's one timer: it gives each running answer its next token, and carries out faults."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from inferry.testing.simulated_dialects import error_body
from inferry.testing.simulated_faults import Fault, FaultKind
from inferry.testing.simulated_formats import AnswerFormat, Choice, Tally
from inferry.testing.simulated_http import Exchange
from inferry.testing.simulated_metrics import Figures
from inferry.testing.simulated_model import BLOCK_TOKENS, Answer, Batch, Piece, PrefixCache, Sequence
from inferry.testing.simulated_record import RequestRecord
from inferry.testing.simulated_requests import Ask
from inferry.testing.simulated_words import Speech, TokenTable

# uvloop's timers count in milliseconds: what is due within half of one is due now.
_TICK_SLACK_S = 0.0005
_CACHE_BLOCKS_MAX = 65_536
_FAULT_MESSAGE = "simulated fault"
_BROKEN_JSON = b'{"id":"chatcmpl-broken","choices":[{"delta":{"cont'
_BROKEN_EVENT = b"data: " + _BROKEN_JSON + b"\n\n"


@dataclass(frozen=True, slots=True)
class Powers:
    """What a fault may do to the process around; the owner of process and port says how."""

    crash: Callable[[], None]
    refuse: Callable[[float], None]
    """Close the port and all connections for so many seconds."""


@dataclass(slots=True, eq=False)
class Generation:
    """One request that is being answered."""

    exchange: Exchange
    ask: Ask
    format: AnswerFormat
    tally: Tally
    fault: Fault | None
    choices: list[Choice] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    unfinished: int = 0
    opened: bool = False
    silent_until_s: float = 0.0


@dataclass(slots=True, eq=False, kw_only=True)
class Place(Sequence):
    """A sequence in the batch that knows whose it is."""

    generation: Generation
    index: int


class Generator:
    """All answers of one engine. `start` one, `drop` it when its client goes, `abort_all` at the end."""

    def __init__(
        self,
        *,
        table: TokenTable,
        parallel: int,
        context_tokens: int,
        ttft_s: float,
        itl_s: float,
        seed: int,
        prefill_tokens_per_s: float = math.inf,
        cache_tokens: int | None = None,
        powers: Powers,
        record: RequestRecord | None = None,
    ) -> None:
        self.figures = Figures()
        self._table = table
        self._seed = seed
        self._powers = powers
        self._record = record
        self._batch = Batch(parallel, ttft_s, itl_s, prefill_tokens_per_s)
        self._blocks_total = max(parallel * context_tokens // BLOCK_TOKENS, 1)
        cache_blocks = min(self._blocks_total, _CACHE_BLOCKS_MAX)
        self._cache = PrefixCache(cache_blocks if cache_tokens is None else cache_tokens // BLOCK_TOKENS)
        self._active: set[Generation] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s: float | None = None
        """When the timer goes off. Not `timer.when()`: uvloop's handle of a time that has passed has none."""
        self._ticking = False

    @property
    def running(self) -> int:
        return self._batch.running_count

    @property
    def waiting(self) -> int:
        return self._batch.waiting_count

    def kv_use(self) -> float:
        """0 to 1: blocks that running sequences fill."""
        used = sum(
            (place.prompt_tokens + place.answer.tokens) // BLOCK_TOKENS + 1 for place in self._batch.running
        )
        return min(used / self._blocks_total, 1.0)

    def start(self, generation: Generation) -> None:
        """Begin to answer. The head of a stream goes out now, before the first token, as at vLLM."""
        ask = generation.ask
        fault = generation.fault
        self._active.add(generation)
        generation.exchange.on_lost = lambda: self.drop(generation, "abort")
        if (
            fault is not None
            and fault.after_tokens == 0
            and fault.kind is not FaultKind.STALL  # counts from the first token on, not from its request
            and self._strike(generation, fault)
        ):
            return
        now_s = self._loop.time()
        slowness = 1.0
        if fault is not None and fault.kind is FaultKind.SLOW and fault.after_tokens == 0:
            slowness = fault.factor
        seed = self._seed if ask.seed is None else ask.seed
        for prompt in ask.prompts:
            cached = self._cache.lookup(prompt)
            generation.tally.cached_tokens += cached
            self.figures.prompt_tokens += len(prompt)
            self.figures.cached_tokens += cached
            self._cache.remember(prompt)
            for choice in range(ask.n):
                speech = Speech(seed + choice, prompt, self._table)
                generation.places.append(
                    Place(
                        answer=Answer(speech, ask.limits),
                        prompt_tokens=len(prompt),
                        submitted_s=now_s,
                        uncached_tokens=0 if choice else len(prompt) - cached,
                        slowness=slowness,
                        generation=generation,
                        index=len(generation.places),
                    )
                )
                generation.choices.append(Choice())
        generation.unfinished = len(generation.places)
        self._note(generation, "begun")
        if ask.stream:
            generation.exchange.open_stream()
        for place in generation.places:
            self._batch.submit(place, now_s)
        self._arm()

    def drop(self, generation: Generation, reason: str) -> None:
        """Forget a generation and free its places."""
        if generation in self._active:
            self._note(generation, "dropped")
            self._forget(generation, reason)

    def _note(self, generation: Generation, event: str) -> None:
        if self._record is not None:
            tally = generation.tally
            id = generation.exchange.headers.get("x-request-id")
            self._record.write(id, event, tally.prompt_tokens, tally.completion_tokens)

    def _forget(self, generation: Generation, reason: str) -> None:
        self._active.remove(generation)
        generation.exchange.on_lost = None
        self.figures.finished[reason] += 1
        now_s = self._loop.time()
        for place in generation.places:
            self._batch.leave(place, now_s)
        self._arm()

    def abort_all(self) -> None:
        """End every answer where it stands, with finish_reason `abort`, as vLLM does at SIGTERM."""
        for generation in tuple(self._active):
            data = b"" if generation.opened else generation.format.opening()
            for index, choice in enumerate(generation.choices):
                if choice.finish is None:
                    choice.finish = "abort"
                    data += generation.format.piece(index, Piece(0, "", b"", "abort"))
            self._complete(generation, data, "abort")

    # --- the timer ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        due_s = self._batch.next_due_s()
        if self._ticking or due_s == self._armed_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_s = due_s
        self._timer = None if due_s is None else self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        self._timer = self._armed_s = None
        self._ticking = True
        now_s = self._loop.time()
        try:
            for place in self._batch.take_due(now_s + _TICK_SLACK_S):
                assert isinstance(place, Place)
                if not place.left:  # a fault at an earlier place may have ended its whole request
                    self._step(place, now_s)
        finally:
            self._ticking = False
            self._arm()

    def _step(self, place: Place, now_s: float) -> None:
        generation = place.generation
        fault = generation.fault
        if (
            fault is not None
            and generation.tally.completion_tokens >= fault.after_tokens
            and self._strike(generation, fault)
        ):
            return
        if generation.silent_until_s > now_s:
            self._batch.hold(place, generation.silent_until_s - now_s, now_s)
            return
        piece = place.answer.step()
        figures = self.figures
        if place.last_token_s is None:
            figures.ttft.observe(now_s - place.submitted_s)
        else:
            figures.itl.observe(now_s - place.last_token_s)
        place.last_token_s = now_s
        figures.generated_tokens += 1
        generation.tally.completion_tokens += 1
        if self._record is not None:
            self._record.write(generation.exchange.headers.get("x-request-id"), "token")
        choice = generation.choices[place.index]
        choice.token_ids.append(piece.token_id)
        choice.texts.append(piece.text)
        data = b""
        if generation.ask.stream:
            if not generation.opened:
                generation.opened = True
                data = generation.format.opening()
            data += generation.format.piece(place.index, piece)
        if piece.finish is None:
            if data:
                generation.exchange.send(data)
            self._batch.resume(place, now_s)
            return
        choice.finish = piece.finish
        choice.stop_reason = piece.stop_reason
        self._batch.leave(place, now_s)
        prompt = generation.ask.prompts[place.index // generation.ask.n]
        self._cache.remember(prompt + array("I", choice.token_ids))
        generation.unfinished -= 1
        if generation.unfinished == 0:
            figures.e2e.observe(now_s - place.submitted_s)
            self._complete(generation, data, piece.finish)
        elif data:
            generation.exchange.send(data)

    def _complete(self, generation: Generation, data: bytes, reason: str) -> None:
        self._note(generation, "finished")
        self._forget(generation, reason)
        if generation.ask.stream:
            generation.exchange.close_stream(data + generation.format.closing(generation.choices))
        else:
            generation.exchange.reply(200, generation.format.whole(generation.choices))

    # --- faults ---------------------------------------------------------------------------------------

    def break_plain(self, exchange: Exchange, fault: Fault) -> None:
        """Carry out a fault that ends a request on a route that doesn't generate."""
        anthropic = exchange.path.startswith("/v1/messages")
        match fault.kind:
            case FaultKind.ERROR_STATUS:
                exchange.reply(fault.status, _fault_body(anthropic, fault.status))
            case FaultKind.BAD_BYTES if fault.where == "event":
                exchange.reply(200, _BROKEN_JSON)
            case FaultKind.BAD_BYTES:
                exchange.send_garbage()
            case FaultKind.CRASH:
                self._powers.crash()
            case _:
                exchange.cut()

    def _strike(self, generation: Generation, fault: Fault) -> bool:
        """Carry out the fault; True if it ended the request."""
        generation.fault = None
        exchange = generation.exchange
        match fault.kind:
            case FaultKind.STALL:
                generation.silent_until_s = self._loop.time() + fault.seconds
                return False
            case FaultKind.SLOW:
                for place in generation.places:
                    place.slowness = fault.factor
                return False
            case FaultKind.BAD_BYTES if fault.where == "event" and generation.ask.stream:
                if not exchange.streaming:
                    generation.fault = fault  # not begun yet: strike at the first token
                else:
                    exchange.send(_BROKEN_EVENT)
                return False
            case FaultKind.BAD_BYTES if exchange.streaming:
                exchange.send_garbage()
            case FaultKind.ERROR_STATUS if exchange.streaming:
                exchange.close_stream(generation.format.failed(_FAULT_MESSAGE, fault.status))
            case _:
                self.break_plain(exchange, fault)
        self.drop(generation, "error")
        return True


def _fault_body(anthropic: bool, status: int) -> bytes:
    return error_body(anthropic, _FAULT_MESSAGE, status, "InternalServerError")
