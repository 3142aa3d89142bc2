"""What the performance model says, checked by hand and by what must hold whatever its constants are."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from inferry.core.errors import ConfigError
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.load import Load
from inferry.planner.performance import predict
from inferry.planner.setup import Setup
from inferry.planner.speed_facts import UNCHECKED, groups_of, shipped_speed_constants
from inferry.planner.step_time import SpeedFactors
from inferry.planner.step_work import attention_ms, decode_terms, prefill_terms, step_model, touched

LLAMA = find_model("meta-llama/Llama-3.1-8B-Instruct")
QWEN_MOE = find_model("Qwen/Qwen3-30B-A3B")
H100 = find_device("h100-80g")
VLLM = Setup("vllm")


def test_decode_parts_of_a_dense_model_by_hand() -> None:
    """Llama 3.1 8B in 16 bit on one H100: 7.50 G weights read at 3.35 TB/s are 4.48 ms, KV of 131,072 B per token."""
    parts = decode_terms(step_model(LLAMA, H100, VLLM), decodes=10, context_tokens=1000)
    attention = 4096 * (4096 * 2 + 2 * 1024)
    weights = 32 * (attention + 3 * 4096 * 14336) + 128256 * 4096
    assert parts["weights"] == pytest.approx(weights * 2 / 3.35e9)
    assert parts["kv"] == pytest.approx(10 * 1000 * 131072 / 3.35e9)
    assert parts["compute"] == pytest.approx(10 * 2 * weights / 989e9)
    assert (parts["layers"], parts["sequences"], parts["reduce"]) == (32, 10, 0)


def test_prefill_parts_by_hand() -> None:
    """Attention of n tokens is 2 x heads x (128 + 128) x n^2 / 2 operations per layer."""
    model = step_model(LLAMA, H100, VLLM)
    assert attention_ms(model, 1000) == pytest.approx(32 * 2 * 32 * 256 * 1000 * 500 / 989e9)
    one, two = prefill_terms(model, 1000), prefill_terms(model, 1000, prompts=2, passes=1)
    assert two["prefill_compute"] == pytest.approx(2 * one["prefill_compute"])
    assert two["prefill_weights"] == one["prefill_weights"]


def test_a_batch_touches_experts_as_uniform_routing_does() -> None:
    """One token touches 8 of 128 experts; 32 touch 87 %; a dense model has none."""
    matrices = step_model(QWEN_MOE, H100, VLLM).matrices
    assert touched(matrices, 1) == pytest.approx(8 / 128)
    assert touched(matrices, 32) == pytest.approx(1 - (1 - 8 / 128) ** 32)
    assert touched(step_model(LLAMA, H100, VLLM).matrices, 32) == 0


def test_tensor_parallelism_splits_weights_and_adds_all_reduces() -> None:
    """Half of the bytes on each of two GPUs, and 2 all-reduces per layer of D x hidden x 2 B over the link."""
    one = decode_terms(step_model(LLAMA, H100, VLLM), 8, 500)
    two = decode_terms(step_model(LLAMA, H100, replace(VLLM, tensor_parallel=2)), 8, 500)
    assert two["weights"] == pytest.approx(one["weights"] / 2)
    assert two["reduce"] == pytest.approx(2 * 32 * 8 * 4096 * 2 * 2 * (1 / 2) / 450e6)


@pytest.mark.parametrize("arch", [LLAMA, QWEN_MOE], ids=["dense", "mixture"])
def test_more_bandwidth_is_never_slower(arch: object) -> None:
    """Whatever the constants: they are positive and every part falls with bandwidth."""
    faster = replace(H100, bandwidth_bytes_per_s=2 * H100.bandwidth_bytes_per_s)
    for concurrency in (1, 16, 128):
        load = Load(1000, 200, concurrency=concurrency)
        slow = predict(arch, H100, VLLM, load)  # type: ignore[arg-type]
        fast = predict(arch, faster, VLLM, load)  # type: ignore[arg-type]
        assert fast.itl_ms.value < slow.itl_ms.value
        assert fast.ttft_ms.value < slow.ttft_ms.value


def test_more_load_is_never_faster_for_one_and_never_less_in_all() -> None:
    """TTFT and ITL rise with concurrency, and so do tokens/s until slots are full."""
    found = [predict(LLAMA, H100, VLLM, Load(500, 200, concurrency=c)) for c in (1, 4, 16, 64, 200)]
    for before, after in pairwise(found):
        assert after.ttft_ms.value > before.ttft_ms.value
        assert after.itl_ms.value > before.itl_ms.value
        assert after.output_tokens_per_s.value > before.output_tokens_per_s.value


def test_parts_add_up_to_the_step_and_little_s_law_holds() -> None:
    """The step is the sum of its parts; requests at once = rate x time in the system."""
    found = predict(LLAMA, H100, VLLM, Load(500, 200, concurrency=32))
    assert sum(found.parts_ms.values()) == pytest.approx(found.itl_ms.value)
    in_system_s = (found.ttft_ms.value + found.itl_ms.value * 199) / 1e3
    assert found.requests_per_s.value * in_system_s == pytest.approx(32)


def test_an_open_loop_settles_where_as_many_leave_as_come() -> None:
    """Running = rate x output x step; beyond what slots can serve the queue and with it TTFT grow without end."""
    found = predict(LLAMA, H100, VLLM, Load(500, 200, requests_per_s=5))
    assert found.limited_by == "arrivals"
    assert found.running == pytest.approx(5 * 200 * found.itl_ms.value / 1e3, rel=1e-3)
    flooded = predict(LLAMA, H100, VLLM, Load(500, 200, requests_per_s=5000))
    assert flooded.limited_by in ("KV cache", "max_num_seqs")
    assert flooded.requests_per_s.value < 5000
    assert (flooded.queued, flooded.ttft_ms.value) == (math.inf, math.inf)


def test_what_has_no_slot_waits() -> None:
    """With 16 slots, 64 clients make 48 wait three answers long, and tokens/s are those of 16."""
    few = replace(VLLM, max_sequences=16)
    found = predict(LLAMA, H100, few, Load(500, 200, concurrency=64))
    assert (found.running, found.queued, found.limited_by) == (16, 48, "max_num_seqs")
    assert found.ttft_wait_ms > 2 * 200 * found.itl_ms.value


def test_a_burst_is_served_slot_by_slot() -> None:
    """Four times as many prompts at once take longer, and TTFT grows with those that have to wait."""
    small = predict(LLAMA, H100, replace(VLLM, max_sequences=64), Load(500, 200, all_at_once=100))
    large = predict(LLAMA, H100, replace(VLLM, max_sequences=64), Load(500, 200, all_at_once=400))
    assert large.ttft_ms.value > 2 * small.ttft_ms.value
    assert large.output_tokens_per_s.value > small.output_tokens_per_s.value


def test_a_load_of_two_kinds_is_refused() -> None:
    """Concurrency and a rate at once contradict each other."""
    with pytest.raises(ConfigError, match="exactly one of concurrency"):
        predict(LLAMA, H100, VLLM, Load(500, 200, concurrency=4, requests_per_s=1))


def test_ranges_hold_the_value_and_a_measured_spread_replaces_them() -> None:
    """Unknown engines get the range of engines left out; after calibration the range is the spread."""
    found = predict(LLAMA, H100, VLLM, Load(500, 200, concurrency=8))
    assert found.itl_ms.low < found.itl_ms.value < found.itl_ms.high
    corrected = predict(
        LLAMA, H100, VLLM, Load(500, 200, concurrency=8), factor=SpeedFactors(2.0, 2.0, spread=0.1)
    )
    assert corrected.itl_ms.value == pytest.approx(2 * found.itl_ms.value)
    assert corrected.itl_ms.high == pytest.approx(1.1 * corrected.itl_ms.value)


def test_no_range_promises_more_than_the_device_s_peaks() -> None:
    """An engine without measurements has a wide range; its fast end still reads all weights once per step."""
    found = predict(LLAMA, H100, Setup("tgi"), Load(500, 200, concurrency=8))
    weights_ms = decode_terms(step_model(LLAMA, H100, Setup("tgi")), 8, 500)["weights"]
    assert weights_ms <= found.itl_ms.low < found.itl_ms.value
    assert found.output_tokens_per_s.high <= 8e3 / weights_ms
    arriving = predict(LLAMA, H100, VLLM, Load(500, 200, requests_per_s=5))
    assert arriving.requests_per_s.high == 5


def test_what_the_fit_never_saw_has_ranges_of_groups_left_out() -> None:
    """A new family of devices, a new engine, and nothing at all where no quantity was checked."""
    table = shipped_speed_constants()
    mi300 = find_device("mi300x")
    assert table.residual("step", groups_of(mi300, VLLM)) == table.residuals["step"]["new device"]
    assert table.residual("step", groups_of(H100, Setup("tgi"))) == table.residuals["step"]["new engine"]
    assert table.residual("energy", groups_of(H100, VLLM)) == UNCHECKED
