"""Does it fit, and what would: each way out is planned anew."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.planner.answers import DoesNotFit, Fits, MemoryPlan, WayOut
from inferry.planner.architecture import Architecture
from inferry.planner.device import Device
from inferry.planner.facts.device_catalog import find_device, known_devices
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.fitting import check_fit, fits
from inferry.planner.kv_cache import sequence_bytes
from inferry.planner.memory import plan_memory
from inferry.planner.setup import EngineName, Setup
from tests.unit.planner.known_shapes import GIB, H100, LLAMA_8B, WINDOWED, gpu

LLAMA_70B = find_model("meta-llama/Llama-3.1-70B-Instruct")


def unfit(arch: Architecture, device: Device, setup: Setup, context: int, sequences: int) -> DoesNotFit:
    answer = check_fit(
        arch, device, setup, context_tokens=context, sequences=sequences, devices=known_devices()
    )
    assert isinstance(answer, DoesNotFit)
    return answer


def test_what_fits_says_how_much() -> None:
    """Sequences are the cache over one of them; the longest context is what the cache holds of a single one."""
    answer = check_fit(LLAMA_8B, gpu(23.5, "rtx4090"), Setup("vllm", "0.11.0"), context_tokens=4096)
    assert isinstance(answer, Fits)
    assert answer.sequences == pytest.approx(answer.memory.kv / (4096 * 131_072))
    assert answer.longest_context_tokens == answer.memory.kv // 131_072


def test_the_longest_context_is_at_most_the_model_s() -> None:
    """A cache of 300,000 tokens doesn't make a model of 131,072 read more."""
    answer = check_fit(LLAMA_8B, H100, Setup("vllm", "0.11.0"), context_tokens=4096)
    assert isinstance(answer, Fits)
    assert answer.longest_context_tokens == LLAMA_8B.max_position


def test_what_is_missing_is_told_in_bytes_and_words() -> None:
    """131.4 GiB of weights on an H100: the gap is weights and cache beyond the budget, and the weights are to blame."""
    setup = Setup("vllm", "0.11.0")
    answer = unfit(LLAMA_70B, H100, setup, 8192, 8)
    memory = plan_memory(LLAMA_70B, H100, replace(setup, max_model_tokens=8192))
    assert answer.short_bytes == 8 * 8192 * 327_680 - memory.kv
    assert answer.because.startswith("the weights need 131.4 GiB")


def test_a_long_context_is_to_blame_where_it_is() -> None:
    """16 GiB of cache for one sequence of 131,072 tokens are more than 15 GiB of weights; neither alone is too much."""
    answer = unfit(LLAMA_8B, gpu(23.5, "rtx4090"), Setup("vllm", "0.11.0"), 131_072, 1)
    assert answer.because.startswith(
        "the KV cache of 1 x 131,072 tokens needs 16.0 GiB and the weights need 15.0 GiB per device; "
    )


@pytest.mark.parametrize(
    ("model", "device", "setup", "context", "sequences"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "h100", Setup("vllm"), 8192, 8),
        ("meta-llama/Llama-3.1-70B-Instruct", "l4", Setup("vllm"), 8192, 8),
        ("meta-llama/Llama-3.1-8B-Instruct", "rtx4090", Setup("vllm"), 131_072, 1),
        ("deepseek-ai/DeepSeek-R1", "h100", Setup("vllm", weights="fp8_block"), 8192, 8),
        ("Qwen/Qwen3-32B", "a100-80g", Setup("sglang"), 32_768, 4),
        ("Qwen/Qwen3-32B", "rtx4090", Setup("llamacpp", weights="gguf", kv="fp16"), 32_768, 1),
        ("openai/gpt-oss-120b", "h100", Setup("vllm", weights="mxfp4"), 131_072, 4),
        ("google/gemma-3-27b-it", "l40s", Setup("tgi"), 8192, 4),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "a100-80g", Setup("tensorrt_llm"), 4096, 4),
        ("meta-llama/Llama-3.1-8B-Instruct", "m2-8g", Setup("vllm"), 4096, 4),
        ("meta-llama/Llama-3.1-70B-Instruct", "ascend-910b", Setup("ollama"), 4096, 4),
    ],
)
def test_two_ways_out_at_least_and_each_does_fit(
    model: str, device: str, setup: Setup, context: int, sequences: int
) -> None:
    """Planned once more from its own setup on its own device, each way out leaves a cache for what it says."""
    arch = find_model(model)
    answer = unfit(arch, find_device(device), setup, context, sequences)
    assert len(answer.ways_out) >= 2
    for way in answer.ways_out:
        memory = plan_memory(arch, find_device(way.device_name), way.setup)
        assert memory == way.memory
        assert memory.kv >= sequence_bytes(arch, way.setup, way.setup.max_model_tokens or 0)


