"""How long a request waits for its first token: for the step that runs, its own prefill, those of others, and a slot."""

from __future__ import annotations


def first_token_terms(
    step_ms: float, prefill_ms: float, decodes: float, slot_wait_ms: float
) -> dict[str, float]:
    """Ideal parts of TTFT in ms; `request` is a count. `prefill_queue`: clients of a closed loop start together, and some
    of them meet again and again, so that a prompt waits for a share of all the others' prefills."""
    return {
        "request": 1.0,
        "step": step_ms,
        "prefill": prefill_ms,
        "prefill_queue": prefill_ms * max(decodes - 1.0, 0.0),
        "slot_wait": slot_wait_ms,
    }
