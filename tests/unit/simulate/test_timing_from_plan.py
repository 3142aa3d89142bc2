"""An engine's timing from the planner's laws: it says the same as they do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.planner.architecture import Architecture
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.host_speed import OWN, HostModel, HostSpeed, prefill_s, step_s
from inferry.planner.memory import plan_memory
from inferry.planner.setup import Setup
from inferry.planner.speed_facts import shipped_speed_constants
from inferry.planner.step_time import NEUTRAL, step_times
from inferry.planner.step_work import step_model
from inferry.simulate.timing_from_plan import NoRoom, timing_from_host, timing_from_plan

SETUP = Setup("vllm", max_model_tokens=8192)


@pytest.fixture
def arch() -> Architecture:
    return find_model("meta-llama/Llama-3.1-8B-Instruct")


def test_steps_take_as_long_as_the_planner_says(arch: Architecture) -> None:
    """Of a dense model within 2 %, at loads between those that were looked at, too."""
    device = find_device("h100-80g")
    timing = timing_from_plan(arch, device, SETUP).timing
    times = step_times(step_model(arch, device, SETUP), shipped_speed_constants(), NEUTRAL)
    for count, context in ((1, 300), (10, 2000), (100, 1500), (300, 700)):
        planned_s = sum(times.decode_parts_ms(count, context).values()) / 1e3
        assert timing.step_s_of(count, count * context) == pytest.approx(planned_s, rel=0.02)


def test_a_long_prompt_takes_as_long_as_the_planner_says(arch: Architecture) -> None:
    """Within 10 %: the constant of a step is in it once."""
    device = find_device("h100-80g")
    timing = timing_from_plan(arch, device, SETUP).timing
    times = step_times(step_model(arch, device, SETUP), shipped_speed_constants(), NEUTRAL)
    for tokens in (3000, 6000):
        simulated_s = timing.step_s_of(0, 0, tokens, tokens * tokens / 2)
        assert simulated_s == pytest.approx(times.prefill_ms(tokens) / 1e3, rel=0.1)


def test_memory_and_price_are_the_planners(arch: Architecture) -> None:
    """What the KV cache holds, how many GPUs it takes and what one costs."""
    device = find_device("h100-80g")
    known = timing_from_plan(arch, device, replace(SETUP, tensor_parallel=2), start_s=77.0)
    assert known.timing.kv_tokens == plan_memory(arch, device, replace(SETUP, tensor_parallel=2)).kv_tokens
    assert (known.gpus, known.timing.start_s) == (2, 77.0)
    assert device.price is not None
    assert known.price_per_gpu_hour == device.price.usd_per_hour
    assert "90% of what was measured" in known.doubts[0]


def test_a_pipelines_first_tokens_are_doubted_in_figures(arch: Architecture) -> None:
    """They come too early here, which nobody is to find out from a missed objective; without a pipeline, not a word."""
    device = find_device("h100-80g")
    doubts = timing_from_plan(arch, device, replace(SETUP, pipeline_parallel=4)).doubts
    assert any("4 stages of a pipeline" in each and "8,192 tokens" in each for each in doubts)
    assert not any("pipeline" in each for each in timing_from_plan(arch, device, SETUP).doubts)


def test_prompts_are_as_long_as_the_setup_lets_them(arch: Architecture) -> None:
    """Its own limit, else the model's."""
    device = find_device("h100-80g")
    assert timing_from_plan(arch, device, SETUP).timing.context_tokens == 8192
    assert timing_from_plan(arch, device, Setup("vllm")).timing.context_tokens == arch.max_position


def test_a_model_that_does_not_fit_has_no_timing() -> None:
    """70 billion parameters on one card of 24 GB."""
    big = find_model("meta-llama/Llama-3.1-70B-Instruct")
    with pytest.raises(NoRoom):
        timing_from_plan(big, find_device("a10g"), SETUP)


def test_a_calibrated_cpu_keeps_its_law() -> None:
    """Steps of two answers and more within 5 %, prompts within 10 %."""
    model = HostModel(30, 90e6, 270e6, 70e3)
    speed = HostSpeed(
        bandwidth_bytes_per_s=35e9,
        layer_s=20e-6,
        decode_flops_per_s=40e9,
        batch_flops_per_s=110e9,
        batch_share=1.0,
        decode_attention_flops_per_s=10e9,
        prefill_flops_per_s=150e9,
        prefill_attention_flops_per_s=20e9,
        request_s=0.004,
    )
    known = timing_from_host(model, speed, says="here", spreads=OWN, slots=8, context_tokens=4096)
    timing = known.timing
    for count, context in ((4, 500), (8, 2000)):
        planned_s = sum(step_s(model, speed, count, context).values())
        assert timing.step_s_of(count, count * context) == pytest.approx(planned_s, rel=0.05)
    simulated_s = timing.step_s_of(0, 0, 3000, 3000 * 3000 / 2)
    assert simulated_s == pytest.approx(prefill_s(model, speed, 3000), rel=0.1)
    assert (timing.sequences_max, timing.kv_tokens, known.gpus) == (8, 8 * 4096, 0)
