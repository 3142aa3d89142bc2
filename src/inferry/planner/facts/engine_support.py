"""Which engine runs what on which hardware, and what it can do besides: `engine_support.json`.

Formats count as fast where the engine has a kernel for them on that hardware; where it works by way of a wider type, the
answer says so. Sources and versions are in the file. `engines/facts` holds what people read of the same engines; a test
keeps the two in agreement.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Literal, TypeAlias

import msgspec

from inferry.planner.architecture import WeightFormat
from inferry.planner.device import ComputeType, Device
from inferry.planner.facts.device_catalog import Source
from inferry.planner.setup import EngineName, KvFormat

Platform: TypeAlias = Literal["nvidia", "amd", "intel", "huawei", "cpu", "apple"]
Split: TypeAlias = Literal["tensor", "tensor_kv", "layers"]
"""How a model is laid over GPUs: by heads and columns; so, and each GPU with KV heads of its own; by whole layers."""

Feature: TypeAlias = Literal[
    "prefix_caching",
    "chunked_prefill",
    "speculative",
    "lora",
    "structured_output",
    "multimodal",
    "openai_api",
    "embeddings",
    "metrics",
    "graceful_shutdown",
    "continuation",
]


@dataclass(frozen=True, slots=True)
class Supported:
    fast: bool
    """The engine has kernels for both formats on this hardware."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotSupported:
    why: str


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On one platform. Compute capabilities are CUDA's."""

    from_: str | None = msgspec.field(default=None, name="from")
    fast_from: str | None = None
    below: str | None = None
    """Gone again from this compute capability on."""
    needs: ComputeType | None = None
    """Only on devices that compute in that type."""
    fast: bool = True
    slow: str = ""
    """Why it is not fast, where it isn't."""
    note: str = ""


class EngineSupport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    version: str
    """That the facts were read for."""
    licence: str
    maturity: str
    source: str
    split: Split
    parallelism: tuple[str, ...]
    hardware: dict[Platform, str]
    """NVIDIA: the least compute capability; others: remarks."""
    weights: dict[WeightFormat, dict[Platform, _Rule]]
    kv: dict[KvFormat, dict[Platform, _Rule]]
    features: dict[Feature, str]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: dict[str, Source]
    engines: dict[EngineName, EngineSupport]


@functools.cache
def _file() -> _File:
    raw = (resources.files("inferry.planner.facts") / "engine_support.json").read_bytes()
    return msgspec.json.decode(raw, type=_File)


def engine_support() -> Mapping[EngineName, EngineSupport]:
    """The six engines of the field, in the order in which they are compared."""
    return _file().engines


def support_sources() -> Mapping[str, Source]:
    """By the name in `EngineSupport.source`."""
    return _file().sources


def platform_of(device: Device) -> Platform | None:
    """None: a maker for which no engine's support is known."""
    if device.kind == "cpu":
        return "cpu"
    if device.kind == "apple":
        return "apple"
    known: dict[str, Platform] = {"nvidia": "nvidia", "amd": "amd", "intel": "intel", "huawei": "huawei"}
    return known.get(device.vendor)


def supports(
    engine: EngineName, device: Device, weights: WeightFormat, kv: KvFormat
) -> Supported | NotSupported:
    """Whether `engine` runs `weights` with a cache of `kv` on `device`, and whether with kernels made for that.

    Worked: vLLM with NVFP4 weights is fast on a B200 (10.0), computes in 16 bit on an H100 (9.0), and is not to be had on
    a T4 (7.5).
    """
    facts = engine_support()[engine]
    platform = platform_of(device)
    if platform is None or platform not in facts.hardware:
        return NotSupported(f"{facts.title} does not run on {device.name}")
    notes: list[str] = []
    fast = True
    for word, format_, table in (
        ("weights", weights, facts.weights.get(weights)),
        ("KV cache", kv, facts.kv.get(kv)),
    ):
        rule = None if table is None else table.get(platform)
        said = f"{facts.title}, {word} in {format_}"
        if rule is None:
            where = "" if table is None else f" on {_PLATFORM_WORDS[platform]}"
            return NotSupported(f"{said}: not supported{where}")
        if (problem := _problem(rule, device)) is not None:
            return NotSupported(f"{said}: {problem}")
        slow = _is_slow(rule, device)
        fast = fast and not slow
        notes += [f"{word} in {format_}: {text}" for text in (rule.slow if slow else "", rule.note) if text]
    return Supported(fast, tuple(notes))


_PLATFORM_WORDS: dict[Platform, str] = {
    "nvidia": "NVIDIA GPUs",
    "amd": "AMD GPUs",
    "intel": "Intel's devices",
    "huawei": "Ascend",
    "cpu": "CPUs",
    "apple": "Apple chips",
}


def capability(text: str) -> tuple[int, int]:
    """`"8.9"` as (8, 9): as numbers, 12.0 comes after 9.0."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _problem(rule: _Rule, device: Device) -> str | None:
    if rule.needs is not None and rule.needs not in device.flops_per_s:
        return f"{device.name} does not compute in {rule.needs}"
    if device.compute_capability is None:
        # Only NVIDIA's rules ask for one: what nobody said is no leave to run everything.
        return None if rule.from_ is None else f"compute capability of {device.name} is not known"
    has = capability(device.compute_capability)
    if rule.from_ is not None and has < capability(rule.from_):
        return f"compute capability {rule.from_} or more is needed, {device.name} has {device.compute_capability}"
    if rule.below is not None and has >= capability(rule.below):
        return f"no longer on compute capability {rule.below} and up, as {device.name} has"
    return None


def _is_slow(rule: _Rule, device: Device) -> bool:
    if not rule.fast:
        return True
    if rule.fast_from is None or device.compute_capability is None:
        return False
    return capability(device.compute_capability) < capability(rule.fast_from)
