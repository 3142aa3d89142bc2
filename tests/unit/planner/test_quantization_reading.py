"""`quantization_config`, in the words of the tools that write it."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.planner.facts.model_catalog import find_model, model_config
from inferry.planner.model_config import architecture_from_config
from inferry.planner.quantization_reading import read_stored_format
from inferry.planner.setup import Setup
from inferry.planner.weights import weight_bytes


def group(bits: int, kind: str, targets: tuple[str, ...] = ("Linear",), **more: Any) -> dict[str, Any]:
    return {"targets": list(targets), "weights": {"num_bits": bits, "type": kind, **more}}


MIXERS_8_BIT = {
    "a": group(8, "float", ("model.layers.*.self_attn.q_proj",)),
    "b": group(4, "float", ("model.layers.*.mlp.down_proj", "lm_head"), group_size=16),
}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, ("bf16", "linear", None, None)),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("fp8_block", "linear", None, 128)),
        ({"quant_method": "fp8"}, ("fp8", "linear", None, None)),
        ({"quant_method": "fbgemm_fp8"}, ("fp8", "linear", None, None)),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, ("awq", "linear", None, 64)),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, ("gptq", "linear", None, None)),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, ("int8", "linear", None, 128)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("bnb4", "linear", None, None)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("int8", "linear", None, None)),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, ("mxfp4", "experts", None, 32)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ("nvfp4", "linear", None, 16)),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, ("fp8", "linear", None, None)),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": group(8, "int")},
                "ignore": ["lm_head"],
            },
            ("int8", "linear", None, None),
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"g": group(4, "int", group_size=32)}},
            ("int4", "linear", None, 32),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": group(4, "float", group_size=16)},
                "ignore": ["lm_head", "re:.*self_attn.*"],
            },
            ("nvfp4", "linear", "bf16", 16),
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "config_groups": MIXERS_8_BIT},
            ("nvfp4", "linear_and_head", "fp8", 16),
        ),
    ],
)
def test_each_tool_is_understood(said: dict[str, Any] | None, expected: tuple[Any, ...]) -> None:
    """Format, the parts that it covers, the mixers' own format, and weights per scale."""
    found = read_stored_format({"torch_dtype": "bfloat16", "quantization_config": said}, {})
    assert (found.native_format, found.quantized_parts, found.attention_format, found.group_size) == expected
    assert found.notes == ()


def test_a_mixture_with_16_bit_mixers_is_quantized_in_its_experts() -> None:
    """Kimi-K2-Thinking: what its list excludes leaves the routed experts alone."""
    said = {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": group(4, "int", group_size=32)},
        "ignore": ["re:.*self_attn.*", "re:.*shared_experts.*"],
    }
    found = read_stored_format({"quantization_config": said}, {"n_routed_experts": 384})
    assert (found.native_format, found.quantized_parts) == ("int4", "experts")


def test_norms_and_indexers_that_stay_wide_change_nothing() -> None:
    """GLM-5-FP8 lists its norms and its indexer's keys: its mixers are FP8 all the same."""
    kept = ["model.layers.*.self_attn.kv_a_layernorm", "model.layers.*.self_attn.indexer.k_norm", "lm_head"]
    said = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": kept}
    found = read_stored_format({"quantization_config": said}, {"n_routed_experts": 256})
    assert (found.quantized_parts, found.attention_format) == ("linear", None)


def test_an_unknown_method_is_said_and_counted_at_its_widest() -> None:
    """Never more memory promised than there may be."""
    found = read_stored_format({"quantization_config": {"quant_method": "vptq"}}, {"torch_dtype": "float16"})
    assert found.native_format == "fp16"
    assert "'vptq'" in found.notes[0]


def int4_without(*ignored: str) -> dict[str, Any]:
    config_groups = {"g": group(4, "int", group_size=128)}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": config_groups,
        "ignore": [*ignored, "lm_head"],
    }


