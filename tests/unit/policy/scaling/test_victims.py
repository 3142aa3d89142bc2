"""Who leaves first."""

from __future__ import annotations

from inferry.core.replica import ReplicaState
from inferry.policy.scaling.victims import Candidate, least_to_lose

READY, STARTING, SUSPECT = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.SUSPECT


def test_what_does_not_serve_yet_leaves_before_what_does() -> None:
    """A replica that loads has nothing to lose; one that failed still less, one that is suspect more."""
    rows = [
        Candidate("serves", READY),
        Candidate("suspect", SUSPECT, in_flight=3),
        Candidate("loads", STARTING),
        Candidate("failed", ReplicaState.FAILED),
    ]
    assert least_to_lose(rows) == ["failed", "loads", "suspect", "serves"]


def test_of_those_that_serve_the_one_with_the_fewest_requests_leaves() -> None:
    """ai-dynamo/dynamo#13559: a scale-down aborted work in flight. Fewer streams are fewer to finish."""
    rows = [Candidate("a", READY, 5, 10), Candidate("b", READY, 1, 900), Candidate("c", READY, 3, 1)]
    assert least_to_lose(rows) == ["b", "c", "a"]


def test_of_equals_the_youngest_leaves_with_its_cold_cache() -> None:
    """What has served longest has most in its cache; where all tell how much, that counts instead."""
    rows = [Candidate("old", READY, 1, 900.0), Candidate("young", READY, 1, 10.0)]
    assert least_to_lose(rows) == ["young", "old"]
    full = [
        Candidate("old", READY, 1, 900.0, cached_tokens=10),
        Candidate("young", READY, 1, 10.0, cached_tokens=5000),
    ]
    assert least_to_lose(full) == ["old", "young"]


def test_standby_replicas_leave_last_and_of_equals_the_newest_first() -> None:
    """They are counted apart, but for one that failed; nothing depends on how ids sort ("chat-10" is before "chat-2")."""
    rows = [
        Candidate("spare", READY, standby=True),
        Candidate("chat-10", STARTING),
        Candidate("chat-2", STARTING),
        Candidate("broken spare", ReplicaState.FAILED, standby=True),
    ]
    assert least_to_lose(rows) == ["broken spare", "chat-2", "chat-10", "spare"]