def test_the_smallest_change_comes_first() -> None:
    """A shorter context before another format, that before more devices, those before other ones."""
    answer = unfit(find_model("Qwen/Qwen3-32B"), find_device("a100-80g"), Setup("sglang"), 32_768, 4)
    kinds = [_kind(way, "a100-80g") for way in answer.ways_out]
    assert kinds == sorted(kinds)
    assert {"0 less asked", "1 formats", "2 more devices", "3 other devices"} <= set(kinds)


def _kind(way: WayOut, device: str) -> str:
    if way.setup.engine != "sglang":
        return "4 another engine"
    if way.device_name != device:
        return "3 other devices"
    if way.setup.devices > 1:
        return "2 more devices"
    return "0 less asked" if way.setup.weights == "bf16" and way.setup.kv == "bf16" else "1 formats"


def test_no_format_is_proposed_that_the_device_has_no_kernels_for() -> None:
    """A V100 runs neither FP8 nor NVFP4."""
    answer = unfit(LLAMA_70B, find_device("v100-32g"), Setup("vllm", kv="fp16", weights="fp16"), 4096, 1)
    assert all(
        way.setup.weights not in ("fp8", "nvfp4") for way in answer.ways_out if way.device_name == "v100-32g"
    )


def test_nothing_is_promised_where_nothing_fits() -> None:
    """A model of 600 GiB on one small card, and no other devices to name: no way out is made up."""
    arch = find_model("deepseek-ai/DeepSeek-R1")
    answer = check_fit(
        arch, replace(find_device("t4"), devices_per_host_max=1), Setup("vllm", weights="fp8_block")
    )
    assert isinstance(answer, DoesNotFit)
    assert answer.ways_out == ()


def test_windows_make_long_contexts_cheap() -> None:
    """20 of 24 layers keep 1,024 tokens and a step's: four times the sequences of an engine that keeps all."""
    new, old = (
        check_fit(WINDOWED, gpu(22, "l4"), Setup("vllm", version), context_tokens=65_536)
        for version in ("0.11.0", "0.8.3 (V0)")
    )
    assert isinstance(new, Fits)
    assert isinstance(old, Fits)
    assert new.sequences > 4 * old.sequences


def test_tight_memory_and_graphs_outside_of_the_budget_are_warned_of() -> None:
    """Below 5 % to spare; and at a fraction of 0.99 nothing is left for CUDA graphs of vLLM 0.10."""
    setup = Setup("vllm", "0.10.0", memory_fraction=0.99)
    spare = plan_memory(LLAMA_8B, gpu(23.5, "rtx4090"), replace(setup, max_model_tokens=4096)).kv
    tight = check_fit(
        LLAMA_8B, gpu(23.5, "rtx4090"), setup, context_tokens=4096, sequences=spare // (4096 * 131_072)
    )
    assert isinstance(tight, Fits)
    assert len(tight.warnings) == 2
    easy = check_fit(LLAMA_8B, H100, Setup("vllm", "0.22.0"), context_tokens=4096)
    assert isinstance(easy, Fits)
    assert easy.warnings == ()


