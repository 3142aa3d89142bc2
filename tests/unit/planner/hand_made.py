"""A model, devices and a physics of three lines, so that what the search must find can be computed by hand."""

from __future__ import annotations

from inferry.planner.answers import Interval, MemoryPlan, Performance
from inferry.planner.architecture import Architecture, DenseMlp, FullAttention, LayerGroup, WeightFormat
from inferry.planner.device import Device, Price
from inferry.planner.facts.engine_support import NotSupported, Supported
from inferry.planner.load import Load
from inferry.planner.setup import EngineName, KvFormat, Setup
from inferry.planner.sizing import Physics

GIB = 2**30
TOKEN_BYTES = 2**16
ARCH = Architecture(
    name="org/tiny",
    hidden=1024,
    vocab=32_000,
    groups=(LayerGroup(16, FullAttention(heads=8, kv_heads=2, head_dim=128), DenseMlp(4096)),),
    tied_embeddings=False,
    max_position=32_768,
)
SLOTS = 64
ITL_MS, ITL_PER_REQUEST_MS = 10.0, 1.0
TTFT_MS, TTFT_PER_REQUEST_MS = 50.0, 10.0


def device(
    name: str, usd_per_hour: float | None = 1.0, *, memory_gib: float = 24, speed: float = 1.0
) -> Device:
    """`speed` 2 halves every time."""
    return Device(
        name=name,
        kind="gpu",
        vendor="Nobody",
        memory_bytes=int(memory_gib * GIB),
        usable_bytes=int(memory_gib * GIB),
        bandwidth_bytes_per_s=1e12 * speed,
        flops_per_s={"bf16": 1e14},
        link_bytes_per_s=3e10,
        power_w=300.0,
        price=None if usd_per_hour is None else Price(usd_per_hour, "2026-01-01", "made up"),
    )


def memory(arch: Architecture, device: Device, setup: Setup) -> MemoryPlan:
    """16 GiB of 16-bit weights, split by the degrees; 64 KiB per token."""
    weights = int(16 * GIB * (1 if setup.weights == "bf16" else 0.5) / setup.devices)
    budget = int(0.9 * device.usable_bytes)
    per_token = TOKEN_BYTES / setup.tensor_parallel
    kv = budget - weights
    tokens = max(int(kv / per_token), 0)
    return MemoryPlan(device.usable_bytes, budget, weights, 0, 0, 0, 0, kv, per_token, tokens, setup)


def speed(arch: Architecture, device: Device, setup: Setup, load: Load) -> Performance:
    """ITL 10 + n ms and TTFT 50 + 10 n ms with n requests at once, over the device's speed and the
    square root of the devices that share a layer."""
    faster = device.bandwidth_bytes_per_s / 1e12 * setup.devices**0.5 * (1 if setup.weights == "bf16" else 2)
    at_once = load.concurrency
    if at_once is None:
        assert load.requests_per_s is not None
        at_once = next(
            (n for n in range(1, SLOTS) if _rate(n, faster, load) >= load.requests_per_s), float(SLOTS)
        )
    rate = _rate(at_once, faster, load)
    if load.requests_per_s is not None:
        rate = min(rate, load.requests_per_s)
    return Performance(
        _interval((TTFT_MS + TTFT_PER_REQUEST_MS * at_once) / faster),
        _interval((ITL_MS + ITL_PER_REQUEST_MS * at_once) / faster),
        _interval(rate * load.output_tokens),
        _interval(rate),
        at_once,
        0.0,
        "bandwidth",
        {"weights": 3.0, "prefill": 1.0},
    )


def _rate(at_once: float, faster: float, load: Load) -> float:
    total_ms = (
        TTFT_MS + TTFT_PER_REQUEST_MS * at_once + load.output_tokens * (ITL_MS + ITL_PER_REQUEST_MS * at_once)
    )
    return 1000 * at_once * faster / total_ms


def _interval(value: float) -> Interval:
    return Interval(value, 0.8 * value, 1.2 * value)


def supports(
    engine: EngineName, device: Device, weights: WeightFormat, kv: KvFormat
) -> Supported | NotSupported:
    return Supported(fast=True) if kv == "bf16" else NotSupported(f"no cache in {kv}")


def sequence(arch: Architecture, device: Device, setup: Setup, tokens: int) -> float:
    return tokens * TOKEN_BYTES / setup.tensor_parallel


PHYSICS = Physics(memory, sequence, speed, supports)
