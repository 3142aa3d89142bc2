"""The ways to run a model on some hardware that are worth a look: engine, weights, KV cache, parallelism."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from .architecture import Architecture, WeightFormat
from .checkpoints import HALF, WeightSource, weight_sources
from .device import Device
from .facts.engine_support import NotSupported, Supported
from .parallel_choices import Parallel, parallel_choices
from .setup import EngineName, KvFormat, Setup
from .wish import Hardware, Wish

Supports: TypeAlias = Callable[[EngineName, Device, WeightFormat, KvFormat], Supported | NotSupported]


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
        return self.source.native and self.setup.kv in ("bf16", "fp16", "fp32")


def candidates(
    arch: Architecture, hardware: Hardware, wish: Wish, supports: Supports
) -> Iterator[Candidate | NotSupported]:
    """All that the engine supports on that device, and why not where it doesn't; whether they fit, memory.py says.

    What is quantized beyond the checkpoint needs fast kernels: else it would cost quality and win nothing.
    """
    for engine in wish.engines:
        for source in weight_sources(arch, engine, wish.quantization):
            for kv in _kv_formats(source.format, wish):
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
                for parallel in parallel_ways(arch, engine, hardware, source.format):
                    setup = Setup(
                        engine,
                        weights=source.format,
                        kv=kv,
                        tensor_parallel=parallel.tensor,
                        pipeline_parallel=parallel.pipeline,
                        expert_parallel=parallel.expert,
                    )
                    found = Candidate(hardware, source, setup, answer.notes)
                    if answer.fast or found.as_it_is:
                        yield found


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


def _kv_formats(weights: WeightFormat, wish: Wish) -> tuple[KvFormat, ...]:
    plain: KvFormat = "fp16" if weights == "fp16" else "bf16"
    return (plain,) if wish.quantization == "native" else (plain, "fp8")