def test_sequences_are_shared_out_over_data_parallel_ranks() -> None:
    """Eight sequences over two ranks: four on each must fit, not eight."""
    one_rank = Setup("vllm", "0.11.0")
    held = check_fit(LLAMA_8B, gpu(23.5, "rtx4090"), one_rank, context_tokens=8192)
    assert isinstance(held, Fits)
    most = int(held.sequences)
    two_ranks = replace(one_rank, data_parallel=2, max_model_tokens=8192)
    assert (
        fits(LLAMA_8B, gpu(23.5, "rtx4090"), replace(one_rank, max_model_tokens=8192), 8192, most + 1) is None
    )
    assert fits(LLAMA_8B, gpu(23.5, "rtx4090"), two_ranks, 8192, 2 * most - 2) is not None


def test_the_weights_of_the_answer_are_those_that_are_planned() -> None:
    """What is told of memory is plan_memory's own."""
    answer = check_fit(LLAMA_8B, H100, Setup("vllm", "0.11.0"), context_tokens=4096)
    assert answer.memory == plan_memory(LLAMA_8B, H100, Setup("vllm", "0.11.0", max_model_tokens=4096))
    assert answer.memory.weights / GIB == pytest.approx(14.99, abs=0.01)


def test_formats_together_where_neither_is_enough() -> None:
    """128k tokens of Llama 3.1 8B on a 24 GiB card: FP8 weights or an FP8 cache are too little, both are enough."""
    answer = unfit(
        find_model("meta-llama/Llama-3.1-8B-Instruct"), find_device("rtx4090"), Setup("vllm"), 131_072, 1
    )
    both = [way for way in answer.ways_out if way.setup.weights != "bf16" and way.setup.kv == "fp8"]
    assert [way.words for way in both] == [
        "weights in fp8 (nvidia/Llama-3.1-8B-Instruct-FP8), and a KV cache in fp8"
    ]


def test_a_smaller_load_is_told_to_the_engine() -> None:
    """With fewer sequences the engine sizes its step by them: on an H100 that frees gigabytes of gpt-oss-120b's."""
    answer = unfit(
        find_model("openai/gpt-oss-120b"), find_device("h100"), Setup("vllm", weights="mxfp4"), 131_072, 4
    )
    fewer = answer.ways_out[0]
    assert fewer.words == "1 sequence at once instead of 4"
    assert fewer.setup.max_sequences == 1
    assert answer.memory.activations - fewer.memory.activations > 1.5 * GIB


def test_a_context_beyond_the_model_does_not_fit() -> None:
    """However much memory there is; and the ways out are contexts that the model can read."""
    arch = find_model("meta-llama/Llama-2-7b-chat-hf")
    answer = unfit(arch, find_device("h200"), Setup("vllm", weights="fp16", kv="fp16"), 32_000, 2)
    assert answer.because == "meta-llama/Llama-2-7b-chat-hf was made for 4,096 tokens, not for 32,000"
    assert len(answer.ways_out) >= 2
    assert all(way.setup.max_model_tokens == 4096 for way in answer.ways_out)


@pytest.mark.parametrize(
    ("field", "setup", "asked"),
    [
        ("sequences", {}, {"sequences": -5}),
        ("sequences", {}, {"sequences": math.nan}),
        ("context_tokens", {}, {"context_tokens": -10}),
        ("memory_fraction", {"memory_fraction": 1.5}, {}),
        ("tensor_parallel", {"tensor_parallel": 7}, {}),
        ("tensor_parallel", {"tensor_parallel": 0}, {}),
        ("pipeline_parallel", {"pipeline_parallel": 33}, {}),
    ],
)
def test_a_question_without_sense_is_refused(
    field: str, setup: dict[str, Any], asked: dict[str, Any]
) -> None:
    """The field is named, and nothing is planned for it."""
    with pytest.raises(ConfigError, match=f"^{field}: "):
        check_fit(LLAMA_8B, H100, Setup("vllm", **setup), **{"context_tokens": 4096, **asked})


