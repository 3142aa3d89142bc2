"""Settings to begin with, per purpose and engine: keys of the deployment file, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import yaml

from inferry.core.errors import ConfigError

Preset = Literal["development", "production", "quantized"]
PRESETS: tuple[Preset, ...] = get_args(Preset)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a deployment."""

    key: str
    value: object
    because: str


_SHORT = Setting("context_tokens", 4096, "long enough to try things, and leaves memory to others")
_FEW = Setting("parallel", 8, "one developer, not a crowd")
_HALF = Setting("memory_fraction", 0.5, "the other half of the GPU stays free for other work")
_DEVELOPMENT = (_SHORT, _FEW, _HALF)

_PATIENCE = Setting("start_timeout_s", 1800, "big models take long to load")
_DRAIN = Setting("stop_grace_s", 120, "answers under way get two minutes to end")
_SAFE = (_PATIENCE, _DRAIN)
# Only where its meaning is known to bear it: SGLang, TGI and TensorRT-LLM count differently, and choose well.
_MEMORY = Setting("memory_fraction", 0.9, "the GPU serves nothing else; a tenth is left for peaks")
_PREFIXES = Setting("prefix_caching", True, "prompts that begin alike are computed once")
_CHUNKS = Setting("chunked_prefill", True, "a long prompt does not hold up the answers of others")
_PRODUCTION = (*_SAFE, _PREFIXES, _CHUNKS)

_EAGER = Setting("extra_args", ["--enforce-eager"], "starts faster: no graphs are captured")
_FP8 = Setting("quantization", "fp8", "half the memory of bf16, made while loading; needs no new files")
_SERVER = Setting(
    "binary", "llama-server", "extra_args are for a llama-server of one's own, not the embedded engine"
)
_FLASH = Setting("flash_attention", True, "a quantized KV cache needs it")
_Q8_CACHE = Setting(
    "extra_args",
    ["--flash-attn", "on", "--cache-type-k", "q8_0", "--cache-type-v", "q8_0"],
    "half the KV cache; the weights are quantized in the GGUF file",
)


def _cache(word: str, because: str = "half the KV cache, so twice the tokens in it") -> Setting:
    return Setting("kv_cache_dtype", word, because)


_TABLE: dict[Preset, dict[str, tuple[Setting, ...]]] = {
    "development": {
        "vllm": (*_DEVELOPMENT, _EAGER),
        "sglang": _DEVELOPMENT,
        "tensorrt-llm": _DEVELOPMENT,
        "tgi": _DEVELOPMENT,
        "ollama": (_SHORT, Setting("parallel", 2, "one developer, not a crowd")),
        "llamacpp": (_SHORT, Setting("parallel", 2, "one developer, not a crowd")),
    },
    "production": {
        "vllm": (*_PRODUCTION, _MEMORY),
        "sglang": _PRODUCTION,
        "tensorrt-llm": _PRODUCTION,
        "tgi": (*_SAFE, _PREFIXES),
        "transformers": _SAFE,
        "ollama": (*_SAFE, Setting("flash_attention", True, "less memory for long prompts")),
        "llamacpp": (*_SAFE, Setting("parallel", 8, "eight answers at a time; more wait in the queue")),
    },
    "quantized": {
        "vllm": (*_PRODUCTION, _MEMORY, _FP8, _cache("fp8")),
        "sglang": (*_PRODUCTION, _FP8, _cache("fp8_e4m3")),
        "tensorrt-llm": (*_PRODUCTION, _cache("fp8", "half the KV cache; weights are as their files say")),
        "tgi": (*_SAFE, _PREFIXES, _FP8, _cache("fp8_e4m3fn")),
        "ollama": (*_SAFE, _FLASH, _cache("q8_0", "half the KV cache; its library's weights are quantized")),
        "llamacpp": (*_SAFE, _SERVER, _Q8_CACHE),
    },
}


def preset_settings(preset: Preset, engine: str) -> tuple[Setting, ...]:
    """What the preset sets for an engine. Raises ConfigError where it has nothing to say."""
    found = _TABLE[preset].get(engine)
    if found is None:
        having = [name for name in PRESETS if engine in _TABLE[name]]
        instead = f"it has {', '.join(having)}" if having else "it has none"
        raise ConfigError(f"There is no preset '{preset}' for {engine}: {instead}.")
    return found


def shown_value(value: object) -> str:
    """As it is written in the file."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()
