"""How long a request waits for its first token: its own prefill, those before it, the step it lands in, and slots."""

from __future__ import annotations

import math

from .step_work import StepModel, prefill_terms

_QUEUED = ("prefill_compute", "prefill_attention", "prefill_reduce", "prefill_weights")
"""Parts that grow with what others prefill at once."""


def first_token_terms(
    model: StepModel, prompt_tokens: float, decodes: float, step_ms: float, slot_wait_ms: float
) -> dict[str, float]:
    """Ideal parts of TTFT. Clients that start together wait for each other's prefills: those parts come again times
    log2 of how many there are, the form that aiconfigurator uses (1 + log2(b) / 8, vllm_backend.py)."""
    own = prefill_terms(model, prompt_tokens)
    depth = math.log2(max(decodes, 1.0))
    queued = {f"{part}_queued": own[part] * depth for part in _QUEUED}
    return {**own, **queued, "step": step_ms, "slot_wait": slot_wait_ms, "request": 1.0}
