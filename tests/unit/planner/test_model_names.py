"""One model, many spellings."""

from __future__ import annotations

import pytest

from inferry.core.errors import ConfigError
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.setup import Setup
from inferry.planner.weights import weight_bytes


@pytest.mark.parametrize(
    ("said", "layers", "hidden"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 32, 4096),
        ("llama3.1:8b", 32, 4096),
        ("Llama 3.2:3b", 28, 3072),
        ("meta/llama-3.3-70b-instruct", 80, 8192),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", 32, 4096),
        ("qwen2.5:7b", 28, 3584),
        ("QWEN/qwen3-8b", 36, 4096),
        ("hf:Qwen/Qwen3-8B@main", 36, 4096),
        ("gemma3:27b", 62, 5376),
        ("gpt-oss 20b", 24, 2880),
        ("deepseek-r1:14b", 48, 5120),
        ("DeepSeek R1 671b", 61, 7168),
        ("zhipuai/GLM-5", 78, 6144),
        ("DeepSeek-V3_2", 61, 7168),
        ("facebook/opt-1.3b", 24, 2048),
        ("facebook/opt-13b", 40, 5120),
        ("llama3.1:8b-instruct-q4_K_M", 32, 4096),
    ],
)
def test_a_model_is_found_under_its_many_names(said: str, layers: int, hidden: int) -> None:
    """Repositories with any organization and case, Ollama's tags, names in benchmark tables."""
    found = find_model(said)
    assert (found.layers, found.hidden) == (layers, hidden)


@pytest.mark.parametrize(
    ("said", "stored", "group"),
    [
        ("Qwen/Qwen3-8B", "bf16", None),
        ("Qwen/Qwen3-8B-FP8", "fp8_block", 128),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "fp8", None),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", "int8", None),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16", "int4", 128),
        ("hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4", "awq", 128),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq", 128),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "int8", None),
        ("unsloth/phi-4-bnb-4bit", "bnb4", None),
        ("nvidia/Qwen3-32B-NVFP4", "nvfp4", 16),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "gguf", None),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "fp8_block", 128),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "fp8", None),
    ],
)
def test_quantized_copies_tell_their_format_by_their_name(said: str, stored: str, group: int | None) -> None:
    """Qwen's and DeepSeek's own FP8 scales blocks of 128; a shipped config wins over the name."""
    found = find_model(said)
    assert (found.native_format, found.group_size) == (stored, group)


@pytest.mark.parametrize(
    ("said", "bits"),
    [
        ("llama3.1:8b-instruct-q8_0", 8.5008),
        ("llama3.1:8b-instruct-q4_K_M", 4.8944),
        ("llama3.1:8b-instruct-q4", 5.101),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q6_K", 6.5633),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", 4.8944),
        ("unsloth/Qwen3-8B-GGUF:UD-Q8_K_XL", 8.5008),
        ("unsloth/Qwen3-8B-GGUF:BF16", 16.0),
        ("Qwen3-8B-IQ1_S", 2.0042),
        ("Qwen/Qwen3-8B", None),
    ],
)
def test_a_gguf_name_tells_its_bits_per_weight(said: str, bits: float | None) -> None:
    """Of a word that is not known, the widest with as many bits; without any, the usual Q4_K_M."""
    assert find_model(said).gguf_bits == bits


@pytest.mark.parametrize(
    ("said", "repo", "gigabytes"),
    [
        ("llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct", 4.9),
        ("llama3.1", "meta-llama/Llama-3.1-8B-Instruct", 4.9),
        ("llama3.1:8b-instruct-q8_0", "meta-llama/Llama-3.1-8B-Instruct", 8.5),
        ("llama3.2:1b", "meta-llama/Llama-3.2-1B-Instruct", 1.3),
        ("llama3.2:latest", "meta-llama/Llama-3.2-3B-Instruct", 2.0),
        ("qwen3:32b", "Qwen/Qwen3-32B", 20.2),
        ("gpt-oss:20b", "openai/gpt-oss-20b", 14.0),
        ("llama4", "meta-llama/Llama-4-Scout-17B-16E-Instruct", 67.0),
        ("deepseek-r1:671b", "deepseek-ai/DeepSeek-R1-0528", 404.0),
    ],
)
def test_an_ollama_name_is_the_file_that_ollama_has(said: str, repo: str, gigabytes: float) -> None:
    """The instruct model, quantized as its tag says: sizes as Ollama's library shows them, to 6 %."""
    found = find_model(said)
    assert (found.name, found.made_of) == (said, repo)
    bytes_ = weight_bytes(found, Setup("llamacpp", weights=found.native_format))
    assert bytes_ / 1e9 == pytest.approx(gigabytes, rel=0.06)


def test_an_8_bit_file_weighs_what_it_weighs() -> None:
    """llama.cpp's own table has Q8_0 of Llama 3.1 8B at 7.95 GiB."""
    arch = find_model("llama3.1:8b-instruct-q8_0")
    assert weight_bytes(arch, Setup("llamacpp", weights="gguf")) / 2**30 == pytest.approx(7.95, rel=0.01)


def test_a_fine_tuned_copy_is_its_parent_and_says_so() -> None:
    """Judged by the end of its name; the note says that its own config was not read."""
    found = find_model("somebody/Wise-Owl-Llama-3.1-8B")
    assert found.layers == 32
    assert "Meta-Llama-3.1-8B with other weights" in found.notes[-1]


@pytest.mark.parametrize("said", ["qwen9:8b", "nothing-like-it", "7b", "instruct", ""])
def test_an_unknown_name_is_an_error_with_ways_out(said: str) -> None:
    """Never a guess by size or by a word that many names have."""
    with pytest.raises(ConfigError, match="ships no facts"):
        find_model(said)


def test_a_slip_of_the_pen_gets_a_suggestion() -> None:
    """The nearest name."""
    with pytest.raises(ConfigError, match=r"Did you mean 'Qwen3-32B'\?"):
        find_model("Qwen/Qwen3-32BB")
