"""A simulated service holds what the gateway's classes promise: nothing is lost or counted twice, and it is repeatable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import fmean

import msgspec
import pytest

from inferry.core.gateway_settings import Queue, Tenant
from inferry.core.limits import Limits
from inferry.core.outcome import Ending, Outcome
from inferry.core.routing_settings import Routing
from inferry.core.scaling_settings import Scaling, ScalingSlo
from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation
from inferry.simulate.arrivals import Arrival, merged
from inferry.simulate.arrivals_drawn import drawn, exponential, fixed, steps
from inferry.simulate.experiment import run
from inferry.simulate.failures import Failure
from inferry.simulate.result import ServiceResult
from inferry.simulate.service import Service
from inferry.simulate.service_budget import HostBudget
from inferry.simulate.service_request import ServedRequest
from inferry.simulate.timing import EngineTiming

TARGET = Scaling.model_validate(
    {"min": 1, "max": 6, "rules": [{"metric": "running", "target": 10}], "down": {"stabilize_s": 60}}
)


def load(rate: float, end_s: float, seed: int = 0, tenant: str = "", answer: int = 100) -> Iterator[Arrival]:
    return drawn(rate, end_s, prompt=exponential(500), answer=exponential(answer), seed=seed, tenant=tenant)


def over(result: ServiceResult) -> int:
    rejected = sum(sum(each.values()) for each in result.rejected.values())
    return result.completed + sum(result.failed.values()) + rejected


def everything_at_once(seed: int, heard: Counter[int] | None = None) -> bytes:
    def hear(request: ServedRequest, outcome: Outcome) -> None:
        if heard is not None:
            heard[id(request)] += 1
            kept.append(request)

    kept: list[ServedRequest] = []
    service = Service(
        replicas=3,
        timing=EngineTiming(start_s=20, kv_tokens=40_000),
        queue=Queue(running_max=12, waiting_max=20, wait_max_s=5),
        limits=Limits(requests_in_flight=60),
        routing=Routing(policy="power_of_two"),
        scaling=TARGET,
        slo=ScalingSlo(ttft_ms=1000, itl_ms=100),
    )
    tenants = {"a": Tenant(limits=Limits(tokens_per_minute=60_000)), "b": Tenant(weight=3)}
    failures = [
        Failure(30, "crash"),
        Failure(40, "freeze", for_s=40),
        Failure(50, "slow", for_s=30, factor=30),
        Failure(60, "gateways"),
        Failure(70, "metrics"),
        Failure(80, "starts", for_s=60),
        Failure(90, "crash"),
    ]
    arrivals = merged([load(3, 110, 1, "a"), load(3, 110, 2, "b")])
    result = run([service], arrivals, seed=seed, gateways=3, failures=failures, tenants=tenants, heard=hear)
    return result.to_json()


def test_each_request_ends_exactly_once_whatever_happens() -> None:
    """Failures, limits, queues, three gateways and scaling at once: as many ends as arrivals, one for each."""
    heard: Counter[int] = Counter()
    everything_at_once(7, heard)
    arrivals = sum(1 for _ in merged([load(3, 110, 1, "a"), load(3, 110, 2, "b")]))
    assert len(heard) == arrivals
    assert set(heard.values()) == {1}


def test_the_same_run_gives_the_same_bytes_and_another_seed_others() -> None:
    """Same seed, same bytes."""
    first = everything_at_once(7)
    assert everything_at_once(7) == first
    assert everything_at_once(8) != first


def test_a_single_server_waits_as_queueing_theory_says() -> None:
    """One at a time, Poisson arrivals, exponential work: the mean time in the system of M/M/1 is 1 / (mu - lambda)."""
    times_s: list[float] = []
    timing = EngineTiming(
        prefill_tokens_per_s=1000, step_s=0.0, step_s_per_sequence=0.0, sequences_max=1, step_tokens_max=10**6
    )
    arrivals = drawn(0.5, 20_000, prompt=exponential(1000), answer=fixed(1), seed=3)
    run([Service(timing=timing)], arrivals, heard=lambda request, outcome: times_s.append(outcome.duration_s))
    assert fmean(times_s) == pytest.approx(1 / (1.0 - 0.5), rel=0.05)


def test_what_is_not_limited_is_counted_in_whole() -> None:
    """Figures of a calm service: all were answered, within the objectives, and the replicas' hours are the run's."""
    slo = ScalingSlo(ttft_ms=2000, itl_ms=100)
    result = run([Service(replicas=2, gpus_per_replica=4, slo=slo)], load(2, 300)).only
    assert result.completed == result.requests == over(result)
    assert result.attainment == 1.0
    assert result.goodput_per_s == pytest.approx(result.requests / result.duration_s)
    assert result.gpu_hours == pytest.approx(2 * 4 * result.duration_s / 3600)
    assert sum(each.arrivals for each in result.timeline) <= result.requests
    assert result.ttft.p50_ms is not None
    assert result.ttft.p50_ms < 300


def test_who_still_waits_at_the_end_has_missed() -> None:
    """A minute of far too much at the end of a run: whether those that wait are refused after a second or still stand
    there, about as few kept the objectives."""
    kept = []
    for wait_max_s in (1.0, 3600.0):
        service = Service(
            queue=Queue(running_max=32, waiting_max=10**6, wait_max_s=wait_max_s),
            slo=ScalingSlo(ttft_ms=2000, itl_ms=100),
        )
        arrivals = merged(
            [load(2, 100), (msgspec.structs.replace(each, at_s=each.at_s + 60) for each in load(40, 40))]
        )
        result = run([service], arrivals, until_s=100).only
        assert result.attainment is not None
        kept.append(result.attainment)
        decided = over(result) + result.late_under_way
        assert result.attainment == result.in_slo / decided
        assert decided > 0.9 * result.requests
    assert result.under_way > result.requests / 2
    assert kept[1] < kept[0] + 0.05


def test_prompts_that_the_model_can_not_take_are_refused_and_answers_end_with_its_context() -> None:
    """As engines do: a prompt as long as the context is the client's mistake, however much memory there is."""
    timing = EngineTiming(context_tokens=2048)
    arrivals = [Arrival(0, 2048, 10), Arrival(1, 2000, 500), Arrival(2, 1000, 10)]
    result = run([Service(timing=timing)], arrivals).only
    assert result.rejected == {"": {"engine_rejected": 1}}
    assert (result.completed, result.answer_tokens) == (2, 48 + 10)


