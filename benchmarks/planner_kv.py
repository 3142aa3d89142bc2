"""How near the planner comes to the KV cache that engines printed at real starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.planner_kv_rows import GIB, Start, read_starts
from benchmarks.planner_scores import Figure, LeftOut, Scores, median, quantile
from inferry.planner.facts.engine_memory import EngineMemory, find_engine_memory
from inferry.planner.kv_cache import is_hybrid, kv_bytes_per_token
from inferry.planner.memory import plan_memory

OVER = 1.02
"""Predictions above this multiple of the truth promise memory that isn't there."""


def score(path: Path) -> Scores:
    """Of a file of the schema of `truth_kv_cache.csv`."""
    starts, left_out = read_starts(path)
    per_token = [row for start in starts if (row := _per_token(start)) is not None]
    planned = [start for start in starts if start.tokens_unknown is None]
    table = tuple(_tokens(start) for start in planned)
    left_out += [
        LeftOut(start.row, f"tokens: {start.tokens_unknown}") for start in starts if start.tokens_unknown
    ]
    signed = [row["error %"] for row in table]
    errors = [abs(error) for error in signed]
    loaded = [abs(error) for start in planned if (error := _after_load_error(start)) is not None]
    weights = [abs(row["weights error %"]) for row in table if row["weights error %"] is not None]
    over = sum(error > (OVER - 1) * 100 for error in signed)
    figures = (
        Figure("KV bytes per token, median error", median(per_token), "%", len(per_token), target=0.1),
        Figure("KV bytes per token, 90th percentile", quantile(per_token, 0.9), "%", len(per_token)),
        Figure(
            "KV tokens from the configuration alone, median error",
            median(errors),
            "%",
            len(errors),
            target=2.0,
        ),
        Figure(
            "KV tokens from the configuration alone, 90th percentile",
            quantile(errors, 0.9),
            "%",
            len(errors),
            target=8.0,
        ),
        Figure(
            f"KV tokens predicted above {OVER} x the truth",
            100 * over / max(1, len(signed)),
            "%",
            len(signed),
            target=5.0,
        ),
        Figure("KV tokens, signed median (below zero: leaning low)", median(signed), "%", len(signed)),
        Figure(
            "KV tokens, SGLang, when it says what it has after the load, median error",
            median(loaded),
            "%",
            len(loaded),
        ),
        Figure("weights per GPU where printed, median error", median(weights), "%", len(weights)),
        Figure("weights per GPU where printed, 90th percentile", quantile(weights, 0.9), "%", len(weights)),
    )
    return Scores("KV cache of engine starts", figures, table, tuple(left_out))


def _per_token(start: Start) -> float | None:
    """Error in % against printed GiB / printed tokens; a ratio only where every token costs the same."""
    engine = _engine(start)
    if (
        start.kv_gib is None
        or start.kv_tokens is None
        or (is_hybrid(start.arch) and not engine.windows_as_full)
    ):
        return None
    printed = start.kv_gib * GIB * start.setup.data_parallel / start.kv_tokens
    own = kv_bytes_per_token(start.arch, start.setup, windows_as_full=engine.windows_as_full)
    return abs(own / printed - 1) * 100


def _tokens(start: Start) -> dict[str, Any]:
    """One line of the table."""
    assert start.device is not None
    assert start.kv_tokens is not None
    plan = plan_memory(start.arch, start.device, start.setup)
    setup = start.setup
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
        "predicted": plan.kv_tokens,
        "error %": round((plan.kv_tokens / start.kv_tokens - 1) * 100, 2),
    }


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


def worst(table: Sequence[dict[str, Any]], count: int = 5) -> list[dict[str, Any]]:
    """The rows furthest off."""
    return sorted(table, key=lambda row: -abs(row["error %"]))[:count]
