"""The planner's arithmetic with what launches taught: memory and speed, each times its correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .answers import Interval, MemoryPlan, Performance
from .architecture import Architecture
from .device import Device
from .learning import REST, Corrections, Launch, Subject, learn
from .load import Load
from .setup import Setup
from .sizing import Physics


def subject_of(arch: Architecture, device: Device, setup: Setup) -> Subject:
    """Under which name launches of it are kept."""
    return Subject(
        setup.engine, device.name, arch.name, family_of(arch.name), setup.engine_version, setup.weights, setup
    )


def family_of(model: str) -> str:
    """`llama` for meta-llama/Llama-3.1-8B-Instruct: the letters that its name begins with."""
    name = model.rpartition("/")[2].lower()
    letters = next((index for index, char in enumerate(name) if not char.isalpha()), len(name))
    return name[:letters]


def learned_physics(plain: Physics, launches: Sequence[Launch]) -> Physics:
    """`plain`, corrected by launches of the same engine on the same device. Without any: `plain` itself."""
    if not launches:
        return plain
    known: dict[Subject, Corrections] = {}

    def learned(arch: Architecture, device: Device, setup: Setup) -> Corrections:
        subject = subject_of(arch, device, setup)
        if subject not in known:
            known[subject] = learn(launches, subject)
        return known[subject]

    def memory(arch: Architecture, device: Device, setup: Setup) -> MemoryPlan:
        return corrected_memory(plain.memory(arch, device, setup), learned(arch, device, setup))

    def speed(arch: Architecture, device: Device, setup: Setup, load: Load) -> Performance:
        return corrected_speed(plain.speed(arch, device, setup, load), learned(arch, device, setup))

    return replace(plain, memory=memory, speed=speed)


def corrected_memory(plan: MemoryPlan, learned: Corrections) -> MemoryPlan:
    """Weights as they were measured, and what isn't KV cache larger or smaller by the bytes that were learned: the parts
    add up to the same as before, so that the cache gets what the others leave. Where nothing fits, as it is."""
    known = learned.by_quantity
    if not ({"weights_bytes", REST} & set(known)) or plan.kv <= 0:
        return plan
    weights = round(plan.weights * learned.factor("weights_bytes"))
    heavier = weights - plan.weights
    # Lighter weights alone leave no more for the cache: that is told by launches of the same setup.
    rest = round(known[REST].difference) if REST in known else max(heavier, 0)
    runtime = max(plan.runtime + rest - heavier, 0)
    kv = max(plan.kv - heavier - (runtime - plan.runtime), 0)
    return replace(
        plan, weights=weights, runtime=runtime, kv=kv, kv_tokens=int(plan.kv_tokens * kv / plan.kv)
    )


def corrected_speed(found: Performance, learned: Corrections) -> Performance:
    """Times and rates by what was measured of them. Of the rate and the time between tokens, one that nobody measured
    follows the other."""
    itl, rate = learned.factor("itl_ms"), learned.factor("output_tokens_per_s")
    if "output_tokens_per_s" not in learned.by_quantity:
        rate = 1 / itl
    elif "itl_ms" not in learned.by_quantity:
        itl = 1 / rate
    if found.limited_by == "arrivals":
        rate = 1.0  # as many as arrive, however long each takes
    return replace(
        found,
        ttft_ms=_times(found.ttft_ms, learned.factor("ttft_ms")),
        ttft_wait_ms=found.ttft_wait_ms * learned.factor("ttft_ms"),
        itl_ms=_times(found.itl_ms, itl),
        output_tokens_per_s=_times(found.output_tokens_per_s, rate),
        requests_per_s=_times(found.requests_per_s, rate),
        parts_ms={name: itl * part for name, part in found.parts_ms.items()},
    )


def _times(interval: Interval, factor: float) -> Interval:
    return replace(
        interval, value=interval.value * factor, low=interval.low * factor, high=interval.high * factor
    )
