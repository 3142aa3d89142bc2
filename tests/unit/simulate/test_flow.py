"""Traffic as a flow, and others' autoscalers on it."""

from __future__ import annotations

import pytest

from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic
from inferry.simulate.flow import Flow, FlowService, flow
from inferry.simulate.rivals.hpa import Behavior, Hpa, Steps, queue_depth, requests_held
from inferry.simulate.rivals.knative import Kpa
from inferry.simulate.rivals.llm_d import LlmD
from inferry.simulate.rivals.oracle import Oracle, schedule
from inferry.simulate.rivals.static import Static
from inferry.simulate.timing import EngineTiming

SERVICE = FlowService(EngineTiming(), 1000, 200, ttft_s=2.0, itl_s=0.1, running_max=35, wait_max_s=1)


def seen(now_s: float, serving: int, *, held: int, waiting: int = 0, coming: int = 0) -> Observation:
    readings = tuple(ReplicaReading(str(number), now_s, waiting=0) for number in range(serving))
    traffic = Traffic(in_flight=held - waiting, waiting=waiting)
    return Observation(now_s, serving + coming, readings, coming, traffic)


def test_below_capacity_all_is_kept() -> None:
    """At 80 % of what replicas carry, nobody is refused or late, and all that arrived has ended or runs."""
    rate = 10 * SERVICE.requests_per_s() * 0.8
    result = flow(SERVICE, [rate] * 900, Static(10), replicas=10)
    assert result.attainment == 1.0
    assert result.refused == 0
    assert result.ended == pytest.approx(900 * rate, rel=0.05)


def test_above_capacity_the_excess_is_refused_and_the_rest_kept() -> None:
    """At 125 %, a fifth finds no place, and those that do keep the objectives."""
    rate = 10 * SERVICE.requests_per_s() * 1.25
    result = flow(SERVICE, [rate] * 1800, Static(10), replicas=10)
    assert result.refused / result.ended == pytest.approx(0.2, abs=0.02)
    assert result.kept == pytest.approx(result.ended - result.refused, rel=0.001)


def test_without_a_bound_overload_is_late_for_everybody() -> None:
    """The same load with nobody refused: after some time, nearly all first tokens are late."""
    patient = FlowService(EngineTiming(), 1000, 200, ttft_s=2.0, itl_s=0.1, running_max=35)
    rate = 10 * patient.requests_per_s() * 1.25
    result = flow(patient, [rate] * 1800, Static(10), replicas=10)
    assert result.refused == 0
    assert result.attainment < 0.1


def test_a_replica_serves_after_its_start_and_is_paid_from_it() -> None:
    """Wanted at second 0, serving 120 s later, paid all the time."""
    state = Flow(SERVICE, 1)
    state.scale(3)
    for _ in range(120):
        state.second(0)
    assert (state.serving, state.coming) == (1, 2)
    state.second(0)
    assert (state.serving, state.coming) == (3, 0)
    assert state.result.replica_s == 3 * 121


def test_who_goes_before_it_serves_costs_no_capacity() -> None:
    """Fewer than wanted while some load: those that load go first."""
    state = Flow(SERVICE, 4)
    state.scale(6)
    state.scale(4)
    assert (state.serving, state.coming) == (4, 0)


def test_hpa_as_documented() -> None:
    """Kubernetes' own example: 200m against 100m doubles; 10 % off changes nothing; down only after 300 s."""
    hpa = Hpa(requests_held, 100)
    assert hpa.decide(seen(0, 2, held=400)).to == 4
    assert hpa.decide(seen(15, 4, held=430)).to == 4
    assert hpa.decide(seen(30, 4, held=200)).to == 4
    assert hpa.decide(seen(310, 4, held=200)).to == 4
    assert hpa.decide(seen(345, 4, held=200)).to == 2


def test_hpa_grows_by_4_or_by_100_percent_in_15_s() -> None:
    """From 1 at most to 5, from 10 at most to 20."""
    assert Hpa(queue_depth, 1).decide(seen(0, 1, held=100, waiting=100)).to == 5
    assert Hpa(queue_depth, 1).decide(seen(0, 10, held=100, waiting=100)).to == 20


def test_steps_of_one_pod_in_120_s() -> None:
    """llm-d's way down: one, and no other for 120 s."""
    steps = Steps(Behavior(down_stabilize_s=0.0, down_share=0.0, down_pods=1, down_per_s=120.0))
    assert [steps.next(now_s, 8, 3) for now_s in (0.0,)] == [7]
    assert steps.next(60.0, 7, 3) == 7
    assert steps.next(121.0, 7, 3) == 6


def test_kpa_panics_at_twice_the_ready_pods() -> None:
    """A burst that takes twice the pods is followed at once and kept for 60 s; without it, the mean of 60 s holds."""
    kpa = Kpa(10, utilization=0.7)
    for now_s in range(0, 60, 2):
        assert kpa.decide(seen(now_s, 2, held=14)).to == 2
    for now_s in (60, 62, 64):
        to = kpa.decide(seen(now_s, 2, held=70)).to
    assert to == 10
    assert kpa.decide(seen(66, 2, held=7)).to == 10


def test_llm_d_holds_in_its_band_and_credits_those_on_their_way() -> None:
    """s = 1.1 with 4 replicas wants 8; with 4 of 8 ready, no more; between 0.40 and 0.55, none changes."""
    law = LlmD(3.0, 0.1)
    assert law._desired(4, 4, 1.1) == 8
    assert law._desired(8, 4, 1.1) == 8
    assert law._desired(8, 8, 0.5) == 8
    assert law._desired(8, 8, 0.2) == 4


def test_the_oracle_starts_before_the_load_comes() -> None:
    """A step at second 600: the replicas for it serve in that second, and nobody is refused."""
    per_s = SERVICE.requests_per_s()
    counts = [2 * per_s] * 600 + [8 * per_s] * 600
    wanted = schedule(counts, per_s, margin=1.1, mean_s=60, start_s=120)
    result = flow(SERVICE, counts, Oracle(wanted), replicas=wanted[0])
    assert result.refused == 0
    assert result.mean_replicas < 0.75 * 9
