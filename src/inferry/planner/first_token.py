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


def burst_terms(steps_ms: float, prefill_ms: float, requests: float) -> dict[str, float]:
    """Ideal parts of the mean TTFT of requests that all come at t = 0; `request` and `intake` are counts.

    `steps_ms`: of running sequences before a mean first token; `prefill_ms`: of prompts (burst.py). `intake`: one process
    takes in all requests, so that a mean one waits for half of them.
    """
    return {"request": 1.0, "intake": requests / 2, "prefill": prefill_ms, "slot_wait": steps_ms}


def drain_terms(steps_ms: float, prefill_ms: float, requests: float, stream_ms: float) -> dict[str, float]:
    """Ideal parts of the time until a burst is done. `tail`: answers differ in length, so that the last ones, of
    `stream_ms` on average, run nearly alone."""
    return {"intake": requests, "prefill": prefill_ms, "steps": steps_ms, "tail": stream_ms}
