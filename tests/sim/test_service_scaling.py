"""Scaling of a whole simulated service, where it is hard: blind for a while, slow to load, unable to start, stormed."""

from __future__ import annotations

from collections.abc import Iterator

from inferry.core.gateway_settings import Queue
from inferry.core.scaling_settings import Scaling
from inferry.simulate.arrivals import Arrival
from inferry.simulate.arrivals_drawn import RateAt, drawn, exponential, fixed, steps
from inferry.simulate.experiment import run
from inferry.simulate.failures import Failure
from inferry.simulate.result import ServiceResult
from inferry.simulate.service import Service
from inferry.simulate.timing import EngineTiming

RULES = [
    {"metric": "queue_depth", "above": 5, "add": 1},
    {"metric": "running", "above": 24, "add": 1},
    {"metric": "running", "below": 4, "for_s": 60, "remove": 1},
]


def scaling(**more: object) -> Scaling:
    return Scaling.model_validate({"min": 1, "max": 8, "rules": RULES, "down": {"stabilize_s": 60}, **more})


def load(rate: float | RateAt, end_s: float) -> Iterator[Arrival]:
    return drawn(rate, end_s, prompt=fixed(300), answer=exponential(100), seed=1)


def downs(result: ServiceResult) -> list[float]:
    return [each.at_s for each in result.decisions if each.to < each.was]


def ups(result: ServiceResult) -> list[float]:
    return [each.at_s for each in result.decisions if each.to > each.was]


def test_who_sees_nothing_takes_nothing_away() -> None:
    """Gateways silent from 100 s to 700 s, at next to no load: the first replica leaves when they are heard again, not before
    (llm-d PR#1981: no data was taken for no load)."""
    silent = [Failure(100, "gateways", for_s=600)]
    service = Service(replicas=3, scaling=scaling(), timing=EngineTiming(start_s=20))
    blind = run([service], load(0.1, 1500), failures=silent, until_s=1500).only
    clear = run([service], load(0.1, 1500), until_s=1500).only
    assert 60 <= downs(clear)[0] <= 200
    assert not [at_s for at_s in downs(blind) if 100 < at_s < 700]
    assert [at_s for at_s in downs(blind) if at_s >= 700]


def test_replicas_whose_engines_tell_nothing_stay() -> None:
    """Metrics of all engines are gone for ten minutes: `running` is missing, and missing is not 0."""
    gone = [Failure(60, "metrics", replica=f"chat-{number}", for_s=600) for number in range(3)]
    service = Service(replicas=3, scaling=scaling(), timing=EngineTiming(start_s=20))
    result = run([service], load(0.1, 1200), failures=gone, until_s=1200).only
    assert not [at_s for at_s in downs(result) if 80 < at_s < 660]
    assert downs(result)


def test_a_load_of_ten_minutes_is_not_answered_twice() -> None:
    """Replicas take 600 s to load: those that are on the way count, so a step that needs three gets no eight
    (kserve/kserve#5527: more or fewer than expected)."""
    service = Service(
        replicas=1,
        scaling=scaling(up={"cooldown_s": 0}, rules=[{"metric": "requests_per_s", "target": 4}]),
        timing=EngineTiming(start_s=600),
    )
    result = run([service], load(steps([(0, 1.0), (300, 10.0)]), 1500), until_s=1500).only
    assert 3 <= max(each.wanted for each in result.timeline) <= 4


def test_starts_that_fail_are_not_begun_over_and_over() -> None:
    """No replica comes up: what is wanted stays bounded, nobody that serves is lost, and it recovers."""
    service = Service(
        replicas=1, scaling=scaling(), queue=Queue(running_max=32), timing=EngineTiming(start_s=20)
    )
    broken = [Failure(50, "starts", for_s=400)]
    result = run(
        [service], load(steps([(0, 1.0), (100, 14.0), (900, 0.5)]), 1500), failures=broken, until_s=1500
    ).only
    during = [each for each in result.timeline if 120 <= each.begin_s < 400]
    assert max(each.wanted for each in during) < 8
    assert min(each.serving for each in result.timeline) >= 1
    assert [at_s for at_s in downs(result) if at_s > 900]


def test_a_herd_after_an_outage_is_let_in_piece_by_piece() -> None:
    """All replicas crash at once under load: queues refuse what can't be served in time, and afterwards it goes on as
    before, with as many replicas as before."""
    crashes = [Failure(300, "crash", replica=f"chat-{number}") for number in range(3)]
    service = Service(
        replicas=3,
        scaling=scaling(),
        queue=Queue(running_max=32, waiting_max=100, wait_max_s=10),
        timing=EngineTiming(start_s=20),
    )
    result = run([service], load(10.0, 900), failures=crashes, until_s=960, interval_s=30).only
    after = [each for each in result.timeline if each.begin_s >= 420]
    assert sum(result.failed.values()) > 0
    assert sum(each.failed + each.rejected for each in after) == 0
    assert max(each.wanted for each in result.timeline) <= 5
    assert result.under_way == 0


def test_a_steady_load_changes_direction_at_most_four_times_an_hour() -> None:
    """An hour of Poisson arrivals at one rate: no flapping (ray-project/ray#26455: up and down in turns)."""
    service = Service(replicas=1, scaling=scaling(), timing=EngineTiming(start_s=60))
    result = run([service], load(3.0, 3600), until_s=3600).only
    assert result.direction_changes_per_hour <= 4
    assert len(ups(result)) <= 4
