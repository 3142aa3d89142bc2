"""The replica that would be done soonest: tokens still to compute there, over the speed that it was seen to have.

A request is counted with its prompt until the first byte of its answer, and with the answer's expected length until
its end. A replica's speeds come from its own answers:

    prefill = prompt tokens outstanding at a first byte / that request's time to first byte
    decode  = tokens of an answer x requests that ran beside it / the time that it took after the first byte

Both are sums of the last answers (about 20), so that long ones count for more: the overhead of a short prompt would
make a replica look slow. A replica that was never measured is taken to be as fast as all of them together.
"""

from __future__ import annotations

from inferry.policy.routing.facts import RouteFacts, Seen
from inferry.policy.routing.policy import Fact, Rng
from inferry.policy.routing.sampled import Sampled
from inferry.policy.routing.slot import Slot

KEPT = 0.95
"""Of the sums, with each new answer."""
PREFILL_FIRST = 2000.0
DECODE_FIRST = 400.0
"""Tokens a second before anything was measured. Only their ratio matters: one more answer token weighs as five
more prompt tokens."""


class _Speed:
    """Tokens over seconds of the last answers."""

    __slots__ = ("s_per_token", "seconds", "tokens")

    def __init__(self, tokens: float = 0.0, seconds: float = 0.0) -> None:
        self.tokens = tokens
        self.seconds = seconds
        self.s_per_token = seconds / tokens if tokens else 0.0
        """0: never measured."""

    def measure(self, tokens: float, seconds: float) -> None:
        if tokens > 0 and seconds > 0:
            self.tokens = self.tokens * KEPT + tokens
            self.seconds = self.seconds * KEPT + seconds
            self.s_per_token = self.seconds / self.tokens


class _Work:
    """What one replica has to do, and how fast it does that."""

    __slots__ = ("answer_tokens", "decode", "prefill", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_tokens = 0
        """Of requests without a first byte yet."""
        self.answer_tokens = 0
        self.prefill = _Speed()
        self.decode = _Speed()


class TokenLoad(Sampled):
    wants = frozenset[Fact](("prompt_tokens", "answer_tokens"))

    def __init__(self, rng: Rng) -> None:
        super().__init__(rng)
        self._work: dict[Slot, _Work] = {}
        self._prefill = _Speed(PREFILL_FIRST, 1.0)
        self._decode = _Speed(DECODE_FIRST, 1.0)

    def cost(self, slot: Slot, facts: RouteFacts, now_s: float) -> float:
        """Seconds until all would be done, by weight; others' requests are taken to be like this one."""
        work = self._work.get(slot) or self._begin(slot)
        prompt_s = work.prefill.s_per_token or self._prefill.s_per_token
        answer_s = work.decode.s_per_token or self._decode.s_per_token
        mine = 1 + slot.others
        prompt_tokens = work.prompt_tokens + facts.prompt_tokens * mine
        answer_tokens = work.answer_tokens + facts.answer_tokens * mine
        return (prompt_tokens * prompt_s + answer_tokens * answer_s) / slot.weight

    def on_chosen(self, slot: Slot, facts: RouteFacts, now_s: float) -> None:
        work = self._work.get(slot) or self._begin(slot)
        work.prompt_tokens += facts.prompt_tokens
        work.answer_tokens += facts.answer_tokens

    def on_first_byte(self, slot: Slot, facts: RouteFacts, ttft_s: float, now_s: float) -> None:
        work = self._work.get(slot)
        if work is None:
            return
        work.prefill.measure(work.prompt_tokens, ttft_s)
        self._prefill.measure(work.prompt_tokens, ttft_s)
        work.prompt_tokens = max(work.prompt_tokens - facts.prompt_tokens, 0)

    def on_released(self, slot: Slot, facts: RouteFacts, seen: Seen, now_s: float) -> None:
        work = self._work.get(slot)
        if work is None:
            return
        # Never below 0: what another policy has chosen, before a change of the file, was not counted here.
        work.answer_tokens = max(work.answer_tokens - facts.answer_tokens, 0)
        if not seen.answer_began:
            work.prompt_tokens = max(work.prompt_tokens - facts.prompt_tokens, 0)
        elif seen.completion_tokens and seen.duration_s is not None and seen.ttft_s is not None:
            side_by_side = slot.in_flight + 1
            decode_s = seen.duration_s - seen.ttft_s
            work.decode.measure(seen.completion_tokens * side_by_side, decode_s)
            self._decode.measure(seen.completion_tokens * side_by_side, decode_s)

    def why(self, slot: Slot) -> str:
        work = self._work[slot]
        return (
            f"done soonest of {self._looked} looked at, in about {self._found_cost:.3g} s: "
            f"{work.prompt_tokens} prompt and {work.answer_tokens} answer tokens outstanding"
        )

    def forget(self, slot: Slot) -> None:
        self._work.pop(slot, None)

    def _begin(self, slot: Slot) -> _Work:
        work = self._work[slot] = _Work()
        return work
