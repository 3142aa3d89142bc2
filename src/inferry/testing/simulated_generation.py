"""The simulated engine's answers: each gets its tokens as the batch computes them; faults are carried out."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from inferry.simulate.replica_request import SimulatedRequest, Stage
from inferry.simulate.timing import EngineTiming
from inferry.testing.simulated_batch import SimulatedBatch, block_ids
from inferry.testing.simulated_dialects import error_body
from inferry.testing.simulated_faults import Fault, FaultKind
from inferry.testing.simulated_formats import AnswerFormat, Choice, Tally
from inferry.testing.simulated_http import Exchange
from inferry.testing.simulated_metrics import Figures
from inferry.testing.simulated_model import Answer, Piece
from inferry.testing.simulated_record import RequestRecord
from inferry.testing.simulated_requests import Ask
from inferry.testing.simulated_words import Speech, TokenTable

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
class Place(SimulatedRequest):
    """A sequence in the batch that knows whose it is."""

    generation: Generation
    index: int
    answer: Answer
    slowness: float = 1.0
    """Stretches this sequence's delays."""
    last_token_s: float | None = None


class Generator:
    """All answers of one engine. `start` one, `drop` it when its client goes, `abort_all` at the end."""

    def __init__(
        self,
        timing: EngineTiming,
        *,
        table: TokenTable,
        seed: int,
        powers: Powers,
        record: RequestRecord | None = None,
    ) -> None:
        self.figures = Figures()
        self.batch: SimulatedBatch[Place] = SimulatedBatch(timing, self)
        self._table = table
        self._seed = seed
        self._powers = powers
        self._record = record
        self._active: set[Generation] = set()
        self._loop = asyncio.get_running_loop()

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
        slowness = 1.0
        if fault is not None and fault.kind is FaultKind.SLOW and fault.after_tokens == 0:
            slowness = fault.factor
        self._prepare(generation, slowness)
        self._note(generation, "begun")
        if ask.stream:
            generation.exchange.open_stream()
        for place in generation.places:
            self.batch.submit(place)

    def _prepare(self, generation: Generation, slowness: float) -> None:
        """A place for each choice."""
        ask = generation.ask
        now_s = self._loop.time()
        seed = self._seed if ask.seed is None else ask.seed
        for prompt in ask.prompts:
            self.figures.prompt_tokens += len(prompt)
            # A prompt's last token is always computed, and with it its block.
            blocks = block_ids(prompt[:-1])
            for choice in range(ask.n):
                place = Place(
                    arrival_s=now_s,
                    prompt_tokens=len(prompt),
                    answer_tokens=ask.limits.max_tokens,
                    blocks=blocks,
                    generation=generation,
                    index=len(generation.places),
                    answer=Answer(Speech(seed + choice, prompt, self._table), ask.limits),
                    slowness=slowness,
                )
                generation.places.append(place)
                generation.choices.append(Choice())
        generation.unfinished = len(generation.places)

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
        for place in generation.places:
            self._leave(place)

    def _leave(self, place: Place) -> None:
        """All that was computed for it may serve others."""
        if place.stage is not Stage.GONE:
            generation = place.generation
            prompt = generation.ask.prompts[place.index // generation.ask.n]
            if said := generation.choices[place.index].token_ids:
                place.kept_blocks = block_ids(prompt + array("I", said))
            if place.answer.tokens < place.answer_tokens or place.stage is Stage.PAUSED:
                self.batch.leave(place)  # else its end is told next

    def abort_all(self) -> None:
        """End every answer where it stands, with finish_reason `abort`, as vLLM does at SIGTERM."""
        for generation in tuple(self._active):
            data = b"" if generation.opened else generation.format.opening()
            for index, choice in enumerate(generation.choices):
                if choice.finish is None:
                    choice.finish = "abort"
                    data += generation.format.piece(index, Piece(0, "", b"", "abort"))
            self._complete(generation, data, "abort")

    # --- what the batch tells -------------------------------------------------------------------------

    def first_token(self, place: Place) -> None:
        """Its prompt is computed."""
        generation = place.generation
        if place.index % generation.ask.n == 0:
            generation.tally.cached_tokens += place.cached_tokens
            self.figures.cached_tokens += place.cached_tokens
        self.token(place)

    def token(self, place: Place) -> None:
        """Its next token is computed: say it now, or when faults let it."""
        generation = place.generation
        fault = generation.fault
        if (
            fault is not None
            and generation.tally.completion_tokens >= fault.after_tokens
            and self._strike(generation, fault)
        ):
            return
        now_s = self._loop.time()
        since_s = place.arrival_s if place.last_token_s is None else place.last_token_s
        wait_s = max(generation.silent_until_s - now_s, (place.slowness - 1) * (now_s - since_s))
        if wait_s > 0:
            self.batch.pause(place)
            self._loop.call_later(wait_s, self._say_late, place)
        else:
            self._say(place)

    def ended(self, place: Place) -> None:
        """Its last token has been said."""

    def preempted(self, place: Place) -> None:
        """Whoever reads its answer waits."""

    def _say_late(self, place: Place) -> None:
        if place.stage is Stage.PAUSED:
            self._say(place)
        if place.stage is Stage.PAUSED:
            self.batch.resume(place)

    def _say(self, place: Place) -> None:
        generation = place.generation
        now_s = self._loop.time()
        piece = place.answer.step()
        figures = self.figures
        if place.last_token_s is None:
            figures.ttft.observe(now_s - place.arrival_s)
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
            return
        choice.finish = piece.finish
        choice.stop_reason = piece.stop_reason
        self._leave(place)
        generation.unfinished -= 1
        if generation.unfinished == 0:
            figures.e2e.observe(now_s - place.arrival_s)
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
