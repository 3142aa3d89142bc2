"""A deployment in the planner's words, whole or not at all: what can't be translated must teach the planner nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from inferry.core.deployment import Deployment
from inferry.core.server_engines import SglangDeployment, TensorRtLlmDeployment, VllmDeployment
from inferry.planner.architecture import Architecture, WeightFormat
from inferry.planner.setup import EngineName, KvFormat, Setup

_SIXTEEN_BIT: tuple[WeightFormat, ...] = ("bf16", "fp16")
_DTYPES: Mapping[str, WeightFormat] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
}
_KV_WORDS: Mapping[str, KvFormat] = {
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "nvfp4": "nvfp4",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "float16": "fp16",
}
"""vLLM's --kv-cache-dtype, SGLang's, and TensorRT-LLM's kv_cache_config.dtype."""
_MADE_AT_LOAD: Mapping[str, WeightFormat] = {"fp8": "fp8"}
"""Of 16-bit weights, by vLLM and SGLang."""
_NAMES_OF: Mapping[str, tuple[WeightFormat, ...]] = {
    "fp8": ("fp8", "fp8_block"),
    "awq": ("awq",),
    "awq_marlin": ("awq",),
    "gptq": ("gptq",),
    "gptq_marlin": ("gptq",),
    "mxfp4": ("mxfp4",),
    "modelopt": ("fp8",),
    "modelopt_fp4": ("nvfp4",),
    "compressed-tensors": ("fp8", "fp8_block", "int8", "int4", "nvfp4"),
    "w8a8_fp8": ("fp8",),
    "w8a8_int8": ("int8",),
}
"""Words that only say again what the checkpoint holds."""
_EAGER = frozenset({"--enforce-eager", "--disable-cuda-graph"})
_EXPERTS_SPREAD = "--enable-expert-parallel"
_EXPERTS_SIZE = frozenset({"--ep-size", "--ep", "--expert-parallel-size"})
_HARMLESS = frozenset(
    {
        "--chat-template", "--enable-auto-tool-choice", "--tool-call-parser", "--reasoning-parser", "--seed",
        "--disable-log-requests", "--no-enable-log-requests", "--disable-log-stats", "--log-level", "--enable-metrics",
        "--response-role", "--served-model-name", "--generation-config", "--trust-remote-code",
    }
)  # fmt: skip
"""Neither memory nor speed depends on them."""
_ENGINE_VARIABLES = ("VLLM_", "SGLANG_", "SGL_", "TRTLLM_", "TLLM_", "PYTORCH_", "NCCL_")


def setup_of(deployment: Deployment, arch: Architecture) -> Setup | None:
    """None for engines that start notes don't know the memory of, and for keys, arguments or variables that may change
    memory or speed and have no word in the planner."""
    if not isinstance(deployment, VllmDeployment | SglangDeployment | TensorRtLlmDeployment):
        return None
    if deployment.lora or deployment.speculative is not None or getattr(deployment, "lora_live", False):
        return None
    if getattr(deployment, "options", None) or any(
        name.startswith(_ENGINE_VARIABLES) for name in deployment.env
    ):
        return None
    weights, flags = _weights(deployment, arch), _flags(deployment.extra_args)
    kv = None if weights is None else _kv(deployment.kv_cache_dtype, weights)
    if weights is None or kv is None or flags is None:
        return None
    data_parallel = getattr(deployment, "data_parallel", 1)
    experts = int(flags.get("experts", 1)) or deployment.tensor_parallel * data_parallel
    return Setup(
        cast(EngineName, deployment.engine.replace("-", "_")),
        deployment.version,
        weights=weights,
        kv=kv,
        tensor_parallel=deployment.tensor_parallel,
        pipeline_parallel=deployment.pipeline_parallel,
        expert_parallel=experts,
        data_parallel=data_parallel,
        memory_fraction=deployment.memory_fraction,
        max_model_tokens=deployment.context_tokens,
        max_sequences=deployment.parallel,
        max_batched_tokens=deployment.batched_tokens,
        chunked_prefill=deployment.chunked_prefill,
        cuda_graphs="eager" not in flags,
    )


def _weights(
    deployment: VllmDeployment | SglangDeployment | TensorRtLlmDeployment, arch: Architecture
) -> WeightFormat | None:
    stored, word, dtype = arch.native_format, deployment.quantization, deployment.dtype
    if dtype not in (None, "auto"):
        asked = _DTYPES.get(dtype or "")
        if asked is None or (asked == "fp32" and stored not in (*_SIXTEEN_BIT, "fp32")):
            return None
        if stored in (*_SIXTEEN_BIT, "fp32"):
            stored = asked
    if word is None:
        return stored
    if stored in _SIXTEEN_BIT and deployment.engine != "tensorrt-llm":
        return _MADE_AT_LOAD.get(word)
    return stored if stored in _NAMES_OF.get(word, ()) else None


def _kv(word: str | None, weights: WeightFormat) -> KvFormat | None:
    if word in (None, "auto"):
        return weights if weights in ("fp16", "fp32") else "bf16"
    return _KV_WORDS.get(word or "")


def _flags(arguments: list[str]) -> dict[str, str] | None:
    """`eager` and `experts` (their number; 0: over all devices) where they are set; None where one is unknown."""
    found: dict[str, str] = {}
    for name, value in _options(arguments):
        if name in _EAGER and value is None:
            found["eager"] = ""
        elif name == _EXPERTS_SPREAD and value is None:
            found["experts"] = "0"
        elif name in _EXPERTS_SIZE and value is not None and value.isdecimal() and int(value) > 0:
            found["experts"] = value
        elif name not in _HARMLESS:
            return None
    return found


def _options(arguments: list[str]) -> Iterator[tuple[str, str | None]]:
    """`--name value`, `--name=value` and `--name`; a value without a name has the name ''."""
    waiting: str | None = None
    for each in arguments:
        if each.startswith("--"):
            if waiting is not None:
                yield waiting, None
            name, equals, value = each.partition("=")
            waiting = None if equals else name
            if equals:
                yield name, value
        else:
            yield waiting or "", each
            waiting = None
    if waiting is not None:
        yield waiting, None
