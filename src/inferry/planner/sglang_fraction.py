"""The share of the memory that SGLang gives weights and cache: its own default, and what it makes of one that it is told.

Source: SGLang's `server_args.py` and, up to 0.4.7, `model_runner.py`, by version.
"""

from __future__ import annotations

from .architecture import Architecture, LatentAttention
from .device import Device
from .facts.engine_memory import EngineMemory, version_number
from .setup import Setup

GIB = 2**30
MIB_PER_GIB = 1024

DRIVER_KEEPS_BYTES = GIB // 2
"""What nvidia-smi's total has above what a process may use, where nobody told either: 0.45 GiB on an L4, 0.46 on an
H100."""

BY_TENSOR_PARALLEL = ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87), (1, 0.88))
"""Up to 0.4.7."""

BY_MEMORY = ((35, 2.8, 0.1), (90, 9.5, 0.5), (160, 12.0, 0.5), (float("inf"), 32.0, 0.0))
"""From 0.4.8: up to that GiB, a base in GiB, and more per GPU of the replica."""
BY_MEMORY_ATTENTION_DP_GIB = 4.0

BY_STEP = (
    (20, 2048, 8, 8),
    (35, 2048, 24, 80),
    (60, 4096, 32, 160),
    (160, 8192, 256, 512),
    (float("inf"), 16384, 512, 512),
)
"""From 0.5.4: up to that GiB, the tokens of a prefill chunk, and the largest batch of a CUDA graph with up to three GPUs
and with more. Up to 0.5.9 an RTX 4090 has 0.847 by them, an H100 0.835."""
MANY_GPUS = 4
LARGE_BATCH = 300

PREFILL_GRAPHS_FROM = (0, 5, 10)
"""From about there prefills have CUDA graphs too (pull 16331, of early 2026), on NVIDIA: an H100 with Qwen3 32B then has
0.828, not 0.835 (issue 29092)."""
PREFILL_GRAPH_SIZES = (
    (4, 32, 4),
    (48, 256, 16),
    (288, 512, 32),
    (640, 4096, 128),
    (4352, 2**20, 256),
)
"""First, last and step of the numbers of tokens."""
PREFILL_GRAPH_MIB, PREFILL_GRAPHS_LATENT_MIB = 8, 1536
LARGE_GIB, LARGE_RESERVED_MIB = 60, 10 * 1024

LEAST = 0.01
"""Devices that are smaller than what is reserved hold nothing."""

TOWER_SHARE = 0.95
TOWER_USUAL = 24 * 1024**2
"""Layers x width squared of ViT-L/14, by which towers are measured (pull 6881)."""
TOWER_SHARE_OLD = 0.9
"""Up to 0.4.7 the same for each tower, of a told fraction too."""

AITER_SHARE, AITER_TOKENS = 0.85, 8192
"""On AMD with the attention kernels `aiter` and longer contexts, of a told fraction too (pull 37242 tells of both)."""
AITER_LATENT_HEADS = (16, 128)
"""For latent attention those kernels are taken only with so many heads per GPU."""


def default_fraction(arch: Architecture, engine: EngineMemory, device: Device, setup: Setup) -> float:
    """As it would print it, if nobody tells one."""
    if engine.fraction_rule == "by_tensor_parallel":
        gpus = setup.tensor_parallel * setup.data_parallel
        return next(fraction for least, fraction in BY_TENSOR_PARALLEL if gpus >= least)
    total_gib = driver_total_bytes(device) / GIB
    if engine.fraction_rule == "by_memory":
        reserved_gib = _reserved_by_memory(total_gib, setup)
    else:
        reserved_gib = _reserved_by_step(arch, device, setup, total_gib) / MIB_PER_GIB
    fraction = max(round((total_gib - reserved_gib) / total_gib, 3), LEAST)
    return round(fraction * _tower_share(arch, setup), 4)


def kept_fraction(
    arch: Architecture, engine: EngineMemory, device: Device, setup: Setup, model_tokens: int
) -> float:
    """What it silently multiplies any fraction with, its own or a told one."""
    if engine.fraction_rule == "by_tensor_parallel":
        return TOWER_SHARE_OLD if _has_tower(arch, setup) else 1.0
    if device.vendor == "amd" and model_tokens > AITER_TOKENS and _takes_aiter(arch, setup):
        return AITER_SHARE
    return 1.0


def driver_total_bytes(device: Device) -> int:
    """The total of nvidia-smi, which it reserves from; below the nameplate on most cards."""
    return device.driver_total_bytes or device.usable_bytes + DRIVER_KEEPS_BYTES


def _reserved_by_memory(total_gib: float, setup: Setup) -> float:
    _, base, each = next(row for row in BY_MEMORY if total_gib < row[0])
    shared = BY_MEMORY_ATTENTION_DP_GIB if setup.data_parallel > 1 else 0.0
    return base + each * setup.devices + shared


def _reserved_by_step(arch: Architecture, device: Device, setup: Setup, total_gib: float) -> float:
    """In MiB: activations of a prefill chunk, CUDA graphs, more per GPU, and for attention data parallelism."""
    _, chunk, few, many = next(row for row in BY_STEP if total_gib < row[0])
    batch = many if setup.tensor_parallel * setup.data_parallel >= MANY_GPUS else few
    reserved = 512 + 1.5 * chunk + 2 * batch + setup.devices / 8 * MIB_PER_GIB
    if setup.data_parallel > 1:
        reserved += batch * setup.data_parallel * (3 + (1.5 if batch > LARGE_BATCH else 0))
    if _captures_prefills(device, setup):
        latent = any(isinstance(group.attention, LatentAttention) for group in arch.groups)
        reserved += PREFILL_GRAPHS_LATENT_MIB if latent else PREFILL_GRAPH_MIB * _prefill_graphs(chunk)
    return max(reserved, LARGE_RESERVED_MIB) if total_gib > LARGE_GIB else reserved


def _captures_prefills(device: Device, setup: Setup) -> bool:
    version = setup.engine_version
    new = version is None or version_number(version) >= PREFILL_GRAPHS_FROM
    return new and setup.cuda_graphs and device.vendor == "nvidia"


def _prefill_graphs(chunk: int) -> int:
    """How many sizes up to a chunk's there is a graph for: 74 for 8,192 tokens."""
    return sum(max(min(chunk, last) - first, -1) // step + 1 for first, last, step in PREFILL_GRAPH_SIZES)


def _has_tower(arch: Architecture, setup: Setup) -> bool:
    return arch.vision_params > 0 and not setup.text_only


def _tower_share(arch: Architecture, setup: Setup) -> float:
    """Left for images: 10 % less for each time that a tower is as large again as ViT-L/14. Gemma 3's 27 x 1,152^2: 0.91."""
    if not _has_tower(arch, setup):
        return 1.0
    more = (arch.vision_complexity or TOWER_USUAL) / TOWER_USUAL - 1
    return TOWER_SHARE * min(max(1 - 0.1 * more, 0.8), 1.05)


def _takes_aiter(arch: Architecture, setup: Setup) -> bool:
    return all(
        group.attention.heads // setup.tensor_parallel in AITER_LATENT_HEADS
        for group in arch.groups
        if isinstance(group.attention, LatentAttention)
    )