def test_two_who_ask_for_more_than_there_is_get_equal_tokens() -> None:
    """Fair shares: one tenant sends five times as many requests; both wait all the time, and get the same service."""
    given: Counter[str] = Counter()

    def hear(request: ServedRequest, outcome: Outcome) -> None:
        if outcome.ending is Ending.COMPLETED and outcome.received_wall_s + outcome.duration_s > 60:
            given[request.tenant] += outcome.completion_tokens or 0

    service = Service(queue=Queue(running_max=8, waiting_max=2000, wait_max_s=600))
    arrivals = merged([load(20, 240, 1, "many"), load(4, 240, 2, "few", answer=100)])
    run([service], arrivals, until_s=240, heard=hear)
    assert given["few"] == pytest.approx(given["many"], rel=0.1)


def test_a_tenants_limit_holds_and_the_others_do_not_feel_it() -> None:
    """60 requests a minute for one tenant: of its 5 a second, 60 in each 60 s are let in; nobody else is refused."""
    times_s: list[float] = []

    def hear(request: ServedRequest, outcome: Outcome) -> None:
        if request.tenant == "small" and outcome.ending is Ending.COMPLETED:
            times_s.append(request.arrival_s)

    tenants = {"small": Tenant(limits=Limits(requests_per_minute=60))}
    arrivals = merged([load(5, 180, 1, "small"), load(2, 180, 2, "other")])
    result = run([Service(replicas=3)], arrivals, gateways=2, tenants=tenants, heard=hear).only
    times_s.sort()
    assert list(result.rejected) == ["small"]
    assert list(result.rejected["small"]) == ["rate_limit_exceeded"]
    assert all(later - first >= 59.0 for first, later in zip(times_s, times_s[60:], strict=False))
    assert 120 <= len(times_s) <= 180


