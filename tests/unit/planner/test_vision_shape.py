"""What a vision tower looks at for each token of the language model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.planner.facts.model_catalog import find_model
from inferry.planner.memory import plan_memory
from inferry.planner.setup import Setup
from inferry.planner.vision_shape import patches_per_token, tower_hidden
from tests.unit.planner.known_shapes import GIB, gpu


@pytest.mark.parametrize(
    ("model", "patches", "hidden"),
    [
        ("google/gemma-3-27b-it", 16, 1152),
        ("Qwen/Qwen2-VL-7B-Instruct", 4, 1280),
        ("llava-hf/llava-1.5-7b-hf", 1, 1024),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", 4, 1024),
        ("meta-llama/Llama-3.1-8B", 0, 0),
    ],
)
def test_patches_for_a_token(model: str, patches: float, hidden: int) -> None:
    """Gemma 3 pools 4,096 patches to 256 tokens, Qwen2-VL merges 2 x 2, LLaVA takes each."""
    arch = find_model(model)
    assert (arch.vision_patches_per_token, arch.vision_hidden) == (patches, hidden)


def test_a_text_model_has_no_tower() -> None:
    """Without a section of its own, or with an empty one."""
    assert patches_per_token({"model_type": "llama"}) == 0
    assert patches_per_token({"model_type": "x", "vision_config": {}}) == 0
    assert tower_hidden({"vision_config": None}) == 0


@pytest.mark.parametrize(
    ("model", "setup", "total_gib", "printed_gib"),
    [
        (
            "google/gemma-3-27b-it",
            Setup(
                "vllm", "0.8.0 (V0)", tensor_parallel=4, max_batched_tokens=16_384, max_model_tokens=65_536
            ),
            39.38,
            3.73,
        ),
        (
            "Qwen/Qwen2-VL-7B-Instruct",
            Setup("vllm", "0.6.5", weights="awq", kv="fp8", max_batched_tokens=4097, max_model_tokens=4096),
            21.95,
            0.74,
        ),
    ],
)
def test_the_peak_of_a_step_full_of_images(
    model: str, setup: Setup, total_gib: float, printed_gib: float
) -> None:
    """Two printed peaks of vLLM V0, of towers that differ by four in patches per token, with one constant."""
    plan = plan_memory(find_model(model), gpu(total_gib, "a100-40g"), setup)
    assert plan.activations / GIB == pytest.approx(printed_gib, rel=0.03)


def test_text_only_saves_tower_and_pass() -> None:
    """Weights and the tower's moment are gone; the language model's stay."""
    arch = find_model("Qwen/Qwen2-VL-7B-Instruct")
    setup = Setup("vllm", "0.11.0", max_model_tokens=4096, max_sequences=16)
    seeing, reading = (plan_memory(arch, gpu(40), replace(setup, text_only=only)) for only in (False, True))
    assert seeing.weights - reading.weights == 2 * arch.vision_params
    assert seeing.activations > reading.activations


def test_the_size_of_a_tower_is_read_as_sglang_does() -> None:
    """Gemma 3 tells 27 layers of 1,152; Qwen2.5-VL calls its layers otherwise, and counts as 24 of 1,280."""
    assert find_model("google/gemma-3-27b-it").vision_complexity == 27 * 1152**2
    assert find_model("Qwen/Qwen2.5-VL-7B-Instruct").vision_complexity == 24 * 1280**2
    assert find_model("Qwen/Qwen3-8B").vision_complexity == 0
