"""The simulated replica: exact times of steps, chunks, queue and cache."""

from __future__ import annotations

import pytest

from inferry.simulate.replica import SimulatedReplica
from inferry.simulate.replica_request import SimulatedRequest
from inferry.simulate.timeline import Timeline
from inferry.simulate.timing import EngineTiming

TIMING = EngineTiming(
    prefill_tokens_per_s=1000.0,
    step_s=0.1,
    step_s_per_sequence=0.01,
    step_tokens_max=500,
    sequences_max=2,
    kv_tokens=2000,
    block_tokens=100,
)


class Nobody:
    """Hears, and does nothing."""

    def first_token(self, request: SimulatedRequest) -> None: ...

    def token(self, request: SimulatedRequest) -> None: ...

    def ended(self, request: SimulatedRequest) -> None: ...

    def preempted(self, request: SimulatedRequest) -> None: ...


def run(*requests: SimulatedRequest, timing: EngineTiming = TIMING) -> SimulatedReplica[SimulatedRequest]:
    timeline = Timeline()
    replica = SimulatedReplica("simulated-0", timing, timeline, Nobody())
    for request in requests:
        timeline.at(request.arrival_s, replica.submit, request)
    timeline.run()
    return replica


def test_one_request_takes_its_prompt_and_then_a_step_per_token() -> None:
    """300 tokens at 1,000/s and a step of 0.1 s; then 9 more tokens at 0.11 s."""
    request = SimulatedRequest(5.0, 300, 10)
    replica = run(request)
    assert request.first_token_s == pytest.approx(5.4)
    assert request.ended_s == pytest.approx(5.4 + 9 * 0.11)
    assert replica.busy_s == pytest.approx(0.4 + 9 * 0.11)
    assert replica.uncached_tokens == 300


def test_a_long_prompt_takes_several_steps() -> None:
    """1,200 tokens with at most 500 a step: three steps."""
    request = SimulatedRequest(0.0, 1200, 1)
    run(request)
    assert request.first_token_s == request.ended_s == pytest.approx(1.2 + 3 * 0.1)


def test_a_prompt_that_comes_waits_for_the_step_under_way_and_slows_answers_down() -> None:
    """It comes in the middle of the third step of an answer, is computed in the fourth, and that step is longer."""
    first = SimulatedRequest(0.0, 100, 6)  # first token at 0.2, then steps of 0.11
    second = SimulatedRequest(0.2 + 2.5 * 0.11, 200, 1)
    run(first, second)
    begins_s = 0.2 + 3 * 0.11
    assert second.first_token_s == pytest.approx(begins_s + 0.11 + 0.2)
    assert first.ended_s == pytest.approx(begins_s + 0.31 + 0.11)


def test_several_prompts_share_a_step() -> None:
    """Two short ones that came together have their first token together."""
    first, second = SimulatedRequest(0.0, 100, 1), SimulatedRequest(0.0, 100, 1)
    run(SimulatedRequest(0.0, 500, 1), first, second, timing=TIMING)
    assert first.first_token_s == second.first_token_s == pytest.approx(0.6 + 0.3)


def test_more_than_fit_wait_in_order() -> None:
    """With two places, the third begins when the first has ended: a step with its 100 tokens and the second's answer."""
    requests = [SimulatedRequest(0.0, 100, 5) for _ in range(3)]
    run(*requests)
    ends_s = requests[0].ended_s
    assert ends_s is not None
    assert requests[2].first_token_s == pytest.approx(ends_s + 0.21)


def test_a_cached_beginning_is_not_computed_again() -> None:
    """The same prompt again costs its last token; a longer one the rest."""
    again, longer = SimulatedRequest(10.0, 300, 1, (1, 2, 3)), SimulatedRequest(20.0, 500, 1, (1, 2, 3, 4, 5))
    replica = run(SimulatedRequest(0.0, 300, 1, (1, 2, 3)), again, longer)
    assert (again.cached_tokens, longer.cached_tokens) == (299, 300)
    assert again.ttft_s == pytest.approx(0.1 + 0.001)
    assert longer.ttft_s == pytest.approx(0.1 + 0.2)
    assert replica.uncached_tokens == 300 + 1 + 200


def test_a_request_costs_few_events_however_long_its_answer_is() -> None:
    """Many steps are taken at once: 500 answers of 500 tokens take some five events each, arrivals included, and not
    500."""
    timeline = Timeline()
    replica = SimulatedReplica("simulated-0", EngineTiming(), timeline, Nobody())
    requests = [SimulatedRequest(number * 0.7, 900, 500) for number in range(500)]
    for request in requests:
        timeline.at(request.arrival_s, replica.submit, request)
    timeline.run()
    events = timeline.at(timeline.now_s, replica.submit, requests[0])
    assert all(request.ended_s is not None for request in requests)
    assert replica.model.answer_tokens == 500 * 500
    assert events < 6 * 500
