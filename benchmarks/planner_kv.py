"""How near the planner comes to the KV cache that engines printed at real starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.planner_kv_rows import GIB, Start, read_starts
from benchmarks.planner_scores import Figure, LeftOut, Scores, median, quantile
from inferry.planner.facts.engine_memory import EngineMemory, find_engine_memory, without_model
from inferry.planner.kv_cache import is_hybrid, kv_bytes_per_token
from inferry.planner.memory import plan_memory

OVER = 1.02
"""Predictions above this multiple of the truth promise memory that isn't there."""


def score(path: Path) -> Scores:
    """Of a file of the schema of `truth_kv_cache.csv`."""
    starts, left_out = read_starts(path)
    per_token = [error for start in starts if (error := _per_token(start)) is not None]
    planned = [start for start in starts if start.tokens_unknown is None]
    table = tuple(_tokens(start) for start in planned)
    left_out += [
        LeftOut(start.row, f"tokens: {start.tokens_unknown}") for start in starts if start.tokens_unknown
    ]
    figures = (
        Figure("KV bytes per token, median error", median(per_token), "%", len(per_token), target=0.1),
        Figure("KV bytes per token, 90th percentile", quantile(per_token, 0.9), "%", len(per_token)),
        *_token_figures(
            "KV tokens from the configuration alone", [row["error %"] for row in table], judged=True
        ),
        *_token_figures("The same, without the model's own starts", [row["left out %"] for row in table]),
        *_token_figures(
            "The same, of SGLang",
            [row["error %"] for row in table if row["engine"].startswith("sglang")],
        ),
        _spread(
            "KV tokens of SGLang from what it says it has after the load",
            [error for start in planned if (error := _after_load_error(start)) is not None],
            0.5,
        ),
        _spread("KV GiB per GPU where printed", [_cache_error(start) for start in starts], 0.5),
        _spread("Peak of a pass where printed", [_peak_error(start) for start in starts], 0.5),
        _spread("Peak of a pass where printed", [_peak_error(start) for start in starts], 0.9),
        _spread("Weights per GPU where printed", [row["weights error %"] for row in table], 0.5),
        _spread("Weights per GPU where printed", [row["weights error %"] for row in table], 0.9),
    )
    return Scores("KV cache of engine starts", figures, table, tuple(left_out), _NOTES)


_NOTES = (
    "`error %`: predicted against printed tokens; below zero the planner promises less than there is, on purpose. "
    "`left out %`: the same with every constant that the model's own starts went into taken from the other models' starts, "
    "or where there is none from its prior (`fits` in facts/engine_memory.json).",
)


def _token_figures(name: str, signed: Sequence[float], *, judged: bool = False) -> tuple[Figure, ...]:
    """Median, 90th percentile, share of promises that can't be kept, and the side to which errors fall."""
    over = sum(error > (OVER - 1) * 100 for error in signed)
    share = 100 * over / len(signed) if signed else 0.0
    return (
        _spread(name, signed, 0.5, target=2.0 if judged else None),
        _spread(name, signed, 0.9, target=8.0 if judged else None),
        Figure(
            f"{name}, share above {OVER} x the truth", share, "%", len(signed), target=5.0 if judged else None
        ),
        Figure(f"{name}, median with its sign", median(signed), "%", len(signed)),
    )


def _spread(
    name: str, signed: Sequence[float | None], share: float, *, target: float | None = None
) -> Figure:
    errors = [abs(error) for error in signed if error is not None]
    word = "median error" if share == 0.5 else f"{share:.0%} of errors within"
    return Figure(f"{name}, {word}", quantile(errors, share), "%", len(errors), target=target)


def _per_token(start: Start) -> float | None:
    """Error in % against printed GiB / printed tokens; a ratio only where every token costs the same."""
    engine = _engine(start)
    if (
        start.kv_gib is None
        or start.kv_tokens is None
        or (is_hybrid(start.arch) and not engine.windows_as_full)
    ):
        return None
    printed = start.kv_gib * GIB / start.kv_tokens
    own = kv_bytes_per_token(start.arch, start.setup, windows_as_full=engine.windows_as_full)
    return abs(own / printed - 1) * 100


def _tokens(start: Start) -> dict[str, Any]:
    """One line of the table."""
    assert start.device is not None
    assert start.kv_tokens is not None
    plan = plan_memory(start.arch, start.device, start.setup)
    left_out = plan_memory(
        start.arch,
        start.device,
        start.setup,
        facts=without_model(start.setup.engine, _engine(start), start.model),
    )
    setup = start.setup
    # Engines print what one data-parallel rank holds.
    tokens, tokens_left_out = (each.kv_tokens // setup.data_parallel for each in (plan, left_out))
    weights = plan.weights / GIB
    return {
        "row": start.row,
        "engine": f"{setup.engine} {setup.engine_version or ''}".strip(),
        "model": start.model,
        "GPUs": f"{setup.devices} x {start.device.name}",
        "weights GiB": round(weights, 2),
        "weights error %": None
        if start.weights_gib is None
        else round((weights / start.weights_gib - 1) * 100, 2),
        "activations GiB": round(plan.activations / GIB, 2),
        "KV tokens, printed": start.kv_tokens,
        "predicted": tokens,
        "error %": round((tokens / start.kv_tokens - 1) * 100, 2),
        "left out %": round((tokens_left_out / start.kv_tokens - 1) * 100, 2),
    }


def _cache_error(start: Start) -> float | None:
    """Also of starts that print no tokens, and of models whose layers differ in what they keep."""
    if start.kv_gib is None or start.device is None or start.setup.memory_fraction is None:
        return None
    return (plan_memory(start.arch, start.device, start.setup).kv / GIB / start.kv_gib - 1) * 100


def _peak_error(start: Start) -> float | None:
    if start.peak_gib is None or start.device is None:
        return None
    return (plan_memory(start.arch, start.device, start.setup).activations / GIB / start.peak_gib - 1) * 100


def _after_load_error(start: Start) -> float | None:
    """SGLang's own law from what it printed: available after the load - (1 - fraction) x available before."""
    if start.setup.engine != "sglang" or start.available_gib is None or start.setup.memory_fraction is None:
        return None
    before, after = start.available_gib
    cache_gib = after - (1 - start.setup.memory_fraction) * before
    per_token = kv_bytes_per_token(start.arch, start.setup, windows_as_full=True)
    assert start.kv_tokens is not None
    return (cache_gib * GIB / per_token / start.kv_tokens - 1) * 100


def _engine(start: Start) -> EngineMemory:
    return find_engine_memory(start.setup.engine, start.setup.engine_version)
