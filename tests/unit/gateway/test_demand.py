"""What autoscaling sees of the gateways."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from inferry.core.outcome import Ending, Outcome
from inferry.gateway.demand import Demand
from inferry.gateway.demand_seen import traffic_of
from inferry.gateway.snapshot import Snapshot, add_up


def outcome(ending: Ending = Ending.COMPLETED, status: int = 200, **more: Any) -> Outcome:
    given = {
        "id": "r",
        "request_id": "r",
        "route": "/v1/chat/completions",
        "received_wall_s": 0.0,
        "duration_s": 2.0,
    }
    return Outcome(ending=ending, status=status, **{**given, **more})


@pytest.mark.parametrize(
    ("ending", "status", "failed"),
    [
        (Ending.COMPLETED, 200, 0),
        (Ending.REJECTED, 400, 0),
        (Ending.REJECTED, 422, 0),
        (Ending.REJECTED, 429, 1),
        (Ending.FAILED, 502, 1),
        (Ending.FAILED, 503, 1),
        (Ending.FAILED, 200, 1),
        (Ending.CANCELLED, 499, 0),
        (Ending.CANCELLED, 429, 0),
    ],
)
def test_whose_fault_it_was(ending: Ending, status: int, failed: int) -> None:
    """An engine's failure, before or in the middle of an answer, and want of room count; a client's mistake and a
    client that left don't."""
    demand = Demand()
    demand.observe(outcome(ending, status))
    assert (demand.ended, demand.failed) == (1, failed)


def test_latencies_and_tokens() -> None:
    """TTFT and ITL are those of streams, as far as they came, TTFT from the moment that they begin; E2E is that of whole
    answers only: an answer that fails at once is not fast."""
    demand = Demand()
    for _ in range(2):
        demand.observe_first_token(0.5)
    assert (demand.ttft.total, demand.ended) == (2, 0)
    stream: dict[str, Any] = {"stream": True, "ttft_s": 0.5, "prompt_tokens": 10, "completion_tokens": 16}
    demand.observe(outcome(**stream))
    demand.observe(outcome(Ending.CANCELLED, 499, **stream))
    demand.observe(outcome(Ending.FAILED, 502, duration_s=0.001))
    demand.observe(outcome(prompt_tokens=1, completion_tokens=1))
    assert (demand.ttft.total, demand.itl.total, demand.e2e.total) == (2, 2, 2)
    assert demand.ttft.quantile_s(0.9) == pytest.approx(0.5, rel=0.04)
    assert demand.itl.quantile_s(0.9) == pytest.approx(0.1, rel=0.04)
    assert demand.e2e.quantile_s(0.9) == pytest.approx(2.0, rel=0.04)
    assert (demand.prompt_tokens, demand.output_tokens) == (21, 33)


def counted() -> Demand:
    demand = Demand()
    demand.arrived = 3
    demand.observe_first_token(1.0)
    demand.observe(outcome(prompt_tokens=5, completion_tokens=7, ttft_s=1.0))
    demand.observe_leaving()
    return demand


def test_processes_add_up_and_none_that_ended_is_forgotten() -> None:
    """Over the link and added up, the counts are those of all processes; of one that has ended, what it counted stays
    and what it held is gone: no counter ever falls, which a scaling decision would take for a new beginning."""
    gone = Snapshot(demand={"chat": counted()}, waiting={"chat": 9}, in_flight={"chat-0": 9}).counters_only()
    lives = Snapshot(
        demand={"chat": counted(), "code": Demand()},
        waiting={"chat": 1, "code": 8},
        stranded={"chat": 2},
        in_flight={"chat-0": 3, "chat-1": 4, "code-0": 8},
    )
    total = add_up(pickle.loads(pickle.dumps(each)) for each in (gone, lives))
    seen = traffic_of(total, "chat", {"chat-0", "chat-1"})
    assert seen is not None
    assert (seen.arrived, seen.ended, seen.failed) == (6, 4, 2)
    assert (seen.prompt_tokens, seen.output_tokens) == (10, 14)
    assert (seen.waiting, seen.in_flight) == (3, 7)
    assert (seen.ttft.total, seen.itl.total, seen.e2e.total) == (2, 2, 2)
    assert gone.demand["chat"].arrived == 3, "adding up changes no part"


def test_nobody_asked_yet() -> None:
    """A deployment that had no request has counts of 0."""
    seen = traffic_of(Snapshot(), "chat", ())
    assert seen is not None
    assert (seen.arrived, seen.waiting, seen.ttft.total) == (0, 0, 0)


def test_silent_gateways_are_missing_data() -> None:
    """While a gateway process does not answer, nobody knows what waits there: not 0, but unknown."""
    assert traffic_of(Snapshot(silent=("gateway-1",)), "chat", ()) is None
