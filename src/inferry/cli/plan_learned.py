"""What launches taught about a plan: each figure without and with it, and how far off predictions were."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from inferry.cli.plan_physics import shipped_physics
from inferry.core.home import inferry_home
from inferry.fleet.launch_journal import read_launches
from inferry.planner.architecture import Architecture
from inferry.planner.learned_physics import learned_physics, subject_of
from inferry.planner.learning import Launch, learn
from inferry.planner.recommend import Option
from inferry.planner.setup import Setup
from inferry.planner.sizing import Physics
from inferry.planner.start_time import StartRate, start_rate
from inferry.planner.weights import weight_bytes

_WORDS = {
    "weights_bytes": ("weights", 1 / 1024**3, "GiB"),
    "memory_bytes": ("memory", 1 / 1024**3, "GiB"),
    "kv_tokens": ("KV cache", 1.0, "tokens"),
    "itl_ms": ("ITL", 1.0, "ms"),
    "ttft_ms": ("TTFT", 1.0, "ms"),
    "output_tokens_per_s": ("output", 1.0, "tokens/s"),
}


def physics_here(environ: Mapping[str, str], *, learning: bool) -> tuple[Physics, list[Launch]]:
    """The planner's arithmetic, with what launches on this machine taught, and those launches."""
    plain = shipped_physics()
    launches = read_launches(inferry_home(environ)) if learning else []
    return learned_physics(plain, launches), launches


def learned_json(arch: Architecture, best: Option, launches: Sequence[Launch]) -> list[dict[str, Any]]:
    """One entry for each figure of `best` that launches of its engine on its device were about."""
    sized = best.sized
    device, setup = sized.candidate.hardware.device, sized.setup
    found = learn(launches, subject_of(arch, device, setup)).by_quantity
    rate = start_rate(launches, setup.engine, device.name, arch.name)
    if not found and rate is None:
        return []
    plain, learned = shipped_physics(), learned_physics(shipped_physics(), launches)
    before, after = (_figures(physics, arch, best) for physics in (plain, learned))
    entries: list[dict[str, Any]] = [
        {
            "figure": name,
            "without": before[name],
            "with": after[name],
            "launches": each.launches,
            "other_models": each.others,
            "error_without": each.error_before,
            "error_with": each.error_after,
        }
        for name, each in found.items()
        if name in before and math.isfinite(before[name]) and math.isfinite(after[name])
    ]
    return entries if rate is None else [*entries, _start(rate, _loaded_bytes(arch, best))]


def _loaded_bytes(arch: Architecture, best: Option) -> int:
    """Of a replica's files; weights that are quantized while loading are read as they are stored."""
    sized = best.sized
    weights = arch.native_format if sized.candidate.source.at_load else sized.setup.weights
    return weight_bytes(arch, Setup(sized.setup.engine, weights=weights))


def _start(rate: StartRate, loaded_bytes: int) -> dict[str, Any]:
    """Facts alone say nothing of it."""
    return {
        "figure": "start_s",
        "without": None,
        "with": rate.start_s(loaded_bytes),
        "launches": rate.launches if rate.own else 0,
        "other_models": 0 if rate.own else rate.models,
        "error_without": None,
        "error_with": None,
    }


def learned_text(arch: Architecture, best: Option, launches: Sequence[Launch]) -> str:
    """Empty where nothing was learned about it."""
    lines = [learned_line(each) for each in learned_json(arch, best, launches)]
    return "\n".join(["Learned from launches (leave it out: --no-learning)", *lines]) if lines else ""


def _figures(physics: Physics, arch: Architecture, best: Option) -> dict[str, float]:
    sized = best.sized
    device = sized.candidate.hardware.device
    memory = physics.memory(arch, device, sized.setup)
    speed = physics.speed(arch, device, sized.setup, sized.load)
    return {
        "weights_bytes": float(memory.weights),
        "kv_tokens": float(memory.kv_tokens),
        "itl_ms": speed.itl_ms.value,
        "ttft_ms": speed.ttft_ms.value,
        "output_tokens_per_s": speed.output_tokens_per_s.value,
    }


def learned_line(entry: Mapping[str, Any]) -> str:
    if entry["figure"] == "start_s":
        own, others = entry["launches"], entry["other_models"]
        whose = f"{own} launch{'' if own == 1 else 'es'} of it"
        if not own:
            whose = f"starts of {others} other model{'' if others == 1 else 's'}"
        return f"  start: {_number(entry['with'])} s, by {whose}"
    title, unit, unit_name = _WORDS[entry["figure"]]
    without, corrected = (_number(entry[each] * unit) for each in ("without", "with"))
    said = f"  {title}: {without} {unit_name} by facts alone, {corrected} with "
    said += f"{entry['launches']} launch{'' if entry['launches'] == 1 else 'es'} of it"
    if entry["other_models"]:
        said += f" and {entry['other_models']} other model{'' if entry['other_models'] == 1 else 's'}"
    if entry["error_without"] is not None:
        said += f"; facts alone were off by {entry['error_without']:.0%}"
    if entry["error_with"] is not None:
        said += f", corrected by {entry['error_with']:.0%}"
    return said


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
