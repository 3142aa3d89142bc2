"""The ways to run a model on some hardware that are worth a look: engine, weights, KV cache, parallelism."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from .architecture import Architecture, Experts, FullAttention, LatentAttention, WeightFormat
from .checkpoints import WeightSource, weight_sources
from .device import Device
from .setup import EngineName, KvFormat, Setup
from .wish import Hardware, Wish

Supported: TypeAlias = Callable[[EngineName, Device, WeightFormat, KvFormat], bool]

SIXTEEN_BIT: frozenset[WeightFormat] = frozenset({"bf16", "fp16", "fp32"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way, with the engine's limits still at their defaults."""

    hardware: Hardware
    source: WeightSource
    setup: Setup

    @property
    def as_it_is(self) -> bool:
        """The model computes as its checkpoint holds it: nothing was quantized that its makers did not."""
        return self.source.native and self.setup.kv in ("bf16", "fp16", "fp32")


def candidates(
    arch: Architecture, hardware: Hardware, wish: Wish, supported: Supported
) -> Iterator[Candidate]:
    """All that the engine supports on that device; whether they fit is for memory.py to say."""
    device = hardware.device
    for engine in wish.engines:
        for source in weight_sources(arch, engine, wish.quantization):
            for kv in _kv_formats(arch, wish):
                if not supported(engine, device, source.format, kv):
                    continue
                for tensor, pipeline in parallel_ways(arch, device, hardware.count):
                    setup = Setup(
                        engine,
                        weights=source.format,
                        kv=kv,
                        tensor_parallel=tensor,
                        pipeline_parallel=pipeline,
                    )
                    yield Candidate(hardware, source, setup)


def parallel_ways(arch: Architecture, device: Device, count: int | None) -> tuple[tuple[int, int], ...]:
    """(tensor, pipeline) degrees within one host, fewest devices first. Layers are split across pipelines only where
    tensor parallelism can't use as many devices: the heads would not divide."""
    most = device.devices_per_host_max if count is None else min(count, device.devices_per_host_max)
    tensor = [degree for degree in range(1, most + 1) if divides(arch, degree)]
    ways = {(degree, 1) for degree in tensor}
    for degree in tensor:
        for pipeline in range(2, most // degree + 1):
            if degree * pipeline not in tensor and pipeline <= arch.layers:
                ways.add((degree, pipeline))
    best: dict[int, tuple[int, int]] = {}
    for way in sorted(ways):
        best[way[0] * way[1]] = way  # of the same number, the widest tensor parallelism: it also cuts latency
    return tuple(best[number] for number in sorted(best))


def divides(arch: Architecture, degree: int) -> bool:
    """Whether heads and MLP columns can be shared out evenly, as engines demand."""
    for group in arch.groups:
        mixer = group.attention
        if isinstance(mixer, FullAttention | LatentAttention) and mixer.heads % degree:
            return False
        if isinstance(mixer, FullAttention) and mixer.kv_heads % degree and degree % mixer.kv_heads:
            return False
        if group.mlp is not None and group.mlp.intermediate % degree:
            return False
        if isinstance(group.mlp, Experts) and group.mlp.shared_intermediate % degree:
            return False
    return True


def _kv_formats(arch: Architecture, wish: Wish) -> tuple[KvFormat, ...]:
    plain: KvFormat = "fp16" if arch.native_format == "fp16" else "bf16"
    return (plain,) if wish.quantization == "native" else (plain, "fp8")
