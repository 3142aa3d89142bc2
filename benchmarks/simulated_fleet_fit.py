"""The embedded engine's timing, from a few short probes of one and of several users at a time.

What llama.cpp's server does, and the simulated replica with it: a step takes a token of each answer under way and
whole prompts besides, as far as its batch of 2,048 tokens goes. With a KV cache per slot, which is its default, such a
step falls into parts of as many tokens per sequence (`split_equal` in llama-batch.cpp): the answers' tokens together
with the first of each prompt, then what is left of the prompts. So answers and prompts add up. Attention reads a cache
whose length is rounded up to 256 (`get_n_kv` in llama-kv-cache.cpp): below that, steps don't grow with the context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, median
from typing import Protocol

from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_fit import fit


class Probed(Protocol):
    """Of one request."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def ttft_s(self) -> float: ...

    @property
    def e2e_s(self) -> float: ...

    @property
    def tokens(self) -> int: ...


PROMPTS, PROMPTS_AT_ONCE = "16-160", 12
SHORT, ANSWER, WAVES = 8, 48, 2
"""Of the probes of steps: nearly nothing of a prompt, as all but the first of a wave come while that one answers."""
APART = 32
"""Tokens by which two prompts differ at least for a slope."""


@dataclass(frozen=True, slots=True)
class Probes:
    prompts: Sequence[tuple[int, float]]
    """Tokens and seconds to the first token, of requests that were alone."""
    step_s: Mapping[int, float]
    """Seconds between tokens by how many answers were under way."""


def probe(bench: Callable[..., Sequence[Probed]], parallel: int) -> Probes:
    """Probe it with fresh prompts: a slot that knows a prompt computes nothing of it."""
    alone = bench("-c", "1", "-n", str(PROMPTS_AT_ONCE), "-i", PROMPTS, "-o", "2")
    step_s = {}
    for users in range(1, parallel + 1):
        asked = bench("-c", str(users), "-n", str(WAVES * users), "-i", str(SHORT), "-o", str(ANSWER))
        step_s[users] = median((each.e2e_s - each.ttft_s) / (each.tokens - 1) for each in asked)
    return Probes([(each.prompt_tokens, each.ttft_s) for each in alone], step_s)


def embedded_timing(probes: Sequence[Probes], parallel: int) -> EngineTiming:
    """Of all the probes together.

    Prompts: the median slope between two of them, which no few outliers move (Sen 1968, J. Am. Stat. Assoc. 63:324),
    and what is left without any prompt: HTTP, the gateway, the client. Steps: their mean, linear in the answers.
    """
    prompts = [each for one in probes for each in one.prompts]
    per_token_s = median(
        (b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(prompts, 2) if abs(b[0] - a[0]) >= APART
    )
    steps = {
        users: fmean(one.step_s[users] for one in probes)
        for users in probes[0].step_s
    }  # fmt: skip
    law = fit(((1.0, users), took_s) for users, took_s in steps.items()).factors
    request_s = median(took_s - tokens * per_token_s for tokens, took_s in prompts) - law[0]
    return replace(
        EngineTiming(),
        step_s=law[0],
        step_s_per_sequence=law[1],
        prefill_tokens_per_s=1 / per_token_s,
        request_s=max(request_s, 0.0),
        sequences_max=parallel,
        step_tokens_max=2048,
        kv_tokens=65_536,
        block_tokens=16,
    )


def busy_s(timing: EngineTiming, prompt_tokens: float, answer_tokens: float) -> float:
    """What a request takes of it while all slots are taken: it carries the inverse per second."""
    places = timing.sequences_max
    return prompt_tokens / timing.prefill_tokens_per_s + answer_tokens * timing.step_s_of(places) / places
