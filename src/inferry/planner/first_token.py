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


def burst_terms(prefill_ms: float, cycle_ms: float, running: float, waiting: float) -> dict[str, float]:
    """Ideal parts of the mean TTFT of requests that all come at t = 0; `request` and `intake` are counts.

    Those with a slot wait for half of each other's prefills; the others for slots, one of which is free after each
    `cycle_ms` / `running`. `intake`: one process takes in all requests, so that a mean one waits for half of them.
    """
    total = running + waiting
    return {
        "request": 1.0,
        "intake": total / 2,
        "prefill": running * running * prefill_ms / (2 * total),
        "slot_wait": waiting * waiting * cycle_ms / (2 * running * total),
    }
