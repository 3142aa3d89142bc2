"""The plain roofline: peaks as their makers name them, no fitted constant. What the planner has to beat."""

from __future__ import annotations

from benchmarks.planner_runs import Run
from inferry.planner.performance import slots_of
from inferry.planner.step_work import attention_ms, decode_terms, prefill_terms, step_model


def roofline(run: Run) -> tuple[float, float, float]:
    """TPOT and TTFT in ms, output tokens/s: bytes at full bandwidth or operations at full rate, whichever takes longer."""
    model, load = step_model(run.arch, run.device, run.setup), run.load
    at_once = load.concurrency or load.all_at_once or 1.0
    decodes = min(at_once, slots_of(run.arch, run.device, run.setup, load).count)
    parts = decode_terms(model, decodes, load.input_tokens + load.output_tokens / 2)
    tpot_ms = max(parts["weights"] + parts["experts"] + parts["kv"], parts["compute"])
    prefill = prefill_terms(model, load.input_tokens)
    ttft_ms = max(
        prefill["prefill_compute"] + attention_ms(model, load.input_tokens), prefill["prefill_weights"]
    )
    rate = 1e3 * decodes * load.output_tokens / (ttft_ms + tpot_ms * load.output_tokens)
    return tpot_ms, ttft_ms, rate
