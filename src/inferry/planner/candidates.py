"""The ways to run a model on some hardware that are worth a look: engine, weights, KV cache, parallelism."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from .architecture import Architecture, WeightFormat
from .checkpoints import GGUF_ENGINES, HALF, POLICIES, WeightSource, weight_sources
from .device import Device
from .facts.engine_support import NotSupported, Supported, engine_support
from .parallel_choices import Parallel, parallel_choices
from .setup import EngineName, KvFormat, Setup
from .weights import weight_bytes
from .wish import Hardware, Wish

Supports: TypeAlias = Callable[[EngineName, Device, WeightFormat, KvFormat], Supported | NotSupported]

PLACES = 16
"""Of llama.cpp and Ollama, at most: they set memory aside for each, and their defaults (4 and 1) are for one person."""
_PLAIN_KV: tuple[KvFormat, ...] = ("bf16", "fp16", "fp32")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way, with the engine's limits still at their defaults."""

    hardware: Hardware
    source: WeightSource
    setup: Setup
    notes: tuple[str, ...] = ()
    """What the support table says of it."""

    @property
    def as_it_is(self) -> bool:
        """The model computes as its checkpoint holds it: nothing was quantized that its makers did not."""
        return _is_as_it_is(self.source, self.setup.kv)


def candidates(
    arch: Architecture, hardware: Hardware, wish: Wish, supports: Supports
) -> Iterator[Candidate | NotSupported]:
    """All that the engine supports on that device, and why not where it doesn't; whether they fit, memory.py says.

    What is quantized beyond the checkpoint needs fast kernels: else it would cost quality and win little. A format that
    was asked for by name needs none; the notes say what is slow about it.
    """
    engines = _engines(hardware.device, wish)
    by_repository = not any(engine in GGUF_ENGINES for engine in engines)
    for engine in engines:
        for source in weight_sources(arch, engine, wish.quantization):
            if source.original and by_repository:
                source = replace(source, published=True)
            if wish.quantization == "native" and not source.native:
                continue
            for kv in _kv_formats(engine, source.format, wish):
                answer = supports(engine, hardware.device, source.format, kv)
                if (
                    isinstance(answer, NotSupported)
                    and source.native
                    and source.format == "bf16"
                    and kv == "bf16"
                ):
                    # Devices before Ampere: bf16 weights are cast to fp16 while loading.
                    source, kv = HALF, "fp16"
                    answer = supports(engine, hardware.device, source.format, kv)
                if isinstance(answer, NotSupported):
                    yield answer
                    continue
                asked_for = wish.quantization not in POLICIES and kv in _PLAIN_KV
                if not (answer.fast or asked_for or _is_as_it_is(source, kv)):
                    yield NotSupported(_too_slow(engine, hardware.device, answer))
                    continue
                notes = (*answer.notes, *_beside(engine, hardware.device, answer))
                for parallel in parallel_ways(arch, engine, hardware, source.format):
                    setup = Setup(
                        engine,
                        weights=source.format,
                        kv=kv,
                        tensor_parallel=parallel.tensor,
                        pipeline_parallel=parallel.pipeline,
                        expert_parallel=parallel.expert,
                        max_sequences=PLACES if engine in GGUF_ENGINES else None,
                    )
                    if source.at_load and not can_load(arch, hardware.device, setup):
                        yield NotSupported(
                            f"{engine_support()[engine].title}, weights in {source.format} made while loading: it loads "
                            f"them in 16 bit first, which {setup.devices} x {hardware.device.name} can't hold"
                        )
                        continue
                    yield Candidate(hardware, source, setup, notes)


def _is_as_it_is(source: WeightSource, kv: KvFormat) -> bool:
    return source.native and kv in _PLAIN_KV


def _engines(device: Device, wish: Wish) -> tuple[EngineName, ...]:
    """On Apple's chips the usual engines compute on CPU cores, if at all: those that use its GPU, unless others were
    asked for."""
    return GGUF_ENGINES if device.kind == "apple" and wish.engines == Wish().engines else wish.engines


def _too_slow(engine: EngineName, device: Device, answer: Supported) -> str:
    return (
        f"{engine_support()[engine].title} on {device.name}, {'; '.join(answer.notes)}: not proposed unasked, it changes "
        "the model without fast kernels; --quant with the format's name plans it"
    )


def _beside(engine: EngineName, device: Device, answer: Supported) -> Iterator[str]:
    """What the support table leaves out."""
    if not answer.fast:
        yield f"slow on {device.name}: it has no kernels there for these formats"
    if device.kind != "cpu" and engine not in Wish().engines:
        yield (
            "speed on GPUs: figures are computed from the device's rates and were never compared with measurements of "
            "this engine; their ranges are those of other engines"
        )


def can_load(arch: Architecture, device: Device, setup: Setup) -> bool:
    """Whether the device holds the weights as they are loaded, where the engine quantizes them only afterwards: SGLang
    (model_loader, process_weights_after_loading). vLLM does it layer by layer (pull requests 29196 and 31914)."""
    if setup.engine != "sglang":
        return True
    return weight_bytes(arch, replace(setup, weights=arch.native_format)) <= device.usable_bytes


def parallel_ways(
    arch: Architecture, engine: EngineName, hardware: Hardware, weights: WeightFormat
) -> Iterator[Parallel]:
    """Within one host, fewest devices first; of the same number the widest tensor parallelism, which also cuts latency.

    Devices without a link to each other stay alone.
    """
    host = hardware.device.devices_per_host_max if hardware.device.link_bytes_per_s > 0 else 1
    most = host if hardware.count is None else min(hardware.count, host)
    for devices in range(1, most + 1):
        yield from parallel_choices(arch, engine, devices, weights)[:1]


def _kv_formats(engine: EngineName, weights: WeightFormat, wish: Wish) -> tuple[KvFormat, ...]:
    plain: KvFormat = "fp16" if weights == "fp16" or engine in GGUF_ENGINES else "bf16"
    if wish.quantization == "native" or engine == "llamacpp":  # whose embedded engine is not told
        return (plain,)
    return plain, "q8_0" if engine == "ollama" else "fp8"
