"""The loop closed: a wrong fact in the catalog, launches that contradict it, and plans that get it right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.planner.answers import MemoryPlan, Performance
from inferry.planner.architecture import Architecture
from inferry.planner.capacity import ttft_quantile_ms
from inferry.planner.device import Device
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.learned_physics import corrected_speed, family_of, learned_physics, subject_of
from inferry.planner.learning import Correction, Corrections, Launch, learn
from inferry.planner.load import Load
from inferry.planner.memory import plan_memory
from inferry.planner.performance import predict
from inferry.planner.setup import Setup
from inferry.planner.sizing import Physics

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SETUP = Setup("vllm", max_model_tokens=8192)
LOAD = Load(500, 200, concurrency=8)


def speed(arch: Architecture, device: Device, setup: Setup, load: Load) -> Performance:
    return predict(arch, device, setup, load)


def no_sequence(arch: Architecture, device: Device, setup: Setup, tokens: int) -> float:
    raise AssertionError("not asked here")


PLAIN = Physics(plan_memory, no_sequence, speed, supports=None)  # type: ignore[arg-type]
TRUE = find_device("l4")
WRONG = replace(
    TRUE, usable_bytes=round(TRUE.usable_bytes * 1.2), bandwidth_bytes_per_s=TRUE.bandwidth_bytes_per_s * 1.2
)
"""The catalog's entry with 20 % more memory and bandwidth than there is."""


def truth(arch: Architecture) -> tuple[MemoryPlan, Performance]:
    return plan_memory(arch, TRUE, SETUP), speed(arch, TRUE, SETUP, LOAD)


def launch(number: int, arch: Architecture, off: float = 1.0) -> Launch:
    """As the fleet notes it: predicted by the wrong fact, measured on the true device, within 2 % either way."""
    subject = subject_of(arch, WRONG, SETUP)
    memory, fast = truth(arch)
    noise = off * (0.98, 1.0, 1.02)[number % 3]
    foreseen, said = plan_memory(arch, WRONG, SETUP), speed(arch, WRONG, SETUP, LOAD)
    return Launch(
        wall_s=float(number), engine=subject.engine, device=subject.device, model=subject.model,
        family=subject.family, weights=subject.weights, setup=SETUP,
        predicted={"rest_bytes": float(foreseen.budget - foreseen.kv), "itl_ms": said.itl_ms.value},
        measured={"rest_bytes": foreseen.budget - memory.kv * noise, "itl_ms": fast.itl_ms.value * noise},
    )  # fmt: skip


def errors(arch: Architecture, launches: list[Launch]) -> tuple[float, float]:
    """Of KV tokens and of the time between tokens, relative to the truth."""
    physics = learned_physics(PLAIN, launches)
    memory, fast = truth(arch)
    tokens = physics.memory(arch, WRONG, SETUP).kv_tokens
    itl = physics.speed(arch, WRONG, SETUP, LOAD).itl_ms.value
    return tokens / memory.kv_tokens - 1, itl / fast.itl_ms.value - 1


def test_launches_correct_a_wrong_fact() -> None:
    """A GPU said to have 20 % more memory and bandwidth: the first plan promises nearly twice the KV tokens that there are
    (all that is left goes to the cache), and 15 % more speed. After one launch it is off by less than 20 % and 10 %, after
    five by less than 5 % and 4 %."""
    arch = find_model(LLAMA)
    by_count = [errors(arch, [launch(n, arch) for n in range(count)]) for count in range(6)]
    assert by_count[0][0] > 0.9
    assert by_count[0][1] < -0.12
    assert by_count[1][0] < 0.2
    assert -0.1 < by_count[1][1] < 0
    assert abs(by_count[5][0]) < 0.05
    assert abs(by_count[5][1]) < 0.04


def parts(plan: MemoryPlan) -> int:
    return plan.weights + plan.activations + plan.runtime + plan.kv + plan.graphs * plan.graphs_in_budget


def start(setup: Setup, spare_bytes: int, number: int = 0) -> Launch:
    """A start of Llama on an L4 that left so many bytes more for the cache than predicted."""
    subject, plan = subject_of(find_model(LLAMA), TRUE, setup), plan_memory(find_model(LLAMA), TRUE, setup)
    return Launch(
        wall_s=float(number), engine=subject.engine, device=subject.device, model=subject.model, family=subject.family,
        weights=subject.weights, setup=setup, predicted={"rest_bytes": float(plan.budget - plan.kv)},
        measured={"rest_bytes": float(plan.budget - plan.kv - spare_bytes)},
    )  # fmt: skip


TIGHT = replace(SETUP, memory_fraction=0.85)


