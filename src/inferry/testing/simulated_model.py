"""The simulated engine's inside, without I/O: answers with their limits, the batch, the prefix cache.

Deciders only: they are told `now_s` and say what is due; simulated_app.py owns the timer and the sockets.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field

from inferry.testing.simulated_words import END, Speech, Token

BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends, as the request says."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    include_stop: bool = False


@dataclass(slots=True)
class Piece:
    """What one step of an answer adds. `json` is `text` as it stands inside a JSON string."""

    token_id: int
    text: str
    json: bytes | None
    """None: not encoded yet, since stop strings changed the text."""
    finish: str | None = None
    stop_reason: str | None = None


class Answer:
    """One choice under way: draws tokens, holds back what may become a stop string, knows the end."""

    __slots__ = ("_hold", "_limits", "_speech", "_withheld", "tokens")

    def __init__(self, speech: Speech, limits: Limits) -> None:
        self._speech = speech
        self._limits = limits
        self._hold = max((len(stop) for stop in limits.stop), default=1) - 1
        self._withheld = ""
        self.tokens = 0

    def step(self) -> Piece:
        limits = self._limits
        may_end = not limits.ignore_eos and self.tokens >= limits.min_tokens
        token = self._speech.next(may_end)
        self.tokens += 1
        if token is END:
            finish: str | None = "stop"
        else:
            finish = "length" if self.tokens >= limits.max_tokens else None
        if limits.stop:
            return self._with_stops(token, finish)
        return Piece(token.id, token.text, token.json, finish)

    def _with_stops(self, token: Token, finish: str | None) -> Piece:
        # The withheld text is shorter than the longest stop string, so a match can't begin before it.
        text = self._withheld + token.text
        found = [(at, stop) for stop in self._limits.stop if (at := text.find(stop)) >= 0]
        if found and self.tokens > self._limits.min_tokens:
            at, stop = min(found)
            end = at + len(stop) if self._limits.include_stop else at
            return Piece(token.id, text[:end], None, "stop", stop)
        if finish is not None:
            return Piece(token.id, text, None, finish)
        shown = max(len(text) - self._hold, 0)
        self._withheld = text[shown:]
        return Piece(token.id, text[:shown], None)


class PrefixCache:
    """Which beginnings of prompts were computed before, in blocks of 16 tokens; the oldest unused go first."""

    def __init__(self, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def lookup(self, ids: array[int]) -> int:
        """How many leading tokens are cached. Never the whole prompt: its last token is always computed."""
        known = 0
        for key in _block_keys(ids[: max(len(ids) - 1, 0)]):
            if key not in self._blocks:
                break
            known += BLOCK_TOKENS
        return known

    def remember(self, ids: array[int]) -> None:
        # A prompt's end goes before its beginning, without which it would be of no use.
        for key in reversed(_block_keys(ids)):
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) > self._blocks_max:
            self._blocks.popitem(last=False)


def _block_keys(ids: array[int]) -> list[int]:
    keys: list[int] = []
    previous = 0
    for start in range(0, len(ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        previous = hash((previous, ids[start : start + BLOCK_TOKENS].tobytes()))
        keys.append(previous)
    return keys


@dataclass(slots=True, eq=False)
class Sequence:
    """A place in the batch. Times are the loop's seconds; `slowness` stretches this sequence's delays."""

    answer: Answer
    prompt_tokens: int
    submitted_s: float
    uncached_tokens: int = 0
    """Of its prompt, those that must be computed."""
    slowness: float = 1.0
    admitted_s: float | None = None
    due_s: float = 0.0
    last_token_s: float | None = None
    left: bool = field(default=False)


class Batch:
    """Continuous batching: at most `parallel` sequences run, the others wait in order of arrival.

    Where prompts take time (`prefill_tokens_per_s`), they are computed one after the other. One that goes away in
    the middle has taken its time all the same.
    """

    def __init__(
        self, parallel: int, ttft_s: float, itl_s: float, prefill_tokens_per_s: float = math.inf
    ) -> None:
        self._parallel = parallel
        self._prefill_tokens_per_s = prefill_tokens_per_s
        self._prefills_done_s = 0.0
        """When the last prompt that was taken in will be computed."""
        self._ttft_s = ttft_s
        self._itl_s = itl_s
        self._running: set[Sequence] = set()
        self._waiting: deque[Sequence] = deque()
        self._due: list[tuple[float, int, Sequence]] = []
        self._pushes = 0

    @property
    def running(self) -> Listing[Sequence]:
        return tuple(self._running)

    @property
    def running_count(self) -> int:
        return len(self._running)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def submit(self, sequence: Sequence, now_s: float) -> None:
        self._waiting.append(sequence)
        self._admit(now_s)

    def leave(self, sequence: Sequence, now_s: float) -> None:
        """Give the place to the next one. Idempotent, also for a sequence that still waits."""
        if sequence.left:
            return
        sequence.left = True
        if sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        self._admit(now_s)

    def next_due_s(self) -> float | None:
        due = self._due
        while due and due[0][2].left:
            heapq.heappop(due)
        return due[0][0] if due else None

    def take_due(self, now_s: float) -> list[Sequence]:
        """Sequences whose next token is due, each once; the caller calls `resume` or `leave` for each."""
        due = self._due
        taken: list[Sequence] = []
        while due and due[0][0] <= now_s:
            sequence = heapq.heappop(due)[2]
            if not sequence.left:
                taken.append(sequence)
        return taken

    def resume(self, sequence: Sequence, now_s: float) -> None:
        """Schedule the token after the one that was due. A late loop is caught up with, token by token."""
        self._push(sequence, max(sequence.due_s + self._itl_s * sequence.slowness, now_s))

    def hold(self, sequence: Sequence, seconds: float, now_s: float) -> None:
        """Schedule the due token again, later."""
        self._push(sequence, now_s + seconds)

    def _admit(self, now_s: float) -> None:
        while self._waiting and len(self._running) < self._parallel:
            sequence = self._waiting.popleft()
            self._running.add(sequence)
            sequence.admitted_s = now_s
            prefill_s = sequence.uncached_tokens / self._prefill_tokens_per_s * sequence.slowness
            self._prefills_done_s = max(self._prefills_done_s, now_s) + prefill_s
            self._push(sequence, self._prefills_done_s + self._ttft_s * sequence.slowness)

    def _push(self, sequence: Sequence, due_s: float) -> None:
        sequence.due_s = due_s
        self._pushes += 1  # breaks ties in order of pushing; sequences can't be compared
        heapq.heappush(self._due, (due_s, self._pushes, sequence))