@pytest.mark.parametrize(
    ("ignored", "attention", "linear"),
    [
        (["re:.*linear_attn.*", "re:.*visual.*", "re:.*mtp.*"], None, "bf16"),
        (["re:.*self_attn.*"], "bf16", "int4"),
        (["re:.*self_attn\\.(q|k|v|o)_proj$", "re:.*linear_attn\\.(in_proj_qkv|out_proj)$"], "bf16", "bf16"),
        (["model.layers.*.mamba.in_proj"], None, "bf16"),
        (["backbone.layers.*.mixer.conv1d", "re:.*linear_attn.in_proj_a"], None, None),
        ([f"backbone.layers.{n}.mixer.{letter}_proj" for n in range(5) for letter in "qkvo"], "bf16", "int4"),
    ],
)
def test_mixers_of_both_kinds_may_stay_wide(
    ignored: list[str], attention: str | None, linear: str | None
) -> None:
    """A hybrid's linear layers are left out by names of their own."""
    found = read_stored_format({"quantization_config": int4_without(*ignored)}, {})
    assert (found.native_format, found.attention_format, found.linear_mixer_format) == (
        "int4",
        attention,
        linear,
    )
    assert found.notes == ()


def test_a_hybrid_whose_linear_layers_stay_wide_weighs_more() -> None:
    """Qwen3.5-27B in int4 with 16-bit delta nets: 5.56 billion elements at 2 bytes instead of 0.516."""
    config = model_config("Qwen/Qwen3.5-27B")
    sizes = []
    for ignored in ((), ("re:.*linear_attn.*",)):
        arch = architecture_from_config("m", {**config, "quantization_config": int4_without(*ignored)})
        sizes.append(weight_bytes(arch, Setup("vllm", weights="int4")) / 2**30)
    assert sizes == pytest.approx([17.42, 25.1], abs=0.02)


@pytest.mark.parametrize("ignored", ["re:.*down_proj", "model.layers.3.mlp.up_proj"])
def test_what_is_left_out_and_counted_all_the_same_is_said(ignored: str) -> None:
    """By its name; layers of multi-token prediction, behind the last one, are none of it."""
    said = int4_without(ignored, "model.layers.61*", "model.embed_tokens", "re:.*input_layernorm")
    found = read_stored_format({"quantization_config": said}, {"num_hidden_layers": 61})
    assert found.notes == (f"left out of its quantization, but counted as if they were in it: {ignored}",)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (
            {"a": group(8, "int", ("re:.*self_attn.*",)), "b": group(4, "int", ("re:.*mlp.*",))},
            ("int4", "int8"),
        ),
        (
            {"a": group(8, "float", ("re:.*mlp.*",)), "b": group(4, "float", ("re:.*layers.0.mlp.*",))},
            ("fp8", None),
        ),
        ({"a": group(8, "int", ("re:.*down_proj",)), "b": group(4, "int")}, ("int8", None)),
        ({"a": "x", "b": {"weights": {"num_bits": "4", "type": "int"}}}, ("int4", None)),
    ],
)
def test_schemes_of_several_widths(groups: dict[str, Any], expected: tuple[str, str | None]) -> None:
    """Mixers have a format of their own, single layers don't decide, and else the widest counts."""
    said = {"quant_method": "compressed-tensors", "config_groups": groups}
    found = read_stored_format({"quantization_config": said}, {})
    assert (found.native_format, found.attention_format) == expected


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ({"quant_method": "auto-round", "bits": 8, "group_size": 128}, "int8"),
        ({"quant_method": "awq_marlin", "bits": 4}, "awq"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, "fp8"),
        ({"quant_method": "quark", "global_quant_config": {"weight": [{"dtype": "fp4"}]}}, "mxfp4"),
        ({"quant_method": "fp8", "weight_block_size": 128}, "fp8_block"),
    ],
)
def test_more_words_for_known_formats(said: dict[str, Any], stored: str) -> None:
    """Eight bits are eight under any name."""
    assert read_stored_format({"quantization_config": said}, {}).native_format == stored


def test_a_copy_says_itself_what_its_experts_are() -> None:
    """NVIDIA's NVFP4 of DeepSeek-V4 keeps the `expert_dtype` of the MXFP4 original in its config."""
    found = find_model("nvidia/DeepSeek-V4-Flash-NVFP4")
    assert (found.native_format, found.quantized_parts, found.attention_format) == (
        "nvfp4",
        "experts",
        "fp8_block",
    )
    assert found.linear_mixer_format is None
