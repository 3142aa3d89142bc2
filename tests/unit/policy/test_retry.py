"""After a failure: the next replica, or the end."""

from __future__ import annotations

import itertools

import pytest

from inferry.policy.retry import GiveUp, Retry, decide_retry


@pytest.mark.parametrize(
    ("begun", "attempts", "others", "decision"),
    [
        (False, 1, 1, Retry("1 other replica can take it")),
        (False, 2, 4, Retry("4 other replicas can take it")),
        (False, 3, 4, GiveUp("tried 3 times, the most that gateway.attempts_max allows")),
        (False, 1, 0, GiveUp("no other replica takes requests")),
        (True, 1, 4, GiveUp("part of the answer has gone out")),
    ],
)
def test_decision_and_reason(begun: bool, attempts: int, others: int, decision: Retry | GiveUp) -> None:
    """Each way to decide, with the words that reach the client or the log."""
    assert decide_retry(answer_begun=begun, attempts=attempts, attempts_max=3, others=others) == decision


def test_retries_only_where_it_is_safe_and_useful() -> None:
    """Over all small cases: again exactly when nothing went out, attempts are left, and somebody is left."""
    for begun, attempts, most, others in itertools.product(
        (False, True), range(1, 6), range(1, 6), range(-1, 4)
    ):
        decision = decide_retry(answer_begun=begun, attempts=attempts, attempts_max=most, others=others)
        assert isinstance(decision, Retry) is (not begun and attempts < most and others > 0)
        assert decision.because


def test_one_attempt_means_no_retry() -> None:
    """`attempts_max: 1` turns retries off."""
    assert isinstance(decide_retry(answer_begun=False, attempts=1, attempts_max=1, others=9), GiveUp)
