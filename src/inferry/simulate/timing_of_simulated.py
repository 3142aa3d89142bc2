"""A simulated engine's options as an EngineTiming: the same for the engine over HTTP and for simulations of it."""

from __future__ import annotations

import math

from inferry.simulate.timing import EngineTiming

BLOCK_TOKENS = 16
KV_TOKENS_MAX = 1_048_576
"""Where nobody said how many: what fits all sequences, but no more than this."""
INSTANT_S = 1e-6
"""Of a step that takes no time: time has to go on."""


def timing_of_simulated(
    *,
    context_tokens: int,
    parallel: int,
    ttft_s: float,
    itl_s: float,
    step_s_per_sequence: float = 0.0,
    prefill_tokens_per_s: float | None = None,
    step_tokens_max: int | None = None,
    kv_tokens: int | None = None,
    start_s: float = 0.0,
) -> EngineTiming:
    """A step takes `itl_s`, and who computes alone has the first token after `ttft_s`, if a step is no longer than that.

    Left out: prompts take no time; 8,192 tokens in a step, or as many as there are where prompts take no time; a KV cache
    for all sequences, of at most 1,048,576 tokens, or one sequence. With `ttft_s` 0.1 and `itl_s` 0.01, a request keeps
    its place for 0.09 s before its prompt is computed in a step of 0.01 s.
    """
    step_s = max(itl_s, INSTANT_S)
    held = kv_tokens if kv_tokens is not None else min(parallel * context_tokens, KV_TOKENS_MAX)
    if step_tokens_max is None:
        step_tokens_max = parallel * context_tokens if prefill_tokens_per_s is None else 8192
    return EngineTiming(
        prefill_tokens_per_s=math.inf if prefill_tokens_per_s is None else prefill_tokens_per_s,
        step_s=step_s,
        step_s_per_sequence=step_s_per_sequence,
        step_tokens_max=step_tokens_max,
        sequences_max=parallel,
        kv_tokens=math.ceil(max(held, context_tokens) / BLOCK_TOKENS) * BLOCK_TOKENS,
        block_tokens=BLOCK_TOKENS,
        context_tokens=context_tokens,
        place_s=max(ttft_s - step_s, 0.0),
        start_s=start_s,
    )
