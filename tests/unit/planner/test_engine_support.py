"""The table of engines: what runs where, and that it says the same as the engines' own facts."""

from __future__ import annotations

import re

import pytest

from inferry.engines.facts import engine_facts
from inferry.planner.architecture import WeightFormat
from inferry.planner.facts.device_catalog import find_device, known_devices
from inferry.planner.facts.engine_comparison import comparison
from inferry.planner.facts.engine_support import (
    NotSupported,
    Supported,
    engine_support,
    support_sources,
    supports,
)
from inferry.planner.setup import EngineName, KvFormat

OTHER_SPELLINGS = {"tensorrt_llm": "tensorrt-llm"}


@pytest.mark.parametrize(
    ("engine", "device", "weights", "kv", "fast"),
    [
        ("vllm", "b200", "nvfp4", "fp8", True),
        ("vllm", "rtx5090", "nvfp4", "fp8", True),
        ("vllm", "h100", "nvfp4", "bf16", False),
        ("vllm", "a100", "fp8", "bf16", False),
        ("vllm", "l40s", "fp8", "fp8", True),
        ("vllm", "a10", "awq", "bf16", True),
        ("vllm", "mi300x", "fp8", "fp8", True),
        ("sglang", "h100", "fp8_block", "bf16", True),
        ("tensorrt_llm", "b200", "nvfp4", "nvfp4", True),
        ("llamacpp", "m4-max", "gguf", "q8_0", True),
        ("ollama", "epyc-9654", "gguf", "fp16", True),
    ],
)
def test_what_runs_and_whether_by_kernels_made_for_it(
    engine: EngineName, device: str, weights: WeightFormat, kv: KvFormat, fast: bool
) -> None:
    """FP4 is fast from compute capability 10.0, FP8 from 8.9, 4-bit integers from 8.0; below, it may run in a wider type."""
    answer = supports(engine, find_device(device), weights, kv)
    assert isinstance(answer, Supported)
    assert answer.fast is fast
    assert fast or answer.notes


@pytest.mark.parametrize(
    ("engine", "device", "weights", "kv", "why"),
    [
        ("vllm", "t4", "bf16", "fp16", "compute capability 8.0 or more is needed, t4 has 7.5"),
        ("vllm", "b200", "int8", "bf16", "no longer on compute capability 10.0"),
        ("vllm", "mi250", "fp8", "bf16", "mi250 does not compute in fp8"),
        ("vllm", "h100", "bf16", "q8_0", "vLLM, KV cache in q8_0: not supported"),
        ("tensorrt_llm", "mi300x", "bf16", "bf16", "TensorRT-LLM does not run on mi300x"),
        ("ollama", "rtx4090", "awq", "fp16", "Ollama, weights in awq: not supported"),
        ("tgi", "m4", "fp16", "fp16", "does not run on m4"),
    ],
)
def test_what_does_not_run_says_why(
    engine: EngineName, device: str, weights: WeightFormat, kv: KvFormat, why: str
) -> None:
    """The answer is a value with the reason: the engine, the format, the hardware."""
    answer = supports(engine, find_device(device), weights, kv)
    assert isinstance(answer, NotSupported)
    assert why in answer.why


def test_each_gpu_runs_something_in_each_engine_for_its_maker() -> None:
    """A device in the catalog that no engine runs on would be a mistake in one of the two tables."""
    for device in known_devices():
        rows = comparison(device)
        assert any(not row.weights.startswith("not on") for row in rows), device.name


def test_both_tables_of_engines_agree() -> None:
    """Titles, state, and the KV formats named here are in what people read of the engine too."""
    read = engine_facts()
    for engine, facts in engine_support().items():
        people = read[OTHER_SPELLINGS.get(engine, engine)]
        assert facts.title == people.title
        assert facts.maturity == people.text("state")
        for kv in set(facts.kv) - {"fp16", "bf16", "fp32"}:
            assert kv in people.text("quantization"), f"{engine}: {kv}"
        for way in set(facts.parallelism) & {"pipeline", "expert"}:
            assert re.search(way, people.text("parallelism"), re.IGNORECASE), f"{engine}: {way}"


def test_each_engine_says_the_same_things_with_a_source() -> None:
    """The comparison has no holes: licence, version, each feature, and where it was read."""
    rows = comparison()
    assert [row.engine for row in rows] == ["vllm", "sglang", "tensorrt_llm", "tgi", "ollama", "llamacpp"]
    features = set(rows[0].features)
    for row in rows:
        assert set(row.features) == features
        assert all((row.licence, row.version, row.hardware, row.weights, row.kv, row.parallelism, row.source))
    assert all(source.address and source.date for source in support_sources().values())
