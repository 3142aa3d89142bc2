"""Simulated failures cost what they would cost in production, and no more."""

from __future__ import annotations

from collections.abc import Iterator

from inferry.core.deployment_base import Restart
from inferry.core.failover_settings import Failover
from inferry.core.scaling_settings import Scaling
from inferry.simulate.arrivals import Arrival
from inferry.simulate.arrivals_drawn import drawn, exponential, fixed
from inferry.simulate.experiment import run
from inferry.simulate.failures import Failure
from inferry.simulate.service import Service
from inferry.simulate.timing import EngineTiming

FAST = EngineTiming(start_s=10)


def load(rate: float, end_s: float, seed: int = 0) -> Iterator[Arrival]:
    return drawn(rate, end_s, prompt=fixed(300), answer=exponential(200), seed=seed)


def test_a_storm_of_crashes_loses_nothing_while_others_serve() -> None:
    """A crash a minute somewhere: streams go on at another replica, and nobody is told of an error."""
    storm = [Failure(20 + 60 * number, "crash") for number in range(9)]
    result = run([Service(replicas=4, timing=FAST)], load(4, 600), failures=storm).only
    assert result.crashes == 9
    assert result.resumes > 10
    assert result.completed == result.requests


def test_who_loses_the_only_replica_waits_for_it_as_long_as_the_file_says() -> None:
    """Restarted within failover.wait_max_s: streams go on. Later than that: they end in an error, as in production."""
    crash = [Failure(30, "crash")]
    soon = run([Service(timing=FAST)], load(2, 30), failures=crash).only
    late = run([Service(timing=EngineTiming(start_s=120))], load(2, 30), failures=crash).only
    assert soon.completed == soon.requests
    assert soon.resumes > 0
    assert sum(late.failed.values()) == soon.resumes + soon.retries


def test_streams_that_may_not_be_resumed_end_with_their_replica() -> None:
    """With failover.resume off, each stream under way at the crash fails, and only those."""
    service = Service(replicas=2, timing=FAST, failover=Failover(resume=False))
    result = run([service], load(4, 60), failures=[Failure(30, "crash")]).only
    assert result.resumes == 0
    assert list(result.failed) == ["engine_broke"]
    assert 0 < result.failed["engine_broke"] < 20
    assert result.completed + result.failed["engine_broke"] == result.requests


def test_a_replica_that_hangs_is_left_after_hand_over_and_killed_when_stuck() -> None:
    """A freeze of 5 s hands its streams over after 2 s; one of 60 s gets it killed after 10 s, too. All answers end
    whole."""
    short = run(
        [Service(replicas=3, timing=FAST)], load(4, 60), failures=[Failure(20, "freeze", for_s=5)]
    ).only
    long = run(
        [Service(replicas=3, timing=FAST)], load(4, 60), failures=[Failure(20, "freeze", for_s=60)]
    ).only
    assert (short.crashes, long.crashes) == (0, 1)
    for result in (short, long):
        assert result.resumes > 0
        assert result.completed == result.requests


def test_a_replica_that_is_far_slower_is_set_aside() -> None:
    """Thirty times as slow for two minutes: the gateway's outlier detection keeps requests from it, as it does live."""
    slow = [Failure(60, "slow", for_s=120, factor=30)]
    result = run([Service(replicas=4, timing=FAST)], load(12, 240), failures=slow).only
    assert result.set_aside > 0
    assert result.completed == result.requests


def test_a_short_slowness_within_a_long_one_ends_neither() -> None:
    """The replica is well when the last of them is over."""

    def mean_ms(*failures: Failure) -> float:
        result = run([Service(timing=FAST)], load(0.5, 300), failures=failures).only
        assert result.e2e.mean_ms is not None
        return result.e2e.mean_ms

    long = Failure(0, "slow", for_s=300)
    assert mean_ms(long, Failure(10, "slow", for_s=5)) == mean_ms(long)
    assert mean_ms(Failure(10, "slow", for_s=5)) < 0.6 * mean_ms(long)


def test_failures_that_hit_nobody_are_counted() -> None:
    """A name that is not there, a time after the end: who tests with them is not to believe that all went well."""
    planned = [Failure(10, replica="nosuch"), Failure(20), Failure(10_000)]
    result = run([Service(timing=FAST)], load(1, 60), failures=planned).only
    assert (result.crashes, result.failures_missed) == (1, 2)


def test_crashes_one_after_the_other_stay_down_as_the_file_has_it() -> None:
    """Five crashes within two minutes are a crash loop: it stays down, and its hours are not paid any more."""
    storm = [Failure(20 + 11 * number, "crash", replica="chat-0") for number in range(8)]
    timing = EngineTiming(start_s=1)
    result = run([Service(replicas=2, timing=timing)], load(2, 600), failures=storm).only
    assert result.crashes == 5
    assert result.mean_replicas < 1.3
    assert result.completed == result.requests


