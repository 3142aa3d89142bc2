"""The embedded engine's timing, from a few short probes of one and of several users at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Protocol

from inferry.simulate.timing import EngineTiming


class Probed(Protocol):
    """Of one request."""

    @property
    def ttft_s(self) -> float: ...

    @property
    def e2e_s(self) -> float: ...

    @property
    def tokens(self) -> int: ...


SHORT, LONG, ANSWER = 32, 192, 48


def embedded_timing(bench: Callable[..., Sequence[Probed]], parallel: int) -> tuple[EngineTiming, float]:
    """The timing, and the requests of 96 and 48 tokens that it carries per second.

    Prompts: the time to first token at two lengths, alone. Steps: the time between tokens, alone and with all slots
    taken, less what the others' prompts took meanwhile.
    """

    def probe(users: int, prompt: int, seconds: int) -> Sequence[Probed]:
        return bench(
            "-c", str(users), "-i", str(prompt), "-o", str(ANSWER), "--duration", f"{seconds}s", "--seed", "7"
        )

    short, long = probe(1, SHORT, 6), probe(1, LONG, 6)
    per_token_s = (median(_ttft(long)) - median(_ttft(short))) / (LONG - SHORT)
    alone_s = median(_itl(short))
    request_s = max(median(_ttft(short)) - SHORT * per_token_s - alone_s, 0.0)
    per_sequence_s = 0.0
    if parallel > 1:
        full = median(_itl(probe(parallel, SHORT, 10)))
        prompts_s = SHORT * per_token_s * (parallel - 1) / ANSWER
        # At most all of a step: one alone takes a whole one.
        per_sequence_s = min(max((full - prompts_s - alone_s) / (parallel - 1), 0.0), alone_s)
    timing = replace(
        EngineTiming(),
        step_s=alone_s - per_sequence_s,
        step_s_per_sequence=per_sequence_s,
        prefill_tokens_per_s=1 / per_token_s,
        request_s=request_s,
        sequences_max=parallel,
        step_tokens_max=2048,
        kv_tokens=65_536,
        block_tokens=16,
    )
    step_s = timing.step_s_of(parallel)
    return timing, 1 / (96 * per_token_s + 48 * step_s / parallel)


def _ttft(probed: Sequence[Probed]) -> list[float]:
    return [each.ttft_s for each in probed]


def _itl(probed: Sequence[Probed]) -> list[float]:
    return [(each.e2e_s - each.ttft_s) / (each.tokens - 1) for each in probed]
