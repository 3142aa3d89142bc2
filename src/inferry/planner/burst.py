"""A burst, step by step: which prompts and how many sequences share each step when all requests come at t = 0.

The order follows the schedulers, and needs no times: prompts are admitted first come, first served, as many as the token budget
of a step and the slots allow. vLLM and TensorRT-LLM compute prompts and running sequences in one step (chunked prefill; Agrawal
et al. 2024, "Sarathi-Serve"); SGLang runs waiting prompts in steps of their own, while the running sequences pause.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

from .setup import EngineName

_STEPS_MAX = 600
"""With prompts in them; longer bursts are followed in strides of several steps."""
_STRIDES_PER_STREAM = 32
_NONE = 1e-9
PREFILL_FIRST: frozenset[EngineName] = frozenset({"sglang"})


@dataclass(frozen=True, slots=True)
class Span:
    """What happens during some time: steps of running sequences, and prompts that are read in so many passes."""

    steps: float
    decodes: float
    """Mean number of sequences in a step."""
    prompts: float
    passes: float


@dataclass(frozen=True, slots=True)
class Burst:
    wait: Span
    """Until a mean request's first token."""
    token: Span
    """Per further token of a mean stream."""
    whole: Span
    """Until the last request's last token."""


@lru_cache(maxsize=4096)
def burst(
    requests: int,
    slots: float,
    input_tokens: float,
    output_tokens: float,
    budget_tokens: float,
    *,
    prefill_first: bool,
) -> Burst:
    """`budget_tokens`: of a step, prompts and running sequences together. Streams are of equal length."""
    most = max(1.0, min(slots, budget_tokens / 2))
    further = max(output_tokens - 1, 1.0)
    needed = requests * input_tokens / budget_tokens / _STEPS_MAX
    stride = max(1.0, min(needed, further / _STRIDES_PER_STREAM))
    clock = _Clock()
    ends: deque[tuple[float, float]] = (
        deque()
    )  # when streams end, in steps of running sequences, and how many
    left, running = float(requests), 0.0
    while left > _NONE or ends:
        while ends and ends[0][0] <= clock.steps + _NONE:
            running = max(running - ends.popleft()[1], 0.0)
        budget = budget_tokens if prefill_first else max(budget_tokens - running, budget_tokens / 2)
        new = min(left, max(most - running, 0.0), stride * budget / input_tokens)
        if new <= _NONE:
            if ends:  # nothing changes until the next ones end
                clock.advance(max(ends[0][0] - clock.steps, _NONE), running, 0.0, 0.0)
            continue
        passes = max(1.0, new * input_tokens / budget)
        clock.advance(0.0 if prefill_first else passes, running, new, passes)
        clock.first_tokens(new)
        left -= new
        running += new
        ends.append((clock.steps + further, new))
    return clock.result(requests)


class _Clock:
    """Sums over the past of the burst: of all of it, as first tokens saw it, and as running streams saw it."""

    def __init__(self) -> None:
        self.steps = 0.0
        self._past = [0.0, 0.0, 0.0, 0.0]  # steps, their sequences, prompts, passes
        self._wait = [0.0, 0.0, 0.0, 0.0]
        self._token = [0.0, 0.0, 0.0, 0.0]

    def advance(self, steps: float, running: float, prompts: float, passes: float) -> None:
        happened = (steps, steps * running, prompts, passes)
        self.steps += steps
        self._past = [total + each for total, each in zip(self._past, happened, strict=True)]
        self._token = [total + running * each for total, each in zip(self._token, happened, strict=True)]

    def first_tokens(self, count: float) -> None:
        self._wait = [total + count * each for total, each in zip(self._wait, self._past, strict=True)]

    def result(self, requests: int) -> Burst:
        return Burst(
            _span(self._wait, requests),
            _span(self._token, self._token[0]),
            _span(self._past, 1.0),
        )


def _span(sums: list[float], share: float) -> Span:
    steps, decodes, prompts, passes = sums
    share = max(share, _NONE)
    return Span(steps / share, decodes / max(steps, _NONE), prompts / share, passes / share)
