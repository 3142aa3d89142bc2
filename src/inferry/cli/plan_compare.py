"""`inferry plan --compare-engines`: the engines of the field for one model: what they are, and what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from inferry.cli.plan_json import option_json
from inferry.cli.plan_options import DEFAULT_ENGINES
from inferry.cli.plan_text import WIDTH_MAX, duration, table, way, wrapped
from inferry.planner.architecture import Architecture
from inferry.planner.capacity import ttft_quantile
from inferry.planner.facts.engine_comparison import EngineRow, comparison
from inferry.planner.recommend import NothingFits, Option, recommend
from inferry.planner.setup import EngineName
from inferry.planner.sizing import Physics
from inferry.planner.wish import Hardware, Wish

_LABELS = {
    "prefix_caching": "prefix caching",
    "chunked_prefill": "chunked prefill",
    "speculative": "speculative decoding",
    "lora": "LoRA",
    "structured_output": "structured output",
    "multimodal": "multimodal",
    "openai_api": "OpenAI API",
    "embeddings": "embeddings",
    "metrics": "metrics",
    "graceful_shutdown": "graceful shutdown",
    "continuation": "continuing a broken answer",
}


def compare_text(
    arch: Architecture, hardware: Sequence[Hardware], wish: Wish, physics: Physics, columns: int
) -> str:
    """Figures first, where the planner models the engine's speed; then facts, topic by topic."""
    width = min(columns, WIDTH_MAX + 30)
    rows = comparison(hardware[0].device if len(hardware) == 1 else None)
    parts = [table(_figures(rows, arch, hardware, wish, physics), width)]
    topics: list[tuple[str, dict[str, str]]] = [
        ("MATURITY", {row.title: row.maturity for row in rows}),
        ("HARDWARE", {row.title: row.hardware for row in rows}),
        ("WEIGHTS", {row.title: row.weights for row in rows}),
        ("KV CACHE", {row.title: row.kv for row in rows}),
        ("PARALLELISM", {row.title: row.parallelism for row in rows}),
        ("LICENCE", {row.title: row.licence for row in rows}),
    ]
    topics += [
        (_LABELS.get(name, name).upper(), {row.title: row.features.get(name, "not known") for row in rows})
        for name in rows[0].features
    ]
    topics.append(
        ("VERSION AND SOURCE", {row.title: f"facts as of {row.version}; {row.source}" for row in rows})
    )
    lead = max(len(row.title) for row in rows) + 4
    for name, told in topics:
        parts.append(
            "\n".join(
                [name, *(wrapped(text, width, f"  {title}".ljust(lead)) for title, text in told.items())]
            )
        )
    return "\n\n".join(parts)


def compare_json(
    arch: Architecture, hardware: Sequence[Hardware], wish: Wish, physics: Physics
) -> list[dict[str, Any]]:
    answer = []
    for row in comparison(hardware[0].device if len(hardware) == 1 else None):
        best = _best_with(row.engine, arch, hardware, wish, physics)
        answer.append(
            {
                "engine": row.engine.replace("_", "-"),
                "version": row.version,
                "licence": row.licence,
                "maturity": row.maturity,
                "hardware": row.hardware,
                "weights": row.weights,
                "kv": row.kv,
                "parallelism": row.parallelism,
                "features": dict(row.features),
                "source": row.source,
                "predicted": option_json(best, wish) if isinstance(best, Option) else None,
                "why_not_predicted": best if isinstance(best, str) else None,
            }
        )
    return answer


def _figures(
    rows: Sequence[EngineRow], arch: Architecture, hardware: Sequence[Hardware], wish: Wish, physics: Physics
) -> list[tuple[str, ...]]:
    shown: list[tuple[str, ...]] = [
        ("PREDICTED", "DEVICES", "USD/H", f"TTFT {wish.slo.percentile:.0%}", "ITL", "TOKENS/S", "BEST WAY")
    ]
    for row in rows:
        best = _best_with(row.engine, arch, hardware, wish, physics)
        if isinstance(best, str):
            shown.append((row.title, "-", "-", "-", "-", "-", best))
            continue
        sized = best.sized
        words = way(best) if best.good else f"{way(best)}; does not keep what was asked"
        shown.append(
            (
                row.title,
                f"{sized.devices} x {sized.candidate.hardware.device.name}",
                "-" if best.cost is None else f"{best.cost.usd_per_hour:.2f}",
                duration(ttft_quantile(sized.at_load, wish.slo.percentile).value),
                duration(sized.at_load.itl_ms.value),
                f"{sized.busy_replicas * sized.at_load.output_tokens_per_s.value:,.0f}",
                words,
            )
        )
    return shown


def _best_with(
    engine: EngineName, arch: Architecture, hardware: Sequence[Hardware], wish: Wish, physics: Physics
) -> Option | str:
    """Its best option, or why there is none."""
    if engine not in DEFAULT_ENGINES:
        return f"never compared with measurements; computed figures: --engine {engine}"
    found = recommend(arch, hardware, replace(wish, engines=(engine,)), physics)
    if isinstance(found, NothingFits):
        return found.unsupported[0] if found.nearest is None and found.unsupported else "does not fit"
    return found.best
