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
from .facts.model_catalog import find_model
from .setup import EngineName

_AT_LOAD: dict[EngineName, tuple[WeightFormat, ...]] = {"vllm": ("fp8",), "sglang": ("fp8",), "tgi": ("fp8",)}
"""What engines make of 16-bit weights while they load them, by `quantization: fp8`: vLLM's docs (Quantization, FP8,
online dynamic quantization), SGLang's (Quantization, online), TGI's (--quantize fp8)."""

GGUF_ENGINES: tuple[EngineName, ...] = ("llamacpp", "ollama")
UNQUANTIZED: tuple[WeightFormat, ...] = ("bf16", "fp16", "fp32")
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
    to_find: bool = False
    """No repository or file of the model in that format is known: it has to be found or made first."""
    original: bool = False
    """`repo` is what the model's GGUF file was made of."""
    published: bool = False
    """So, and the file can't be had, as none of the engines asked for reads it: `repo` counts as the model itself."""

    @property
    def native(self) -> bool:
        return self.published or (self.repo is None and not self.at_load and not self.to_find)

    @property
    def note(self) -> str:
        """What it may cost in quality, for people; empty where nothing is changed."""
        if self.native:
            return ""
        if self.original:
            return f"weights of {self.repo} in {self.format} instead of the GGUF file that was made of them"
        if self.to_find:
            what = "a GGUF file (Q4_K_M)" if self.format == "gguf" else f"a checkpoint in {self.format}"
            return f"it needs {what}, of which none is known here: find or make it, and compare its answers with the original's"
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
    if engine in GGUF_ENGINES:
        if arch.native_format in UNQUANTIZED:
            found.append(WeightSource("gguf", to_find=True))
    elif arch.made_of and arch.native_format == "gguf":
        # Others than llama.cpp and Ollama take the repository, and what there is of it.
        made_of = find_model(arch.made_of).native_format
        found = [WeightSource(made_of, arch.made_of, original=True), *_known(arch.made_of, engine)]
    elif arch.native_format in UNQUANTIZED:
        found += [WeightSource(each, at_load=True) for each in _AT_LOAD.get(engine, ())]
        found += _known(arch.name, engine)
    if wanted == "native":
        return tuple(each for each in found[:1] if each.native or each.original)
    if wanted in POLICIES:
        return tuple(found)
    chosen = tuple(each for each in found if each.format == wanted)
    if not chosen and engine not in GGUF_ENGINES and wanted != "gguf" and arch.native_format in UNQUANTIZED:
        return (WeightSource(wanted, to_find=True),)  # type: ignore[arg-type]  # check_quantization saw it
    return chosen


def _known(name: str, engine: EngineName) -> list[WeightSource]:
    return [
        WeightSource(entry.weights, entry.repo, source=_catalog().sources[entry.source])
        for entry in _catalog().models.get(name, ())
        if engine in entry.engines
    ]


def check_quantization(arch: Architecture, wanted: str) -> None:
    """Raises ConfigError for a word that is neither policy nor format, and for another format than that of a model that
    is quantized already."""
    if wanted in POLICIES:
        return
    formats = get_args(WeightFormat)
    if wanted not in formats:
        raise ConfigError(f"--quant {wanted}: not known.{did_you_mean(wanted, (*POLICIES, *formats))}")
    if arch.native_format in UNQUANTIZED or arch.made_of or wanted == arch.native_format:
        return
    raise ConfigError(
        f"--quant {wanted}: {arch.name} is quantized already, to {arch.native_format}. Plan another checkpoint by its own "
        "name or config.json, or leave --quant out."
    )


@functools.cache
def _catalog() -> _Catalog:
    text = resources.files("inferry.planner.facts").joinpath("quantized_checkpoints.json").read_bytes()
    return msgspec.json.decode(text, type=_Catalog)
