"""What to change so that it fits: each change is planned anew, and only those that do fit are told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .answers import MemoryPlan, WayOut
from .architecture import Architecture, WeightFormat
from .candidates import can_load
from .checkpoints import weight_sources
from .device import Device
from .facts.engine_support import Supported, supports
from .limits import limits_of
from .parallel_choices import parallel_choices
from .setup import KvFormat, Setup

ENOUGH = 6
LEAST = 2
CONTEXTS = (131_072, 65_536, 32_768, 16_384, 8_192, 4_096, 2_048)
FRACTION_MAX = 0.95
"""Above, nothing is left for what an engine holds outside of its budget."""

SLOWER_MOST = 0.5

FOUR_BIT: tuple[WeightFormat, ...] = ("nvfp4", "awq")
"""The usual formats of others' checkpoints, for newer and older GPUs."""

GGUF_ENGINES = ("llamacpp", "ollama")


class FitCheck(Protocol):
    def __call__(
        self, arch: Architecture, device: Device, setup: Setup, context: int, sequences: float
    ) -> MemoryPlan | None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One proposal, before it is checked."""

    words: str
    device: Device
    setup: Setup
    context: int
    sequences: float


def find_ways_out(
    arch: Architecture,
    device: Device,
    setup: Setup,
    context: int,
    sequences: float,
    devices: Sequence[Device],
    *,
    fits: FitCheck,
) -> tuple[WayOut, ...]:
    """At most `ENOUGH`, those first that change least: limits, then formats, then more devices, then others. Two changes
    at once are proposed only where fewer than `LEAST` single ones do, and further ones of a kind where those are too few."""
    now = Change("", device, setup, context, sequences)
    found = _checked(arch, _single(arch, now, devices), fits, ENOUGH)
    if len(found) < LEAST:
        found += _checked(arch, _double(arch, now, devices), fits, LEAST - len(found))
    if 0 < len(found) < LEAST:
        more = _checked(
            arch, (*_single(arch, now, devices), *_double(arch, now, devices)), fits, ENOUGH, each=LEAST
        )
        found += [way for way in more if way not in found][: LEAST - len(found)]
    return tuple(found)


def _checked(
    arch: Architecture, kinds: Iterable[Iterable[Change]], fits: FitCheck, count: int, *, each: int = 1
) -> list[WayOut]:
    """Of each kind of change the mildest that fit, `each` at most."""
    found: list[WayOut] = []
    for kind in kinds:
        fitting = (
            WayOut(change.words, change.setup, change.device.name, memory)
            for change in kind
            if (memory := fits(arch, change.device, change.setup, change.context, change.sequences))
            is not None
        )
        found += itertools.islice(fitting, min(each, count - len(found)))
        if len(found) == count:
            break
    return found


def _single(arch: Architecture, now: Change, devices: Sequence[Device]) -> Iterator[Iterable[Change]]:
    yield from ((change,) for change in _tighter_limits(arch, now))
    yield _fewer_sequences(now)
    yield _shorter_context(arch, now)
    yield _smaller_cache(now)
    yield from ((change,) for change in _smaller_weights(arch, now))
    yield (both for first in _smaller_weights(arch, now) for both in _both(first, _smaller_cache(first)))
    yield _more_devices(arch, now)
    yield _larger_devices(now, devices)
    yield _other_engine(now)


def _double(arch: Architecture, now: Change, devices: Sequence[Device]) -> Iterator[Iterable[Change]]:
    """Smaller weights, another engine, more or larger devices, each with another change."""
    for first in _smaller_weights(arch, now):
        yield _both(first, _fewer_sequences(first))
        yield _both(first, _shorter_context(arch, first))
        yield _both(first, _more_devices(arch, first))
        yield _both(first, _larger_devices(first, devices))
    for first in _larger_devices(now, devices):
        yield _both(first, _more_devices(arch, first))
    for first in _shorter_context(arch, now):
        yield _both(first, _more_devices(arch, first))
    for first in _other_engine(now):
        yield _both(first, _fewer_sequences(first))
        yield _both(first, _shorter_context(arch, first))


def _both(first: Change, seconds: Iterable[Change]) -> Iterator[Change]:
    for second in seconds:
        yield replace(second, words=f"{first.words}, and {second.words}")


def _tighter_limits(arch: Architecture, now: Change) -> Iterator[Change]:
    """The step is sized by what the engine may batch, which by default is more than was asked for."""
    limits = limits_of(arch, now.device, now.setup)
    wanted = max(int(now.sequences), 1)
    if limits.sequences > wanted:
        yield replace(
            now,
            words=f"let it run {_sequences(wanted)} at once instead of {limits.sequences}",
            setup=replace(now.setup, max_sequences=wanted),
        )
    if now.setup.engine == "vllm" and limits.fraction < FRACTION_MAX:
        yield replace(
            now,
            words=f"let it use {FRACTION_MAX:.0%} of the memory instead of {limits.fraction:.0%}",
            setup=replace(now.setup, memory_fraction=FRACTION_MAX),
        )
    if arch.vision_params and not now.setup.text_only:
        yield replace(now, words="leave the vision tower out", setup=replace(now.setup, text_only=True))


def _fewer_sequences(now: Change) -> Iterator[Change]:
    """Half as many, and so on, each of the asked length. The engine is told, so that it sizes its step by them."""
    count = int(now.sequences) // 2
    while count >= 1:
        words = f"{_sequences(count)} at once instead of {now.sequences:g}"
        yield replace(now, words=words, sequences=count, setup=replace(now.setup, max_sequences=count))
        count //= 2


def _shorter_context(arch: Architecture, now: Change) -> Iterator[Change]:
    sequences = math.ceil(now.sequences)
    longest = (arch.max_position,) if arch.max_position else ()
    for context in sorted({*CONTEXTS, *longest}, reverse=True):
        if context < now.context:
            words = (
                f"a context of {context:,} tokens instead of {now.context:,}, {_sequences(sequences)} at once"
            )
            setup = replace(now.setup, max_model_tokens=context, max_sequences=sequences)
            yield replace(now, words=words, context=context, setup=setup)


def _smaller_cache(now: Change) -> Iterator[Change]:
    if now.setup.kv in ("bf16", "fp16", "fp32"):
        smaller: KvFormat = "q8_0" if now.setup.engine in GGUF_ENGINES else "fp8"
        change = replace(now, words=f"a KV cache in {smaller}", setup=replace(now.setup, kv=smaller))
        if _runs(change):
            yield change


def _smaller_weights(arch: Architecture, now: Change) -> Iterator[Change]:
    """Checkpoints that are known first, then the usual 4-bit formats; llama.cpp and Ollama have GGUF files of 4 to 5 bits."""
    if now.setup.weights not in ("fp32", "bf16", "fp16"):
        return
    if now.setup.engine in GGUF_ENGINES:
        change = replace(now, words="a GGUF file (Q4_K_M)", setup=replace(now.setup, weights="gguf"))
        if _runs(change):
            yield change
        return
    known = {
        source.format: source.repo
        for source in weight_sources(arch, now.setup.engine, "any")
        if not source.native and (not source.at_load or _loads_as(arch, now, source.format))
    }
    for weights in dict.fromkeys((*known, *FOUR_BIT)):
        repo = known.get(weights)
        where = (
            f" ({repo})"
            if repo
            else " (quantized while loading)"
            if weights in known
            else ", if you find or make a checkpoint"
        )
        change = replace(now, words=f"weights in {weights}{where}", setup=replace(now.setup, weights=weights))
        if _runs(change, fast=True):
            yield change


def _loads_as(arch: Architecture, now: Change, weights: WeightFormat) -> bool:
    return can_load(arch, now.device, replace(now.setup, weights=weights))


def _more_devices(arch: Architecture, now: Change) -> Iterator[Change]:
    count = now.setup.tensor_parallel * now.setup.pipeline_parallel
    more = 2 * count
    while more * now.setup.data_parallel <= now.device.devices_per_host_max:
        for way in parallel_choices(arch, now.setup.engine, more, now.setup.weights)[:1]:
            setup = replace(
                now.setup,
                tensor_parallel=way.tensor,
                pipeline_parallel=way.pipeline,
                expert_parallel=way.expert,
            )
            yield replace(now, words=f"{more} x {now.device.name} instead of {count}", setup=setup)
        more *= 2


def _larger_devices(now: Change, devices: Sequence[Device]) -> Iterator[Change]:
    """By memory, smallest first; one of each size, and of the same kind and maker."""
    sizes: set[int] = set()
    for device in sorted(devices, key=lambda each: each.usable_bytes):
        alike = (device.kind, device.vendor) == (now.device.kind, now.device.vendor)
        larger = device.usable_bytes > now.device.usable_bytes and device.memory_bytes not in sizes
        # Unified memory is large and slow: no way out for those who chose a fast device.
        slower = device.bandwidth_bytes_per_s < SLOWER_MOST * now.device.bandwidth_bytes_per_s
        if not alike or not larger or slower:
            continue
        change = replace(now, words=f"{device.name} instead of {now.device.name}", device=device)
        if _runs(change):
            sizes.add(device.memory_bytes)
            yield change


def _other_engine(now: Change) -> Iterator[Change]:
    """llama.cpp with a GGUF file of 4 to 5 bits: little besides weights and cache."""
    if now.setup.engine in GGUF_ENGINES:
        return
    setup = replace(
        now.setup, engine="llamacpp", engine_version=None, weights="gguf", kv="fp16", memory_fraction=None
    )
    change = replace(now, words="llama.cpp with a GGUF file (Q4_K_M)", setup=setup)
    if setup.devices == 1 and _runs(change):
        yield change


def _sequences(count: int) -> str:
    return "1 sequence" if count == 1 else f"{count} sequences"


def _runs(change: Change, *, fast: bool = False) -> bool:
    support = supports(change.setup.engine, change.device, change.setup.weights, change.setup.kv)
    return isinstance(support, Supported) and (support.fast or not fast)
