"""What would do where nothing does: each found by the search, on a physics that can be computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from inferry.planner.facts.device_catalog import find_device
from inferry.planner.load import Slo
from inferry.planner.reasons import differs, spare, unmeasured, warnings, why
from inferry.planner.recommend import Option, Recommendation, recommend
from inferry.planner.relief import Relief, reliefs
from inferry.planner.setup import Setup
from inferry.planner.wish import Hardware, Wish

from .hand_made import ARCH, PHYSICS, device

WISH = Wish(users=60, slo=Slo(ttft_ms=1000, itl_ms=40), engines=("vllm",), quantization="native")
ONE = (Hardware(device("cheap"), 1),)


def best_of(hardware: Sequence[Hardware], wish: Wish) -> Option:
    found = recommend(ARCH, hardware, wish, PHYSICS)
    assert isinstance(found, Recommendation)
    return found.best


def helped(hardware: Sequence[Hardware], wish: Wish, for_rent: Sequence[Hardware] = ()) -> dict[str, Relief]:
    best = best_of(hardware, wish)
    assert not best.good
    return {each.change: each for each in reliefs(ARCH, hardware, for_rent, wish, best, PHYSICS)}


def test_less_load_more_devices_or_a_looser_slo() -> None:
    """60 users on one device that carries 30: half the load, two devices, or 70 ms and their rounding up."""
    found = helped(ONE, WISH)
    assert set(found) == {"less_load", "more_devices", "looser_slo"}
    assert found["less_load"].option.sized.capacity.concurrency == 30
    assert found["more_devices"].option.sized.devices == 2
    assert found["looser_slo"].slo is not None
    assert found["looser_slo"].slo.itl_ms == pytest.approx(1.05 * 70, rel=0.02)


def test_other_devices_where_more_of_these_do_not_do() -> None:
    """An ITL that no number of these reaches, and one that is four times as fast does."""
    wish = replace(WISH, users=1, slo=Slo(itl_ms=3.5))
    fast = Hardware(device("fast", 9.0, speed=4))
    found = helped(ONE, wish, for_rent=(fast,))
    assert found["other_devices"].option.sized.candidate.hardware.device.name == "fast"
    assert "less_load" not in found


def test_money_both_ways() -> None:
    """For 1.5 USD/h one device at 1.0 carries 30; all 60 users cost 2.0."""
    wish = replace(WISH, budget_usd_per_hour=1.5)
    found = helped((Hardware(device("cheap")),), wish)
    more, within = found["more_budget"].option, found["fewer_devices"].option
    assert (more.cost is not None and more.cost.usd_per_hour, more.sized.devices) == (2.0, 2)
    assert (within.sized.devices, within.sized.capacity.concurrency) == (1, 30)


def test_reasons_say_what_the_figures_say() -> None:
    """Twice the bound, a lost replica, a full one and a maker that nobody measured are told; nothing is told of nothing."""
    over = best_of(ONE, WISH)
    assert "75% over the bound" in why(over, (), WISH)
    two = best_of((Hardware(device("cheap")),), WISH)
    assert why(two, (), WISH).startswith("It is the cheapest")
    assert "plan one replica more (3 in all, 1.00 USD/h more)" in spare(two, WISH)
    told = " ".join(warnings(two, ARCH, WISH))
    assert "at 100% of its capacity" in told
    assert "never compared with measurements: none on devices of its family (Nobody)" in told
    assert differs(two, two) == "much the same"
    assert differs(two, over) == "50% cheaper, does not keep the SLO"


def test_what_was_never_measured_is_said_by_family_and_load() -> None:
    """H100s with vLLM were measured with users, not with a rate; of A10s and of TGI nothing was."""
    users, rate = WISH, replace(WISH, users=None, requests_per_s=1.0)
    h100, a10 = find_device("h100-80g"), find_device("a10")
    assert unmeasured(h100, Setup("vllm"), users) == []
    assert "never with requests that come at a rate" in " ".join(unmeasured(h100, Setup("vllm"), rate))
    for device_told, setup in ((a10, Setup("vllm")), (h100, Setup("tgi"))):
        told = unmeasured(device_told, setup, users)
        assert [f"Speed of {setup.engine} on {device_told.name}" in each for each in told] == [True]


def test_a_load_that_is_not_served_is_told_as_a_queue_that_grows() -> None:
    """Thirty requests per second on a device that serves seven: nothing about a bound, no looser SLO, and less load."""
    wish = replace(WISH, users=None, requests_per_s=30.0)
    best = best_of(ONE, wish)
    assert best.sized.queue_grows
    assert "of 30 requests/s it serves" in why(best, (), wish)
    assert "the queue grows" in why(best, (), wish)
    assert "looser_slo" not in helped(ONE, wish)
    assert 0 < helped(ONE, wish)["less_load"].option.sized.capacity.requests_per_s < 30


def test_what_no_number_of_devices_keeps_is_said() -> None:
    """A bound below what one request alone takes: no advice to add a replica."""
    wish = replace(WISH, users=10, slo=Slo(itl_ms=1))
    best = best_of((Hardware(device("cheap")),), wish)
    assert "no number of such replicas would: even one request alone" in why(best, (), wish)
    assert spare(best, wish) == ""


def test_large_figures_are_written_out() -> None:
    """No powers of ten for people; and that a deployment has a largest number of replicas."""
    flood = replace(WISH, users=None, requests_per_s=1_000_000.0)
    best = best_of((Hardware(device("cheap")),), flood)
    said = " ".join((why(best, (), flood), *warnings(best, ARCH, flood)))
    assert "of 1,000,000 requests/s" in said
    assert "e+" not in said
    assert "256 replicas at most" in said
