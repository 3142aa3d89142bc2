"""What `inferry plan --json` says; docs/plan.md describes it. Bytes, milliseconds, USD; null where nobody knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from inferry.cli.plan_no_fit import way_words
from inferry.cli.plan_text import relief_words
from inferry.planner.answers import DoesNotFit, Interval, MemoryPlan
from inferry.planner.architecture import Architecture
from inferry.planner.capacity import ttft_quantile
from inferry.planner.cost import energy_wh_per_mtok_most
from inferry.planner.reasons import spare, warnings, why
from inferry.planner.recommend import Option, Recommendation
from inferry.planner.relief import Relief
from inferry.planner.setup import Setup
from inferry.planner.wish import Wish


def answer_json(
    arch: Architecture, wish: Wish, found: Recommendation, reliefs: Sequence[Relief]
) -> dict[str, Any]:
    best = found.best
    return {
        "verdict": "ok" if best.good else "not_as_asked",
        "model": arch.name,
        "asked": _asked(wish),
        "reason": why(best, found.others, wish),
        "recommended": option_json(best, wish),
        "alternatives": [option_json(each, wish) for each in found.others],
        "what_would_do": [
            {
                "change": each.change,
                "words": relief_words(each, wish),
                "option": option_json(each.option, wish),
            }
            for each in reliefs
        ],
        "warnings": list(warnings(best, arch, wish)),
        "spare": spare(best, wish),
        "ways_judged": found.looked_at,
    }


def no_fit_json(
    arch: Architecture, wish: Wish, answer: DoesNotFit | None, reasons: Sequence[str]
) -> dict[str, Any]:
    return {
        "verdict": "does_not_fit" if answer is not None else "not_supported",
        "model": arch.name,
        "asked": _asked(wish),
        "because": list(reasons) if answer is None else [answer.because],
        "short_bytes_per_device": None if answer is None else answer.short_bytes,
        "memory": None if answer is None else _memory(answer.memory),
        "ways_out": []
        if answer is None
        else [
            {
                "words": way_words(way, answer),
                "device": way.device_name,
                "setup": _setup(way.setup),
                "memory": _memory(way.memory),
            }
            for way in answer.ways_out
        ],
    }


def option_json(option: Option, wish: Wish) -> dict[str, Any]:
    sized = option.sized
    device, source = sized.candidate.hardware.device, sized.candidate.source
    rate = sized.busy_replicas * sized.at_load.output_tokens_per_s.value
    return {
        "device": device.name,
        "devices": sized.devices,
        "replicas": sized.replicas,
        "setup": _setup(sized.setup),
        "weights": {
            "format": source.format,
            "repo": source.repo,
            "made_while_loading": source.at_load,
            "quality_note": source.note or None,
        },
        "keeps_slo": sized.keeps_slo,
        "queue_grows": sized.queue_grows,
        "keeps_slo_at_the_far_end": sized.strain_high <= 1,
        "keeps_slo_with_one_replica_lost": sized.strain_one_lost <= 1,
        "in_budget": option.in_budget,
        "per_replica": {
            "ttft_ms": _interval(sized.at_load.ttft_ms),
            "ttft_ms_at_percentile": _interval(ttft_quantile(sized.at_load, wish.slo.percentile)),
            "itl_ms": _interval(sized.at_load.itl_ms),
            "output_tokens_per_s": _interval(sized.at_load.output_tokens_per_s),
            "requests_per_s": _interval(sized.at_load.requests_per_s),
            "limited_by": sized.at_load.limited_by,
            "step_parts_ms": dict(sized.at_load.parts_ms),
        },
        "capacity": {
            "requests_at_once": sized.capacity.concurrency * sized.replicas,
            "requests_per_s": sized.capacity.requests_per_s * sized.replicas,
            "used": finite(sized.utilisation) if wish.has_load else None,
        },
        "memory": _memory(sized.memory),
        "cost": None
        if option.cost is None or device.price is None
        else {
            "usd_per_hour": option.cost.usd_per_hour,
            "price_kind": device.price.kind,
            "price_as_of": device.price.as_of,
            "price_source": device.price.source,
            "usd_per_mtok_output_prompts_free": _interval(option.cost.usd_per_mtok_all_on_output),
            "usd_per_mtok_input": option.cost.usd_per_mtok_input,
            "usd_per_mtok_output": option.cost.usd_per_mtok_output,
        },
        "energy_wh_per_mtok_output_most": energy_wh_per_mtok_most(device, sized.devices, rate),
    }


def _asked(wish: Wish) -> dict[str, Any]:
    return {
        "users": wish.users,
        "requests_per_s": wish.requests_per_s,
        "input_tokens": wish.input_tokens,
        "output_tokens": wish.output_tokens,
        "ttft_ms": wish.slo.ttft_ms,
        "ttft_percentile": wish.slo.percentile,
        "itl_ms": wish.slo.itl_ms,
        "context_tokens": wish.context_tokens,
        "budget_usd_per_hour": wish.budget_usd_per_hour,
        "engines": list(wish.engines),
        "quantization": wish.quantization,
    }


def _interval(interval: Interval) -> Mapping[str, float | None]:
    return {key: finite(value) for key, value in asdict(interval).items()}


def _memory(memory: MemoryPlan) -> dict[str, Any]:
    told = asdict(memory)
    del told["setup"]
    return told


def _setup(setup: Setup) -> dict[str, Any]:
    return asdict(setup)


def finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None
