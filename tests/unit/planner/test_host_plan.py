"""A plan for a CPU: places that the memory holds, what keeps the SLO, and ranges by how it was calibrated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.planner.host_plan import MEMORY_SHARE, HostSubject, plan_on_host
from inferry.planner.host_speed import HostSpeed
from inferry.planner.learning import Correction, Corrections
from inferry.planner.load import Slo
from inferry.planner.wish import Wish

from .hand_made import ARCH, GIB

SPEED = HostSpeed(
    bandwidth_bytes_per_s=20e9,
    layer_s=20e-6,
    decode_flops_per_s=100e9,
    batch_flops_per_s=100e9,
    batch_share=0.0,
    decode_attention_flops_per_s=50e9,
    prefill_flops_per_s=400e9,
    prefill_attention_flops_per_s=100e9,
    request_s=0.01,
)
SUBJECT = HostSubject(ARCH, "llamacpp", 0.5 * GIB, speed=SPEED)
CONTEXT_BYTES = 4096 * 16 * 2 * 2 * 128 * 2
"""Of one place of 4,096 tokens: keys and values of two heads in 16 layers."""
LOOSE = Slo(ttft_ms=60_000, itl_ms=1000)


def test_as_many_places_as_the_memory_holds() -> None:
    """llama.cpp keeps a whole context for each place: what does not fit waits, and is told as queued."""
    free = round((0.5 * GIB + 46_000_000 + 3.5 * CONTEXT_BYTES) / MEMORY_SHARE)
    found = plan_on_host(SUBJECT, free, Wish(users=5, slo=LOOSE))
    assert (found.slots, found.slots_fit, found.context_tokens) == (3, 3, 4096)
    assert found.memory_bytes <= MEMORY_SHARE * free
    assert found.at_load is not None
    assert found.at_load.queued == 2
    assert found.strain >= 5 / 3


def test_what_does_not_fit_tells_the_longest_request_that_does() -> None:
    """No place for the asked context, but one for a shorter one, which then fits."""
    free = round((0.5 * GIB + 46_000_000 + 0.5 * CONTEXT_BYTES) / MEMORY_SHARE)
    found = plan_on_host(SUBJECT, free, Wish(users=1, slo=LOOSE))
    assert (found.slots, found.good) == (0, False)
    assert found.longest_tokens == pytest.approx(2048, abs=1)
    shorter = plan_on_host(SUBJECT, free, Wish(users=1, slo=LOOSE, context_tokens=found.longest_tokens))
    assert shorter.slots == 1


def test_without_a_calibration_there_is_memory_but_no_speed() -> None:
    """Nothing is promised that was not measured here."""
    found = plan_on_host(replace(SUBJECT, speed=None), 8 * GIB, Wish(users=2))
    assert (found.slots, found.at_load, found.good) == (2, None, False)


def test_what_it_carries_keeps_the_slo_and_one_more_does_not() -> None:
    """Without a load, as many at once as keep the SLO; one user more breaks it."""
    wish = Wish(input_tokens=100, output_tokens=50, slo=Slo(ttft_ms=10_000, itl_ms=60))
    found = plan_on_host(SUBJECT, 16 * GIB, wish)
    assert found.good
    assert 1 <= found.slots == found.carries
    more = plan_on_host(SUBJECT, 16 * GIB, replace(wish, users=found.carries + 1))
    assert not more.good


def test_a_rate_takes_the_fewest_places_that_reach_it() -> None:
    """Requests per second: what is reached is at least that, and one place less would not do; too many are told."""
    wish = Wish(input_tokens=100, output_tokens=50, requests_per_s=0.5, slo=LOOSE)
    found = plan_on_host(SUBJECT, 16 * GIB, wish)
    assert found.good
    assert found.at_load is not None
    assert found.at_load.requests_per_s.value >= 0.5
    assert not plan_on_host(SUBJECT, 16 * GIB, replace(wish, requests_per_s=1000)).good


def test_ranges_are_wider_for_models_that_were_not_calibrated() -> None:
    """The law of one model tells rates of another better than its times."""
    own, other = (
        plan_on_host(replace(SUBJECT, own=flag), 8 * GIB, Wish(users=2, slo=LOOSE)).at_load
        for flag in (True, False)
    )
    assert own is not None
    assert other is not None
    assert own.itl_ms.value == other.itl_ms.value
    assert other.itl_ms.low < own.itl_ms.low < own.itl_ms.value < own.itl_ms.high < other.itl_ms.high


def test_what_launches_taught_is_used() -> None:
    """Each figure is multiplied by what was learned of it."""
    taught = Corrections(
        {"itl_ms": Correction(2.0, 3, 0, 0.5, 0.1), "memory_bytes": Correction(1.5, 1, 0, 0.3, None)}
    )
    wish = Wish(users=1, slo=LOOSE)
    plain, learned = (
        plan_on_host(replace(SUBJECT, learned=each), 8 * GIB, wish) for each in (Corrections(), taught)
    )
    assert plain.at_load is not None
    assert learned.at_load is not None
    assert learned.at_load.itl_ms.value == pytest.approx(2 * plain.at_load.itl_ms.value)
    assert learned.memory_bytes == pytest.approx(1.5 * plain.memory_bytes, rel=1e-6)


def test_vllm_is_told_whole_gib_of_cache() -> None:
    """VLLM_CPU_KVCACHE_SPACE is a number of GiB, and all of it is touched."""
    found = plan_on_host(replace(SUBJECT, engine="vllm"), 16 * GIB, Wish(users=64, slo=LOOSE))
    assert found.kv_bytes % GIB == 0
    assert found.kv_bytes >= 64 * 700 * CONTEXT_BYTES // 4096