def test_an_unknown_longest_context_has_to_be_said() -> None:
    """No config tells it: nothing is bounded by a zero."""
    arch = replace(LLAMA_8B, max_position=0)
    with pytest.raises(ConfigError, match="context_tokens"):
        check_fit(arch, H100, Setup("vllm"))
    answer = check_fit(arch, H100, Setup("vllm"), context_tokens=4096)
    assert isinstance(answer, Fits)
    assert answer.longest_context_tokens == answer.memory.kv // 131_072


def test_a_margin_promises_less_of_the_same_cache() -> None:
    """What fits to the last token doesn't where 5 % are held back, here and in the ways out."""
    setup = Setup("vllm", "0.11.0", max_sequences=8, max_batched_tokens=2048)
    device = gpu(23.5, "rtx4090")
    longest = check_fit(LLAMA_8B, device, setup, context_tokens=4096)
    assert isinstance(longest, Fits)
    context = longest.longest_context_tokens
    assert isinstance(check_fit(LLAMA_8B, device, setup, context_tokens=context), Fits)
    answer = check_fit(LLAMA_8B, device, setup, context_tokens=context, margin=0.95)
    assert isinstance(answer, DoesNotFit)
    assert answer.short_bytes == context * 131_072 - int(answer.memory.kv * 0.95)
    assert all(
        way.memory.kv * 0.95 >= sequence_bytes(LLAMA_8B, way.setup, way.setup.max_model_tokens or 0)
        for way in answer.ways_out
    )


def test_a_corrected_memory_decides() -> None:
    """Where launches taught that half of the cache is there, half is promised, and ways out are checked by the same."""

    def half(arch: Architecture, device: Device, setup: Setup) -> MemoryPlan:
        plan = plan_memory(arch, device, setup)
        return replace(plan, kv=plan.kv // 2)

    plain = check_fit(LLAMA_8B, H100, Setup("vllm"), context_tokens=4096)
    learned = check_fit(LLAMA_8B, H100, Setup("vllm"), context_tokens=4096, memory=half)
    assert isinstance(plain, Fits)
    assert isinstance(learned, Fits)
    assert learned.sequences == pytest.approx(plain.sequences / 2)
    refused = check_fit(
        LLAMA_8B, H100, Setup("vllm"), context_tokens=4096, sequences=plain.sequences * 0.6, memory=half
    )
    assert isinstance(refused, DoesNotFit)
    assert refused.ways_out
    assert all(half(LLAMA_8B, H100, way.setup) == way.memory for way in refused.ways_out[:1])


def test_sequences_that_the_load_needs_are_tried_before_it_is_refused() -> None:
    """vLLM sizes its step for 1,024 sequences on an H100: for one of Llama 3.1 70B in FP8 that is 4 GiB too much."""
    setup = Setup("vllm", "0.11.0", weights="fp8")
    plan = plan_memory(LLAMA_70B, H100, setup)
    few = plan_memory(LLAMA_70B, H100, replace(setup, max_sequences=1))
    context = (plan.kv + few.kv) // 2 // 327_680
    answer = check_fit(LLAMA_70B, H100, setup, context_tokens=context)
    assert isinstance(answer, Fits)
    assert answer.memory.setup.max_sequences == 1
    assert answer.warnings[0].startswith("with the engine's own limit of 1024 sequences at once")
    told = check_fit(LLAMA_70B, H100, replace(setup, max_sequences=1024), context_tokens=context)
    assert isinstance(told, DoesNotFit)


@pytest.mark.parametrize("engine", ["llamacpp", "ollama"])
def test_engines_of_gguf_files_are_told_to_take_one(engine: EngineName) -> None:
    """Llama 3.1 8B in 16 bit on a Mac of 16 GiB: a file of Q4_K_M is the smallest change."""
    answer = unfit(
        find_model("meta-llama/Llama-3.1-8B-Instruct"), find_device("m4-16g"), Setup(engine), 4096, 4
    )
    assert len(answer.ways_out) >= 2
    assert answer.ways_out[0].words == "a GGUF file (Q4_K_M)"
    assert answer.ways_out[0].setup.weights == "gguf"
