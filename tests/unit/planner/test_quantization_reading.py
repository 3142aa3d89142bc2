"""`quantization_config`, in the words of the tools that write it."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.planner.quantization_reading import read_stored_format


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