@pytest.mark.parametrize("spare_gib", [-0.5, 0.2])
def test_what_one_setup_taught_promises_nothing_to_another(spare_gib: float) -> None:
    """Half a GiB less in a start at 0.85 of the memory is half a GiB less at the default fraction, and no share of the
    cache; some more is more for that very setup only. The parts add up to what they did."""
    arch, spare_bytes = find_model(LLAMA), round(spare_gib * 1024**3)
    memory = learned_physics(PLAIN, [start(TIGHT, spare_bytes, n) for n in range(3)]).memory
    plain_other, other = plan_memory(arch, TRUE, SETUP), memory(arch, TRUE, SETUP)
    plain_same, same = plan_memory(arch, TRUE, TIGHT), memory(arch, TRUE, TIGHT)
    assert same.kv - plain_same.kv == pytest.approx(spare_bytes, rel=0.1)
    assert other.kv - plain_other.kv == pytest.approx(min(spare_bytes, 0), rel=0.1)
    assert other.kv_tokens / plain_other.kv_tokens == pytest.approx(other.kv / plain_other.kv, rel=1e-4)
    assert (parts(same), parts(other)) == (parts(plain_same), parts(plain_other))


def test_the_cache_never_gets_what_the_rest_holds() -> None:
    """A measurement that leaves no room for weights and activations is believed as far as there is room."""
    arch = find_model(LLAMA)
    plan = learned_physics(PLAIN, [start(SETUP, 12 * 1024**3)]).memory(arch, TRUE, SETUP)
    assert plan.kv <= plan.budget - plan.weights - plan.activations


def test_another_cache_format_is_another_model() -> None:
    """What was measured with an FP8 cache is heard of, but does not count as a launch of the same with 16 bit."""
    subject = subject_of(find_model(LLAMA), TRUE, SETUP)
    found = learn([start(replace(SETUP, kv="fp8"), -(1024**3))], subject).by_quantity["rest_bytes"]
    assert (found.launches, found.others) == (0, 1)
    assert 0 < found.difference < 0.5 * 1024**3


def test_one_accident_among_launches_is_not_believed() -> None:
    """One launch at a third of the others' figures (another process had the GPU) leaves the plan within 15 %."""
    arch = find_model(LLAMA)
    launches = [launch(n, arch) for n in range(5)] + [launch(9, arch, off=1 / 3)]
    assert all(abs(error) < 0.15 for error in errors(arch, launches))


def test_another_model_gains_a_little() -> None:
    """What one model's launches taught brings another model on that GPU nearer to the truth, and not past it."""
    taught, other = find_model(LLAMA), find_model("Qwen/Qwen3-8B")
    before, after = errors(other, []), errors(other, [launch(n, taught) for n in range(5)])
    assert 0 < after[0] < before[0]


def test_without_launches_nothing_changes() -> None:
    """The very same functions are asked: no correction, no cost."""
    assert learned_physics(PLAIN, []) is PLAIN
    arch = find_model(LLAMA)
    other = Launch(wall_s=1.0, engine="sglang", device="l4", model=LLAMA, predicted={"kv_tokens": 1.0},
                   measured={"kv_tokens": 2.0})  # fmt: skip
    assert learned_physics(PLAIN, [other]).memory(arch, WRONG, SETUP) == plan_memory(arch, WRONG, SETUP)


def test_what_arrives_is_served_however_fast() -> None:
    """With a rate of arrivals, a slower engine has longer times and the same tokens per second."""
    arch = find_model(LLAMA)
    load = Load(500, 200, requests_per_s=0.5)
    physics = learned_physics(PLAIN, [launch(n, arch) for n in range(5)])
    plain, learned = speed(arch, WRONG, SETUP, load), physics.speed(arch, WRONG, SETUP, load)
    assert learned.itl_ms.value > plain.itl_ms.value
    assert learned.output_tokens_per_s == plain.output_tokens_per_s


@pytest.mark.parametrize(
    ("model", "family"), [(LLAMA, "llama"), ("Qwen/Qwen3-8B", "qwen"), ("smol", "smol"), ("123", "")]
)
def test_families_are_told_by_name(model: str, family: str) -> None:
    """The letters that a model's own name begins with."""
    assert family_of(model) == family


def test_the_wait_within_ttft_follows_it() -> None:
    """Half the TTFT is half the wait: what nine of ten requests see stays in proportion to the mean."""
    learned = Corrections({"ttft_ms": Correction(0.5, 3, 0, None, None)})
    before = speed(find_model(LLAMA), TRUE, SETUP, LOAD)
    before = replace(before, ttft_wait_ms=0.9 * before.ttft_ms.value)
    after = corrected_speed(before, learned)
    assert ttft_quantile_ms(after, 0.9) == pytest.approx(0.5 * ttft_quantile_ms(before, 0.9))
