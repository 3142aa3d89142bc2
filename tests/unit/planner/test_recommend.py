"""The planner's search, on a physics that can be computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.planner.facts.engine_support import NotSupported
from inferry.planner.load import Slo
from inferry.planner.recommend import NothingFits, Option, Recommendation, recommend
from inferry.planner.sizing import Physics
from inferry.planner.wish import Hardware, Wish

from .hand_made import ARCH, PHYSICS, device

SLO = Slo(ttft_ms=1000, itl_ms=40)
WISH = Wish(users=60, slo=SLO, engines=("vllm",), quantization="native")


def best_of(found: Recommendation | NothingFits) -> Option:
    assert isinstance(found, Recommendation)
    return found.best


def test_as_few_replicas_as_keep_the_slo() -> None:
    """10 + n <= 40 ms lets 30 users be at one replica: 60 users need two, 61 three, on one device each."""
    cheap = Hardware(device("cheap"))
    best = best_of(recommend(ARCH, [cheap], WISH, PHYSICS))
    assert (best.sized.replicas, best.sized.setup.devices, best.good) == (2, 1, True)
    assert best.sized.capacity.concurrency == 30
    assert best.sized.utilisation == pytest.approx(1.0)
    assert best.sized.strain_one_lost > 1
    more = best_of(recommend(ARCH, [cheap], replace(WISH, users=61), PHYSICS))
    assert more.sized.replicas == 3


def test_the_cheapest_device_that_does_it_wins() -> None:
    """A device twice as fast carries 70 users at 40 ms and costs 1.5: one of them is cheaper than two at 1.0."""
    slow, fast = Hardware(device("slow", 1.0)), Hardware(device("fast", 1.5, speed=2))
    found = recommend(ARCH, [slow, fast], WISH, PHYSICS)
    best = best_of(found)
    assert (best.sized.candidate.hardware.device.name, best.sized.replicas) == ("fast", 1)
    assert isinstance(found, Recommendation)
    assert "slow" in {other.sized.candidate.hardware.device.name for other in found.others}


def test_cost_is_the_devices_time_over_what_they_do_in_it() -> None:
    """Two devices at 1 USD/h that make r tokens/s in all: 2 / (3600 r) x 1e6 USD per million; and the shares of
    prompts and answers make up the whole price."""
    best = best_of(recommend(ARCH, [Hardware(device("cheap"))], WISH, PHYSICS))
    assert best.cost is not None
    rate = 2 * best.sized.at_load.output_tokens_per_s.value
    assert best.cost.usd_per_mtok_all_on_output.value == pytest.approx(2 / (3600 * rate) * 1e6)
    requests_per_hour = 3600 * 2 * best.sized.at_load.requests_per_s.value
    spent = (
        requests_per_hour
        * (
            WISH.input_tokens * best.cost.usd_per_mtok_input
            + WISH.output_tokens * best.cost.usd_per_mtok_output
        )
        / 1e6
    )
    assert spent == pytest.approx(best.cost.usd_per_hour)


def test_quantization_only_where_the_model_as_it_is_does_not_do() -> None:
    """With 60 users on two devices the model stays as it is, though half as many would do with FP8; on one device only
    FP8 keeps the SLO, and carries a note."""
    wish = replace(WISH, quantization="auto")
    plain = best_of(recommend(ARCH, [Hardware(device("cheap"))], wish, PHYSICS))
    assert plain.sized.candidate.as_it_is
    one = best_of(recommend(ARCH, [Hardware(device("cheap"), 1)], wish, PHYSICS))
    assert one.sized.setup.weights == "fp8"
    assert "compare its answers" in one.sized.candidate.source.note
    cheapest = best_of(
        recommend(ARCH, [Hardware(device("cheap"))], replace(wish, quantization="any"), PHYSICS)
    )
    assert (cheapest.sized.setup.weights, cheapest.sized.replicas) == ("fp8", 1)


def test_where_nothing_keeps_the_slo_the_nearest_is_named() -> None:
    """One device for 60 users: 70 ms where 40 are allowed, a strain of 1.75, and it is not called good."""
    best = best_of(recommend(ARCH, [Hardware(device("cheap"), 1)], WISH, PHYSICS))
    assert not best.good
    assert best.sized.strain == pytest.approx(70 / 40)


def test_a_budget_that_is_too_small_makes_it_not_good() -> None:
    """Two devices at 1 USD/h are not in a budget of 1.5; a device without a price is in none."""
    wish = replace(WISH, budget_usd_per_hour=1.5)
    assert not best_of(recommend(ARCH, [Hardware(device("cheap"))], wish, PHYSICS)).good
    assert not best_of(recommend(ARCH, [Hardware(device("free", None))], wish, PHYSICS)).good


def test_what_is_promised_leaves_room_in_memory() -> None:
    """18 GiB, of which 0.9 is used, hold 16 GiB of weights and a cache of 3,276 tokens: not the 4,096 that a request may
    have, so one device is refused and two share the layers; a cache with less than 5 % to spare is refused as well."""
    small = Hardware(device("small", memory_gib=18))
    best = best_of(recommend(ARCH, [small], WISH, PHYSICS))
    assert best.sized.setup.tensor_parallel == 2
    nothing = recommend(ARCH, [Hardware(small.device, 1)], WISH, PHYSICS)
    assert isinstance(nothing, NothingFits)
    assert nothing.nearest is not None
    tight_device = device("tight", memory_gib=18.061)  # leaves 4,177 tokens, 0.95 of which are 3,968
    tight = recommend(ARCH, [Hardware(tight_device, 1)], WISH, PHYSICS)
    assert isinstance(tight, NothingFits)


def test_an_open_load_is_shared_out_until_it_is_served() -> None:
    """What comes out is what is asked for, at latencies within the SLO, with as few replicas as that takes."""
    wish = replace(WISH, users=None, requests_per_s=12.0)
    best = best_of(recommend(ARCH, [Hardware(device("cheap"))], wish, PHYSICS))
    assert best.good
    served = best.sized.replicas * best.sized.at_load.requests_per_s.value
    assert served == pytest.approx(12, rel=0.02)
    fewer = 12.0 / (best.sized.replicas - 1)
    assert fewer > best.sized.capacity.requests_per_s


def test_without_a_load_it_is_the_most_that_the_devices_do() -> None:
    """30 at once on each of two devices are more than the 46 that both do together."""
    wish = replace(WISH, users=None)
    best = best_of(recommend(ARCH, [Hardware(device("cheap"), 2)], wish, PHYSICS))
    assert best.good
    assert (best.sized.replicas, best.sized.devices) == (2, 2)
    assert best.sized.capacity.concurrency == 30


def test_an_unsupported_format_is_never_an_option() -> None:
    """Where the support table refuses everything, there is not even a nearest one."""
    none = Physics(PHYSICS.memory, PHYSICS.sequence, PHYSICS.speed, lambda *_: NotSupported("not here"))
    assert recommend(ARCH, [Hardware(device("cheap"))], WISH, none) == NothingFits(None, 0, ("not here",))
