"""Go on, wait, or put all back: what new replicas are judged by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.core.replica import ReplicaState
from inferry.policy.rollout import (
    FAILURES_MIN,
    PATIENCE_S,
    GoOn,
    NewReplica,
    RollBack,
    Served,
    Wait,
    judge_rollout,
)

READY = NewReplica("chat-3", ReplicaState.READY, 0)
SUSPECT = NewReplica("chat-3", ReplicaState.SUSPECT, 0, "2 failed probes in a row")


def judge(
    *new: NewReplica,
    served_new: Served = Served(),  # noqa: B008 - frozen
    served_old: Served = Served(),  # noqa: B008 - frozen
    watched_s: float = 0.0,
    ready_s: float = 0.0,
    wanted_s: float = 10.0,
) -> Wait | GoOn | RollBack:
    return judge_rollout(
        new or (READY,),
        served_new=served_new,
        served_old=served_old,
        watched_s=watched_s,
        ready_s=ready_s,
        wanted_s=wanted_s,
    )


def test_ready_for_as_long_as_wanted() -> None:
    """It goes on once all new replicas have been ready for so long at a stretch, and says what was served."""
    assert isinstance(judge(ready_s=9.9, watched_s=9.9), Wait)
    verdict = judge(ready_s=10, watched_s=10, served_new=Served(40, 1), served_old=Served(80, 1))
    assert verdict == GoOn("ready for 10 s; failed: 1 of 40 requests, of the old ones 1 of 80 requests")


def test_without_traffic_it_goes_on() -> None:
    """Where nothing was asked, nothing speaks against the new version."""
    assert isinstance(judge(ready_s=10, watched_s=10), GoOn)


@pytest.mark.parametrize(
    ("replica", "said"),
    [
        (
            NewReplica("chat-3", ReplicaState.FAILED, 0, "killed"),
            "chat-3 ended after it had been ready: killed",
        ),
        (NewReplica("chat-3", ReplicaState.PENDING, 0), "chat-3 ended after it had been ready"),
        (NewReplica("chat-3", ReplicaState.READY, 1), "chat-3 ended after it had been ready"),
    ],
)
def test_one_that_ended_takes_all_back(replica: NewReplica, said: str) -> None:
    """Whether it is down now, waits for its restart, or is up again: it ended, and that is enough."""
    assert judge(READY, replica, ready_s=10, watched_s=10) == RollBack(said)


def test_suspect_ones_get_time() -> None:
    """A replica that is suspect in between may recover; one that stays so is too late at some point."""
    assert isinstance(judge(SUSPECT, watched_s=10 + PATIENCE_S - 1), Wait)
    verdict = judge(SUSPECT, watched_s=10 + PATIENCE_S)
    assert verdict == RollBack("not ready for 10 s at a stretch: chat-3 is suspect")


@pytest.mark.parametrize(
    ("new", "old", "worse"),
    [
        (Served(3, 3), Served(100, 0), True),
        (Served(2, 2), Served(100, 0), False),  # too few to say anything
        (Served(30, 6), Served(100, 1), True),
        (Served(30, 6), Served(100, 20), False),  # the old ones fail as often
        (Served(1000, 15), Served(1000, 10), False),  # half a hundredth more
        (Served(1000, 60), Served(1000, 10), True),
        (Served(300, 3), Served(0, 0), False),
        (Served(3, 9), Served(0, 0), True),  # failures are counted sooner than requests
    ],
)
def test_more_failures_take_all_back(new: Served, old: Served, worse: bool) -> None:
    """Only a difference that is beyond doubt does, and then at once."""
    verdict = judge(served_new=new, served_old=old)
    assert isinstance(verdict, RollBack) == worse
    if worse:
        assert verdict.because == f"{new} failed at the new version, and {old} at the old one"


counts = st.integers(0, 10_000)


@given(counts, counts, counts, counts)
def test_a_version_that_fails_less_is_never_taken_back(a: int, b: int, c: int, d: int) -> None:
    """Whatever the numbers: failing at most as often as the old ones is no reason."""
    new, old = Served(max(a, b), min(a, b)), Served(max(c, d), min(c, d))
    if new.ratio <= old.ratio or new.failures < FAILURES_MIN:
        assert not isinstance(judge(served_new=new, served_old=old), RollBack)


@given(counts, counts, st.integers(0, 1000))
def test_more_failures_are_never_better(requests: int, failures: int, more: int) -> None:
    """Once so many failures take it back, more of them do, too."""
    old = Served(1000, 10)
    low, high = Served(requests + more, failures), Served(requests + more, failures + more)
    if isinstance(judge(served_new=low, served_old=old), RollBack):
        assert isinstance(judge(served_new=high, served_old=old), RollBack)
