"""Deployments in the planner's words: what is planned is what launches teach, and what can't be said teaches nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inferry.cli.launch_setup import setup_of
from inferry.core.deployment import Deployment, DeploymentFile
from inferry.planner.architecture import WeightFormat
from inferry.planner.facts.model_catalog import find_model

ARCH = find_model("meta-llama/Llama-3.1-8B-Instruct")


def deployment(engine: str = "vllm", **keys: Any) -> Deployment:
    written = {"engine": engine, "model": "hf:org/name", **keys}
    return DeploymentFile.model_validate({"deployments": {"chat": written}}).deployments["chat"]


@pytest.mark.parametrize(
    ("engine", "keys", "said"),
    [
        ("vllm", {}, {"weights": "bf16", "kv": "bf16"}),
        ("vllm", {"quantization": "fp8", "kv_cache_dtype": "fp8"}, {"weights": "fp8", "kv": "fp8"}),
        ("sglang", {"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"}, {"weights": "fp8", "kv": "fp8"}),
        ("tensorrt-llm", {"kv_cache_dtype": "nvfp4"}, {"kv": "nvfp4"}),
        ("vllm", {"dtype": "float16"}, {"weights": "fp16", "kv": "fp16"}),
        ("vllm", {"dtype": "float32"}, {"weights": "fp32", "kv": "fp32"}),
        ("vllm", {"extra_args": ["--enforce-eager", "--seed=1"]}, {"cuda_graphs": False}),
        (
            "vllm",
            {"tensor_parallel": 2, "data_parallel": 4, "extra_args": ["--enable-expert-parallel"]},
            {"expert_parallel": 8, "tensor_parallel": 2, "data_parallel": 4},
        ),
        ("sglang", {"tensor_parallel": 8, "extra_args": ["--ep-size", "4"]}, {"expert_parallel": 4}),
        (
            "vllm",
            {"memory_fraction": 0.8, "context_tokens": 4096, "parallel": 8, "batched_tokens": 2048},
            {
                "memory_fraction": 0.8,
                "max_model_tokens": 4096,
                "max_sequences": 8,
                "max_batched_tokens": 2048,
            },
        ),
    ],
)
def test_what_is_written_is_planned(engine: str, keys: dict[str, Any], said: dict[str, Any]) -> None:
    """Formats in each engine's words, parallelism, limits, and the flags that the planner has a word for."""
    setup = setup_of(deployment(engine, **keys), ARCH)
    assert setup is not None
    assert {name: getattr(setup, name) for name in said} == said


@pytest.mark.parametrize(
    ("stored", "word", "weights"),
    [("fp8", "fp8", "fp8"), ("awq", "awq_marlin", "awq"), ("int8", "compressed-tensors", "int8"), ("awq", "fp8", None)],
)  # fmt: skip
def test_a_quantized_checkpoint_stays_what_it_is(
    stored: WeightFormat, word: str, weights: WeightFormat | None
) -> None:
    """The engine's word for it changes nothing; another word is not understood."""
    setup = setup_of(deployment(quantization=word), replace(ARCH, native_format=stored))
    assert (None if setup is None else setup.weights) == weights


@pytest.mark.parametrize(
    ("engine", "keys"),
    [
        ("vllm", {"quantization": "bitsandbytes"}),
        ("vllm", {"kv_cache_dtype": "turbo2"}),
        ("vllm", {"dtype": "fp64"}),
        ("vllm", {"extra_args": ["--cpu-offload-gb", "10"]}),
        ("vllm", {"extra_args": ["--hf-overrides={}"]}),
        ("sglang", {"extra_args": ["--ep-size", "some"]}),
        ("vllm", {"env": {"VLLM_ATTENTION_BACKEND": "FLASHINFER"}}),
        ("vllm", {"lora": {"a": "/a"}}),
        ("vllm", {"speculative": {"method": "ngram"}}),
        ("tensorrt-llm", {"options": {"enable_attention_dp": True}}),
        ("tensorrt-llm", {"quantization": "fp8"}),
        ("tgi", {}),
    ],
)
def test_what_has_no_word_teaches_nothing(engine: str, keys: dict[str, Any]) -> None:
    """Any key, argument or variable that may change memory or speed, and that the planner does not reckon with."""
    assert setup_of(deployment(engine, **keys), ARCH) is None