def test_crashes_by_chance_are_as_many_as_replicas_serve_however_the_fleet_grows() -> None:
    """Twenty per replica and hour; one replica becomes twenty. Counted by those that were there first, it would be ten; the time
    of all of them together says how many, within four standard deviations."""
    growing = Scaling.model_validate(
        {
            "min": 1,
            "max": 20,
            "rules": [{"metric": "requests_per_s", "target": 0.01}],
            "up": {"cooldown_s": 0},
        }
    )
    service = Service(timing=FAST, scaling=growing, crashes_per_hour=20.0, restart=Restart(crashes_max=1000))
    result = run([service], load(0.2, 1800), until_s=1800).only
    expected = 20.0 * result.replica_hours
    assert expected > 100
    assert abs(result.crashes - expected) < 4 * expected**0.5


ON_DEMAND = Service(
    replicas=0, timing=EngineTiming(start_s=40), load_wait_s=120, idle_unload_s=60, loaded_min_s=30
)


def test_a_request_that_finds_no_replica_wakes_the_model_and_is_answered() -> None:
    """Scaled to zero and back: it waits for the load, is answered, and the replica leaves when nobody asks
    (superlinked/sie#293 unloaded while it loaded)."""
    arrivals = [Arrival(100.0, 300, 50), Arrival(110.0, 300, 50)]
    result = run([ON_DEMAND], arrivals, until_s=600).only
    assert result.completed == 2
    assert result.ttft.p50_ms is not None
    assert 28_000 < result.ttft.p50_ms < 42_000
    assert 100 < result.replica_hours * 3600 < 120
    assert [each.serving for each in result.timeline][-1] == 0


def test_a_model_whose_starts_failed_is_tried_again() -> None:
    """Starts fail from 95 s to 135 s: requests of that time are refused at once, as production does it, and not after
    load_wait_s; later ones are answered. It was dead for good before."""
    service = Service(timing=EngineTiming(start_s=5), load_wait_s=60, idle_unload_s=20)
    arrivals = [Arrival(1, 100, 10), *(Arrival(100 + 2 * number, 100, 10) for number in range(100))]
    result = run([service], arrivals, failures=[Failure(95, "starts", for_s=40)]).only
    assert 0 < result.failed["model_not_loaded"] < 30
    assert result.completed == result.requests - result.failed["model_not_loaded"]


def test_short_requests_between_two_looks_keep_a_model_loaded() -> None:
    """Every 2 s one of some tenths of a second: it is never idle for 20 s, and stays."""
    service = Service(timing=EngineTiming(start_s=5), load_wait_s=60, idle_unload_s=20)
    arrivals = [Arrival(2.3 + 2 * number, 100, 10) for number in range(100)]
    result = run([service], arrivals, interval_s=10).only
    assert {each.serving for each in result.timeline[1:20]} == {1}


def test_a_model_on_demand_begins_unloaded() -> None:
    """As `inferry up` leaves it: the first request waits for the start."""
    result = run([Service(timing=EngineTiming(start_s=40), load_wait_s=120)], [Arrival(10.0, 300, 50)]).only
    assert result.ttft.p50_ms is not None
    assert result.ttft.p50_ms > 40_000


def test_a_standby_replica_takes_over_and_is_paid_for() -> None:
    """The one that serves crashes: its streams go on at the reserve at once, none is lost, and two are paid all the time."""
    crash = [Failure(30, "crash", replica="chat-0")]
    service = Service(standby=1, timing=EngineTiming(start_s=300))
    result = run([service], load(2, 60), failures=crash, until_s=120).only
    assert result.crashes == 1
    assert result.completed == result.requests
    assert result.mean_replicas == 2
    assert {each.serving for each in result.timeline} == {1}


def test_a_request_is_told_when_the_model_takes_too_long() -> None:
    """load_wait_s shorter than the load: the request ends in model_not_loaded when it is over."""
    service = Service(replicas=0, timing=EngineTiming(start_s=300), load_wait_s=20)
    result = run([service], [Arrival(5.0, 300, 50)]).only
    assert result.failed == {"model_not_loaded": 1}


def test_the_scaler_leaves_a_model_that_sleeps_asleep_and_goes_on_when_it_is_woken() -> None:
    """With min 0: 0 to 1 is load on demand, from 1 on the rules decide, and idle time brings it back to 0."""
    scaling = Scaling.model_validate(
        {"min": 0, "max": 4, "rules": [{"metric": "running", "target": 4}], "down": {"stabilize_s": 30}}
    )
    service = Service(
        replicas=0,
        timing=EngineTiming(start_s=10),
        scaling=scaling,
        load_wait_s=120,
        idle_unload_s=60,
    )
    arrivals = (Arrival(200 + each.at_s, each.prompt_tokens, each.answer_tokens) for each in load(3, 200, 4))
    result = run([service], arrivals, until_s=900, interval_s=20).only
    assert result.completed == result.requests
    wanted = [each.wanted for each in result.timeline]
    assert set(wanted[:9]) == {0}
    assert max(wanted) > 1
    assert wanted[-1] == 0