def test_fewer_replicas_under_load_lose_no_stream() -> None:
    """The load falls, replicas leave while they have streams: all of those end whole (ai-dynamo/dynamo#13559 cut them)."""
    arrivals = drawn(steps([(0, 6.0), (200, 1.0)]), 600, prompt=fixed(300), answer=exponential(400), seed=5)
    service = Service(replicas=6, scaling=TARGET, timing=EngineTiming(start_s=30))
    result = run([service], arrivals, until_s=900).only
    assert any(each.to < each.was for each in result.decisions)
    assert result.completed == result.requests
    assert result.resumes == 0


def test_the_timeline_adds_up() -> None:
    """Intervals have the arrivals and the ends of the run between them."""
    result = run([Service(replicas=2)], load(2, 300), until_s=600, interval_s=50).only
    assert len(result.timeline) == 12
    assert sum(each.arrivals for each in result.timeline) == result.requests
    assert sum(each.completed for each in result.timeline) == result.completed


def test_two_deployments_share_the_hosts_gpus() -> None:
    """Each wants six replicas of two GPUs, and there are 16: together they never hold more (ai-dynamo/dynamo#12428)."""
    services = [
        Service(name=name, scaling=TARGET, gpus_per_replica=2, timing=EngineTiming(start_s=20))
        for name in ("chat", "code")
    ]
    arrivals = (
        msgspec.structs.replace(each, deployment=name)
        for each, name in (
            (each, "chat" if number % 2 else "code") for number, each in enumerate(load(24, 120))
        )
    )
    result = run(services, arrivals, until_s=200, interval_s=10, budget=HostBudget(gpus_max=16))
    chat, code = (each.timeline for each in result.services)
    held = [2 * (a.serving + a.coming + b.serving + b.coming) for a, b in zip(chat, code, strict=True)]
    assert max(held) == 16
    assert any("GPU" in each.because for service in result.services for each in service.decisions)


def test_a_decision_sees_what_production_would_show_it() -> None:
    """Readings are half a second old, counts are the gateways', and replicas that load are on the way."""
    seen: list[Observation] = []

    class Two:
        every_s = 15.0

        def decide(self, observation: Observation) -> ScalingDecision:
            seen.append(observation)
            return ScalingDecision(
                observation.now_s,
                observation.wanted,
                2,
                "test",
                "two",
                len(observation.serving),
                observation.coming,
            )

    result = run([Service(autoscaler=Two)], load(2, 200), gateways=2).only
    assert [each.now_s for each in seen[:3]] == [0, 15, 30]
    assert {reading.read_s for reading in seen[1].serving} == {14.5}
    assert [(each.coming, len(each.serving)) for each in seen[:2]] == [(0, 1), (1, 1)]
    traffic = seen[-1].traffic
    assert traffic is not None
    assert traffic.arrived <= result.requests
    assert 0 < traffic.ended <= traffic.arrived
    assert (
        traffic.ended < traffic.ttft.total <= traffic.ended + traffic.in_flight
    )  # streams count as they begin
    assert seen[-1].start_s == 120
    assert all(0 < (reading.gpu_use or 0) <= 1 for reading in seen[5].serving)


def test_answers_are_no_longer_than_the_cap() -> None:
    """completion_tokens_max: clients that name no length get the cap, and the engine stops there."""
    service = Service(limits=Limits(completion_tokens_max=20))
    result = run([service], (Arrival(float(at), 100, 50) for at in range(10))).only
    assert result.answer_tokens == 10 * 20
