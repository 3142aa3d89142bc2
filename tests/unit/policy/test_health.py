"""When probes make a replica suspect, and when it is ready again."""

from __future__ import annotations

from inferry.core.deployment_base import Health
from inferry.core.replica import ReplicaState
from inferry.policy.health import BecomeReady, BecomeSuspect, Streak, Unchanged, decide_health

HEALTH = Health(failures_max=3)


def test_streak_counts_only_the_last_kind() -> None:
    """A probe of the other kind starts the count anew."""
    streak = Streak().after(False).after(False)
    assert streak == Streak(failures=2)
    assert streak.after(True) == Streak(successes=1)


def test_suspect_after_failures_in_a_row() -> None:
    """The limit's failure makes it suspect, none before; the reason is the probe's."""
    ready = ReplicaState.READY
    for failures in (1, 2):
        assert decide_health(ready, Streak(failures=failures), HEALTH, reason="silent") == Unchanged()
    decision = decide_health(ready, Streak(failures=3), HEALTH, reason="silent")
    assert decision == BecomeSuspect("3 failed probes in a row: silent")


def test_a_report_and_one_failed_probe_are_enough() -> None:
    """What the gateway met, confirmed by one probe, makes it suspect at once."""
    decision = decide_health(
        ReplicaState.READY, Streak(failures=1), HEALTH, reason="refuses connections", reported="cut off"
    )
    assert isinstance(decision, BecomeSuspect)
    assert "cut off" in decision.because
    assert "refuses connections" in decision.because


def test_a_report_without_a_failed_probe_changes_nothing() -> None:
    """One failed request doesn't condemn a replica that answers its probe."""
    decision = decide_health(
        ReplicaState.READY, Streak(successes=1), HEALTH, reason="answers", reported="cut"
    )
    assert decision == Unchanged()


def test_ready_again_after_two_good_probes() -> None:
    """One good probe may lie between two failures; two bring it back."""
    suspect = ReplicaState.SUSPECT
    assert decide_health(suspect, Streak(successes=1), HEALTH, reason="answers") == Unchanged()
    assert isinstance(decide_health(suspect, Streak(successes=2), HEALTH, reason="answers"), BecomeReady)
    assert decide_health(suspect, Streak(failures=9), HEALTH, reason="silent") == Unchanged()
