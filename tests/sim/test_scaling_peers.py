"""Failures of autoscalers that peers' users reported, each simulated on virtual time against ours.

A replica answers four requests at a time, each in 10 s: 0.4 requests/s. All figures are of simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inferry.core.scaling_settings import Scaling
from inferry.simulate.arrivals_drawn import drawn, fixed, steps
from inferry.simulate.experiment import run
from inferry.simulate.failures import Failure
from inferry.simulate.result import ServiceResult
from inferry.simulate.service import Service
from inferry.simulate.timing import EngineTiming

QUEUE = {"metric": "queue_depth", "above": 10, "add": 2}
COLD = {"metric": "running", "below": 1.5, "for_s": 120, "remove": 1}


def simulated(
    rates: Sequence[tuple[float, float]],
    end_s: float,
    *rules: dict[str, Any],
    replicas: int = 2,
    start_s: float = 120.0,
    failures: Sequence[Failure] = (),
    scaling: dict[str, Any] | None = None,
    **service: Any,
) -> ServiceResult:
    """At these requests/s, each from its second on."""
    settings = Scaling.model_validate({"max": 20, "rules": list(rules or (QUEUE, COLD)), **(scaling or {})})
    timing = EngineTiming(step_s=0.1, step_s_per_sequence=0.0, sequences_max=4, start_s=start_s)
    arrivals = drawn(steps(rates), end_s, prompt=fixed(10), answer=fixed(100), seed=1)
    chat = Service(timing=timing, replicas=replicas, scaling=settings, **service)
    return run([chat], arrivals, failures=failures, until_s=end_s).only


def test_load_that_flaps_does_not_make_replicas_flap() -> None:
    """ray-project/ray#26455 and #18925: up and down in turns. Load comes and goes every two minutes for an hour:
    at most 4 changes of direction an hour; without stabilization, the same rules make many more."""
    flapping = [(120.0 * turn, 2.0 if turn % 2 else 0.05) for turn in range(30)]
    rules: list[dict[str, Any]] = [
        {"metric": "running", "above": 3, "add": 1},
        {"metric": "running", "below": 1, "remove": 1},
    ]
    steady = simulated(flapping, 3600, *rules, start_s=30)
    shaky = simulated(flapping, 3600, *rules, start_s=30, scaling={"down": {}})
    assert steady.direction_changes_per_hour <= 4
    assert shaky.direction_changes_per_hour > 15


def test_a_replica_that_loads_for_ten_minutes_is_not_ordered_again_and_again() -> None:
    """Replicas on the way are capacity: while they load, 80 looks see a queue that grows to hundreds, and no more
    than the load needs (4, or 6 in steps of two) are ordered."""
    result = simulated([(0.0, 0.6), (600.0, 1.6)], 1700, start_s=600)
    ordered = [each for each in result.decisions if each.at_s < 1200]
    assert max(row.in_flight for row in result.timeline if row.begin_s < 1200) > 200
    assert [each.to for each in ordered] == [4, 6]


def test_the_herd_after_an_outage_is_answered_once() -> None:
    """Replicas die and none comes up for two minutes, while requests gather. Once they serve again, they work that
    off: one step is added, not one at each look, as the queue is long for a minute more."""
    crashes = [Failure(600.0, "crash", f"chat-{number}") for number in range(1, 5)]
    failing = Failure(599.0, "starts", for_s=120)
    result = simulated([(0.0, 0.8)], 1500, replicas=4, start_s=30, failures=[*crashes, failing])
    assert result.crashes >= 4
    assert max(row.in_flight for row in result.timeline) > 30
    assert [(each.was, each.to) for each in result.decisions] == [(4, 6)]
    assert (result.failed, result.rejected) == ({}, {})


def test_a_metric_outage_takes_no_replica_away() -> None:
    """llm-d-autoscaling#1981: an empty answer meant "inactive". Engines and gateways are silent for 20 minutes in
    which it is idle: nobody leaves until they tell so again."""
    silent = [Failure(610.0, "gateways", for_s=1200)]
    silent += [Failure(610.0, "metrics", f"chat-{number}", for_s=1200) for number in range(1, 5)]
    silent += [Failure(610.0, "metrics", for_s=1200) for _ in range(20)]
    rates = [(0.0, 1.2), (600.0, 0.05)]
    result = simulated(rates, 3600, replicas=4, failures=silent)
    heard = simulated(rates, 3600, replicas=4)
    assert min(each.at_s for each in result.decisions) > 1810
    assert min(each.at_s for each in heard.decisions) < 1200


def test_one_hot_replica_of_four_is_no_reason_for_a_fifth() -> None:
    """Scaled by the figure of one pod, a deployment grows for a fault that is no load. One replica is at half its speed and full; the mean over all
    stays below the threshold, and nothing is added."""
    full = {"metric": "running", "above": 3.4, "for_s": 60, "add": 1}
    result = simulated(
        [(0.0, 0.7)], 1200, full, COLD, replicas=4, failures=[Failure(300.0, "slow", for_s=600, factor=2.0)]
    )
    assert result.decisions == []


def test_replicas_that_do_not_come_up_are_not_joined_by_ever_more() -> None:
    """An autoscaler that counts what serves orders anew whatever fails. Here no start succeeds, and what was ordered
    before the first one failed is all that is ordered."""
    broken = [Failure(0.0, "starts", for_s=3600.0)]
    result = simulated([(0.0, 0.6), (300.0, 2.0)], 900, failures=broken)
    assert [each.to for each in result.decisions] == [4, 6, 8]
    assert max(each.at_s for each in result.decisions) < 300 + 120


def test_budgets_hold_whatever_waits() -> None:
    """ai-dynamo/dynamo#12428: a planner exceeded max_gpu_budget. GPUs for three replicas of two each: hundreds wait, and there are three."""
    result = simulated([(0.0, 4.0)], 900, gpus_per_replica=2, scaling={"gpus_max": 7, "rules": [QUEUE]})
    assert max(row.in_flight for row in result.timeline) > 200
    assert max(row.wanted for row in result.timeline) == 3


def test_scaled_to_zero_and_back_the_parked_requests_are_answered() -> None:
    """superlinked/sie#293: scaled to zero while the model loads, in a loop. Idle for 20 minutes: nothing runs. Then
    requests wait for one start, and all of them are answered; rules neither wake it nor take it away as it loads."""
    result = simulated(
        [(0.0, 0.2), (300.0, 0.0), (1500.0, 0.2), (2000.0, 0.0)],
        2300,
        replicas=1,
        scaling={"min": 0},
        load_wait_s=300.0,
        idle_unload_s=120.0,
    )
    wanted = [row.wanted for row in result.timeline]
    asleep = [row for row in result.timeline if 600 <= row.begin_s < 1440]
    assert {(row.serving, row.coming, row.wanted) for row in asleep} == {(0, 0, 0)}
    woken = wanted[26:34]
    assert min(woken) >= 1, "once awake it stays while there is load"
    assert (result.failed, result.rejected) == ({}, {})
    assert result.completed == result.requests - result.under_way
