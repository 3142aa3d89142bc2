"""The budget of extra attempts, and the limit of a silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.policy.retry import FREE, WINDOW_S, GiveUp, Retry, RetryBudget, decide_resume
from inferry.policy.stall import stall_limit_s


def taken(budget: RetryBudget, now_s: float, in_flight: int, factor: float) -> int:
    """How many extra attempts there is room for."""
    count = 0
    while count < 10_000 and budget.take(now_s, in_flight, factor):
        count += 1
    return count


def test_all_streams_of_one_replica_may_go_on() -> None:
    """With 200 requests under way, and none begun lately, 50 at once are allowed; and what is free besides."""
    assert taken(RetryBudget(), 0.0, 200, 2.0) == 200 + FREE


def test_without_requests_a_few_are_free() -> None:
    """A budget of nothing would forbid the first retry."""
    assert taken(RetryBudget(), 0.0, 0, 2.0) == FREE


@given(
    begun=st.integers(0, 300),
    in_flight=st.integers(0, 300),
    factor=st.floats(1.0, 10.0),
    spread_s=st.floats(0.0, WINDOW_S - 1.1),
)
def test_the_load_grows_by_no_more_than_the_factor(
    begun: int, in_flight: int, factor: float, spread_s: float
) -> None:
    """Within the window, extra attempts are at most (factor - 1) times the requests, and FREE."""
    budget = RetryBudget()
    for index in range(begun):
        budget.begin(index * spread_s / max(begun, 1))
    count = taken(budget, spread_s, in_flight, factor)
    allowed = (factor - 1) * max(begun, in_flight) + FREE
    assert allowed <= count < allowed + 1


def test_what_is_long_ago_does_not_count() -> None:
    """Neither requests nor extra attempts from before the window."""
    budget = RetryBudget()
    for _ in range(100):
        budget.begin(0.0)
    assert taken(budget, 0.0, 0, 2.0) == 100 + FREE
    assert taken(budget, WINDOW_S + 5, 0, 2.0) == FREE


def test_a_resume_needs_leave() -> None:
    """By the file, and so often."""
    assert isinstance(decide_resume(wanted=True, resumes=0, resumes_max=1), Retry)
    off = decide_resume(wanted=False, resumes=0, resumes_max=1)
    often = decide_resume(wanted=True, resumes=1, resumes_max=1)
    assert isinstance(off, GiveUp)
    assert isinstance(often, GiveUp)
    assert "failover.resume" in off.because
    assert "failover.resumes_max" in often.because


@pytest.mark.parametrize(
    ("longest_pause_s", "limit_s"), [(0.02, 10.0), (0.9, 10.0), (2.0, 20.0), (30.0, 300.0)]
)
def test_a_slow_stream_may_be_slow(longest_pause_s: float, limit_s: float) -> None:
    """A stream is measured by its own pauses, and none is given up before stall_after_s."""
    assert stall_limit_s(longest_pause_s, stall_after_s=10.0, stall_factor=10.0) == limit_s
