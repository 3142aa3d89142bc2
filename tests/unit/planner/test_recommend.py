"""The planner's search, on a physics that can be computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.core.errors import ConfigError
from inferry.planner.answers import MemoryPlan
from inferry.planner.architecture import Architecture
from inferry.planner.device import Device
from inferry.planner.facts.engine_support import NotSupported
from inferry.planner.load import Slo
from inferry.planner.recommend import NothingFits, Option, Recommendation, recommend
from inferry.planner.setup import Setup
from inferry.planner.sizing import Physics, fewest
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


def test_a_tighter_bound_is_never_cheaper() -> None:
    """The same ways are looked at with a bound on devices as without: the price falls or stays as the bound is raised,
    and without one it is the least of all."""
    wish = replace(WISH, users=None, requests_per_s=12.0)
    dear = device("one", memory_gib=40)
    found = [recommend(ARCH, [Hardware(dear, count)], wish, PHYSICS) for count in (*range(1, 12), None)]
    prices = [each.cost.usd_per_hour for each in map(best_of, found) if each.good and each.cost is not None]
    assert len(prices) > 3
    assert prices == sorted(prices, reverse=True)
    assert prices[-1] == min(prices)


@pytest.mark.parametrize("edge", [1, 2, 3, 7, 20, 63, 64])
@pytest.mark.parametrize("guess", [1, 6, 64, 100])
def test_the_search_finds_the_fewest_from_any_guess(edge: int, guess: int) -> None:
    """Whatever the first guess, the number from which on the strain is at most 1; each is asked for a few times only."""
    asked: list[int] = []

    def strain_of(replicas: int) -> float:
        asked.append(replicas)
        return edge / replicas

    assert fewest(strain_of, guess, 64, within=1.0) == edge
    assert len(set(asked)) <= 14
    assert fewest(strain_of, guess, edge - 1, within=1.0) == edge - 1 if edge > 1 else True


def test_users_are_counted_once() -> None:
    """Five users on three replicas are two, two and one: what they are given together is not that of six."""
    wish = replace(WISH, users=5, slo=Slo(itl_ms=12))
    alone = replace(device("slow"), link_bytes_per_s=0)
    best = best_of(recommend(ARCH, [Hardware(alone)], wish, PHYSICS))
    assert (best.sized.replicas, best.sized.load.concurrency) == (3, 2)
    one, two = (PHYSICS.speed(ARCH, device("slow"), best.sized.setup, wish.at_once(n)) for n in (1, 2))
    rate = 2 * two.requests_per_s.value + one.requests_per_s.value
    assert best.sized.busy_replicas * two.requests_per_s.value == pytest.approx(rate)
    assert best.cost is not None
    per_million = best.cost.usd_per_hour / (3600 * rate * wish.output_tokens) * 1e6
    assert best.cost.usd_per_mtok_all_on_output.value == pytest.approx(per_million)


def test_hopeless_bounds_buy_no_fleet() -> None:
    """Where one request alone is at 11 times its bound, ten users get no replica each, nor 256; and it is said."""
    wish = replace(WISH, users=10, slo=Slo(itl_ms=1))
    sized = best_of(recommend(ARCH, [Hardware(device("slow"))], wish, PHYSICS)).sized
    assert sized.replicas == 1
    assert sized.strain_alone == pytest.approx(11 / sized.setup.devices**0.5)
    flood = replace(WISH, users=None, requests_per_s=1.0, slo=Slo(itl_ms=1))
    assert best_of(recommend(ARCH, [Hardware(device("slow"))], flood, PHYSICS)).sized.replicas <= 3


def test_no_more_replicas_than_users_or_than_a_file_takes() -> None:
    """Two users that keep the bound only alone take two replicas; 20,000 of them get at most 256, which is not enough."""
    alone = replace(device("slow"), link_bytes_per_s=0)
    wish = replace(WISH, users=2, slo=Slo(itl_ms=11.5))
    assert best_of(recommend(ARCH, [Hardware(alone)], wish, PHYSICS)).sized.replicas == 2
    best = best_of(recommend(ARCH, [Hardware(alone, 100_000)], replace(wish, users=20_000), PHYSICS))
    assert not best.good
    assert 250 < best.sized.replicas <= 256


def test_fewer_sequences_where_the_engines_own_number_leaves_too_little() -> None:
    """An engine that keeps memory for each of its sequences does not hold the context with all of them, but with eight."""

    def memory(arch: Architecture, at: Device, setup: Setup) -> MemoryPlan:
        plan = PHYSICS.memory(arch, at, setup)
        kept = (setup.max_sequences or 0) * 2**20 * 8
        tokens = int((plan.kv - kept) / plan.kv_bytes_per_token)
        return replace(plan, activations=kept, kv=plan.kv - kept, kv_tokens=tokens)

    wish = replace(WISH, users=1, context_tokens=30_000)
    tight = Hardware(device("tight", memory_gib=20.2), 1)
    best = best_of(recommend(ARCH, [tight], wish, replace(PHYSICS, memory=memory)))
    assert best.sized.setup.max_sequences == 8


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (replace(WISH, context_tokens=32_769), "--context 32769: the model was made for 32,768"),
        (
            replace(WISH, input_tokens=32_000, output_tokens=800),
            "--input 32000 and --output 800: 32,800 tokens",
        ),
    ],
)
def test_no_plan_for_more_than_the_model_was_made_for(wish: Wish, told: str) -> None:
    """An error with the option, its value and the bound; where no bound is known, none is made up."""
    with pytest.raises(ConfigError, match=told):
        recommend(ARCH, [Hardware(device("any"))], wish, PHYSICS)
    assert wish.context_for(0) >= wish.input_tokens + wish.output_tokens


def test_what_keeps_the_slo_is_within_the_capacity() -> None:
    """Requests per second that use their bound to nearly the full are never more than what is said to be carried."""
    for tenths in range(20, 60):
        wish = replace(WISH, users=None, requests_per_s=tenths / 10)
        sized = best_of(recommend(ARCH, [Hardware(device("one"))], wish, PHYSICS)).sized
        assert sized.keeps_slo
        assert sized.utilisation <= 1
