"""In which formats a model's weights are to be had: its own, made while loading, or another checkpoint's."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import get_args

import msgspec

from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean

from .architecture import Architecture, WeightFormat
from .setup import EngineName

_AT_LOAD: dict[EngineName, tuple[WeightFormat, ...]] = {"vllm": ("fp8",), "sglang": ("fp8",), "tgi": ("fp8",)}
"""What engines make of 16-bit weights while they load them, by `quantization: fp8`: vLLM's docs (Quantization, FP8,
online dynamic quantization), SGLang's (Quantization, online), TGI's (--quantize fp8)."""

POLICIES = ("auto", "native", "any")


@dataclass(frozen=True, slots=True)
class WeightSource:
    """`repo` None: the model's own files. `at_load`: quantized by the engine while it loads them."""

    format: WeightFormat
    repo: str | None = None
    at_load: bool = False
    cast: bool = False
    """bf16 weights computed in fp16, where the device has no bf16: as many bits, so that nothing is quantized."""
    source: str = ""
    """Who names that repository."""

    @property
    def native(self) -> bool:
        return self.repo is None and not self.at_load

    @property
    def note(self) -> str:
        """What it may cost in quality, for people; empty where nothing is changed."""
        if self.native:
            return ""
        how = "while loading" if self.at_load else f"in the checkpoint {self.repo}"
        return f"weights are quantized to {self.format} {how}: compare its answers with the original's before you rely on it"


HALF = WeightSource("fp16", cast=True)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    repo: str
    weights: WeightFormat
    engines: tuple[EngineName, ...]
    source: str


class _Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: dict[str, str]
    models: dict[str, tuple[_Entry, ...]]


def weight_sources(arch: Architecture, engine: EngineName, wanted: str) -> tuple[WeightSource, ...]:
    """Those of `engine` that `wanted` (a policy or a format) allows, the model's own first.

    Checkpoints that somebody else quantized are named only where one is known: facts/quantized_checkpoints.json.
    """
    found = [WeightSource(arch.native_format)]
    if arch.native_format in ("bf16", "fp16", "fp32"):
        found += [WeightSource(each, at_load=True) for each in _AT_LOAD.get(engine, ())]
        found += [
            WeightSource(entry.weights, entry.repo, source=_catalog().sources[entry.source])
            for entry in _catalog().models.get(arch.name, ())
            if engine in entry.engines
        ]
    if wanted == "native":
        return tuple(found[:1])
    if wanted in POLICIES:
        return tuple(found)
    return tuple(each for each in found if each.format == wanted)


def check_quantization(arch: Architecture, wanted: str) -> None:
    """Raises ConfigError for a word that is neither policy nor format, and for a format that nobody is known to have."""
    if wanted in POLICIES:
        return
    formats = get_args(WeightFormat)
    if wanted not in formats:
        raise ConfigError(f"--quant {wanted}: not known.{did_you_mean(wanted, (*POLICIES, *formats))}")
    had = {arch.native_format, *(entry.weights for entry in _catalog().models.get(arch.name, ()))}
    if arch.native_format in ("bf16", "fp16", "fp32"):
        had |= {each for made in _AT_LOAD.values() for each in made}
    if wanted not in had:
        raise ConfigError(
            f"--quant {wanted}: no checkpoint of {arch.name} in that format is known here. Plan the checkpoint that "
            f"you have by its own name or config.json, or choose one of: {', '.join(sorted(had))}."
        )


@functools.cache
def _catalog() -> _Catalog:
    text = resources.files("inferry.planner.facts").joinpath("quantized_checkpoints.json").read_bytes()
    return msgspec.json.decode(text, type=_Catalog)
