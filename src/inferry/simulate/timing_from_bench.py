"""An engine's timing from what a bench measured of it, at one load or at several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_fit import Fitted, fit
from inferry.simulate.timing_known import KnownTiming

LIGHT = 1.5
"""A load counts as light up to so many times the lightest one's running requests: there nobody waits for others."""
LENGTHS_DIFFER = 1.3
NEAR = 0.02
"""Fits whose worst errors are that near explain the same."""
INSTANT_TOKENS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class BenchPoint:
    """Means over the requests of one run."""

    running: float
    """Answers under way at once: output tokens/s x seconds between tokens."""
    input_tokens: float
    output_tokens: float
    ttft_ms: float
    itl_ms: float


def timing_from_bench(points: Sequence[BenchPoint], says: str, base: EngineTiming) -> KnownTiming:
    """Steps from times between tokens, prompts from times to first token at the lightest loads. What a bench does not
    tell is `base`'s: the size of the KV cache, places, the start. Raises ValueError without any point.

    Between tokens: step_s + per sequence x running + per token x running x context, and the prompts of others, of which
    running / output_tokens come with each step.
    """
    if not points:
        raise ValueError("no run")
    terms = min(len({round(each.running, 1) for each in points}), 3)
    tried = [(rate, request_s, _steps(points, rate, terms)) for rate, request_s in _prompts(points)]
    best = min(found.worst for _, _, found in tried)
    rate, request_s, found = next(each for each in tried if each[2].worst <= best + NEAR)
    constant, per_sequence, per_kv_token = (*found.factors, 0.0, 0.0)[:3]
    timing = replace(
        base,
        step_s=constant,
        step_s_per_sequence=per_sequence,
        step_s_per_kv_token=per_kv_token,
        prefill_tokens_per_s=rate,
        prefill_s_per_pair=0.0,
        request_s=request_s,
    )
    doubts = [
        f"of {len(points)} load{'s' * (len(points) > 1)}; times between tokens are up to {max(found.worst, 0.01):.0%} off them"
    ]
    if terms < 3:
        doubts.append(
            "with fewer than three loads, it is a guess how steps grow with what runs: bench more of them"
        )
    doubts.append(
        f"a bench doesn't tell the KV cache's size ({timing.kv_tokens:,} tokens are assumed), the places "
        f"({timing.sequences_max}) and the start ({timing.start_s:g} s)"
    )
    return KnownTiming(timing, "bench", says, tuple(doubts))


def _steps(points: Sequence[BenchPoint], rate: float, terms: int) -> Fitted:
    rows = []
    for each in points:
        others_s = each.running / each.output_tokens * each.input_tokens / rate
        context = each.running * (each.input_tokens + each.output_tokens / 2)
        # What prompts take is known badly: it never explains more than half of a step.
        step_s = max(each.itl_ms / 1e3 - others_s, each.itl_ms / 2e3)
        rows.append(((1.0, each.running, context), step_s))
    return fit((row[:terms], took) for row, took in rows)


def _prompts(points: Sequence[BenchPoint]) -> list[tuple[float, float]]:
    """Tokens/s, and what a request takes whatever its prompt's length. Where all prompts were of one length, that can't
    be told apart: from all of it being the prompt's to nothing, so that times between tokens, which prompts of others
    are in, may decide."""
    lightest = min(each.running for each in points)
    light = [each for each in points if each.running <= LIGHT * lightest]
    rows = [(each.input_tokens, max(each.ttft_ms - each.itl_ms, 0.01 * each.ttft_ms) / 1e3) for each in light]
    lengths = [tokens for tokens, _ in rows]
    if max(lengths) >= LENGTHS_DIFFER * min(lengths):
        found = fit(((tokens, 1.0), took) for tokens, took in rows)
        return [(1 / max(found.factors[0], 1e-9), found.factors[1])]
    tokens, took_s = sum(lengths) / len(rows), sum(took for _, took in rows) / len(rows)
    parts = (1 - number / 10 for number in range(10))
    return [
        *((tokens / (part * took_s), (1 - part) * took_s) for part in parts),
        (INSTANT_TOKENS_PER_S, took_s),
    ]
