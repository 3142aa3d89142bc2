"""The circuit breaker: what opens it, how one trial at a time closes it, and how it grows patient."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferry.core.health_settings import Breaker as Settings
from inferry.policy.breaker import Breaker, BreakerState
from inferry.policy.recent_requests import RecentRequests, RequestCounts

SETTINGS = Settings(failures_max=3, share_max=0.5, requests_min=10, window_s=10, open_s=2, open_max_s=8)


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


def opened(at_s: float = 100.0) -> Breaker:
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.on_failure("cut", at_s)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """The third one does, and says why; a success between them begins the count anew."""
    breaker = Breaker(SETTINGS)
    for step in ("cut", "cut", None, "cut", "cut"):
        if step is None:
            breaker.on_success(100)
        else:
            breaker.on_failure(step, 100)
    assert state_of(breaker) is BreakerState.CLOSED
    breaker.on_failure("cut", 100)
    assert state_of(breaker) is BreakerState.OPEN
    assert breaker.because == "3 requests failed in a row: cut"


def test_a_share_of_failures_opens_it() -> None:
    """More than half of at least ten requests of the last seconds, though never many in a row."""
    breaker = Breaker(Settings(failures_max=100, share_max=0.5, requests_min=10))
    for _ in range(4):
        breaker.on_failure("answered 500", 100)
        breaker.on_success(100)
    breaker.on_failure("answered 500", 101)
    assert state_of(breaker) is BreakerState.CLOSED  # 5 of 9: too few to say
    breaker.on_failure("answered 500", 101)
    assert state_of(breaker) is BreakerState.OPEN
    assert breaker.because == "6 of 10 requests failed within 10 s: answered 500"


def test_old_failures_are_forgotten() -> None:
    """What happened before the window says nothing."""
    breaker = Breaker(SETTINGS)
    for second in range(100, 700, 15):
        breaker.on_failure("cut", second)
        breaker.on_failure("cut", second)
        breaker.on_success(second)
    assert state_of(breaker) is BreakerState.CLOSED


def test_one_trial_at_a_time() -> None:
    """When its time is over it admits one request; another one only if nothing was heard of that for open_s."""
    breaker = opened(100)
    assert not breaker.admits_trial(101.9)
    assert breaker.admits_trial(102)
    assert not breaker.admits_trial(102)
    assert not breaker.admits_trial(103.9)
    assert breaker.admits_trial(104)


def test_a_good_trial_closes_it() -> None:
    """And all is as at the beginning."""
    breaker = opened(100)
    assert breaker.admits_trial(102)
    breaker.on_success(102.5)
    assert (state_of(breaker), breaker.because) == (BreakerState.CLOSED, "")
    breaker.on_failure("cut", 103)
    breaker.on_failure("cut", 103)
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_success_of_an_old_request_does_not_close_it() -> None:
    """A stream that began before and ends well says nothing of new requests."""
    breaker = opened(100)
    breaker.on_success(101)
    assert state_of(breaker) is BreakerState.OPEN


def test_each_failed_trial_doubles_the_wait() -> None:
    """2, 4, 8, and 8 s: the most that the file allows."""
    breaker = opened(100)
    now_s, waits = 100.0, []
    for _ in range(4):
        began_s = now_s
        while not breaker.admits_trial(now_s):
            now_s += 0.5
        waits.append(now_s - began_s)
        breaker.on_failure("cut", now_s)
        assert breaker.because == "a trial failed: cut"
    assert waits == [2, 4, 8, 8]


def test_patience_lasts_until_it_was_well_for_a_while() -> None:
    """Opened again soon after it closed, it waits longer; after a window without trouble, as at first."""
    for quiet_s, wait_s in ((1, 4), (20, 2)):
        breaker = opened(100)
        assert breaker.admits_trial(102)
        breaker.on_success(102)
        for _ in range(3):
            breaker.on_failure("cut", 102 + quiet_s)
        assert not breaker.admits_trial(102 + quiet_s + wait_s - 0.1)
        assert breaker.admits_trial(102 + quiet_s + wait_s)


def test_it_can_be_switched_off() -> None:
    """failures_max 0: whatever fails, it stays closed."""
    breaker = Breaker(Settings(failures_max=0))
    for _ in range(1000):
        breaker.on_failure("cut", 100)
    assert state_of(breaker) is BreakerState.CLOSED


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["ok", "bad", "trial"])), max_size=80))
def test_it_always_gives_another_chance(steps: list[tuple[float, str]]) -> None:
    """Whatever happened: within open_max_s it admits a trial, and a success after that closes it."""
    breaker, now_s = Breaker(SETTINGS), 0.0
    for wait_s, what in steps:
        now_s += wait_s
        if what == "trial":
            breaker.admits_trial(now_s)
        elif what == "ok":
            breaker.on_success(now_s)
        else:
            breaker.on_failure("cut", now_s)
        assert (state_of(breaker) is BreakerState.CLOSED) == (breaker.because == "")
    now_s += SETTINGS.open_max_s
    if state_of(breaker) is not BreakerState.CLOSED:
        assert breaker.admits_trial(now_s)
        breaker.on_success(now_s)
    assert state_of(breaker) is BreakerState.CLOSED


@given(st.lists(st.tuples(st.floats(0, 12), st.booleans()), max_size=60))
def test_the_window_counts_between_half_and_all_of_it(steps: list[tuple[float, bool]]) -> None:
    """Everything of the last half is counted, and nothing older than the whole."""
    recent, now_s, seen = RecentRequests(10), 0.0, []
    for wait_s, failed in steps:
        now_s += wait_s
        recent.add(now_s, failed=failed)
        seen.append((now_s, failed))
    counts = recent.counts(now_s)
    assert sum(now_s - at_s < 5 for at_s, _ in seen) <= counts.requests
    assert counts.requests <= sum(now_s - at_s <= 10 for at_s, _ in seen)
    assert counts.failures <= counts.requests


def test_times_to_first_token_are_summed() -> None:
    """Only of requests that had one."""
    recent = RecentRequests(10)
    recent.add(1, failed=False, ttft_s=0.5)
    recent.add(1, failed=False)
    recent.add(1, failed=True, ttft_s=1.5)
    assert recent.counts(2) == RequestCounts(3, 1, 2, 2.0)
