"""When an engine that ended by itself is started again."""

from __future__ import annotations

from inferry.core.deployment_base import Restart
from inferry.policy.restart import WELL_AFTER_S, Crash, RestartAfter, StayDown, decide_restart

RESTART = Restart(backoff_initial_s=0.5, backoff_max_s=30, crashes_max=5, window_s=120)


def decide(
    crashes: list[Crash], *, restart: Restart = RESTART, was_ever_ready: bool = True, retryable: bool = True
) -> RestartAfter | StayDown:
    return decide_restart(
        crashes, crashes[-1].at_s, restart, was_ever_ready=was_ever_ready, retryable=retryable
    )


def test_wait_doubles_until_the_crash_loop_limit() -> None:
    """Crashes close together wait 0.5, 1, 2, 4 s, and the fifth within two minutes ends it."""
    crashes: list[Crash] = []
    waits: list[float] = []
    for at_s in (0.0, 5.0, 10.0, 15.0):
        crashes.append(Crash(at_s, ready_for_s=1.0))
        decision = decide(crashes)
        assert isinstance(decision, RestartAfter)
        waits.append(decision.wait_s)
    assert waits == [0.5, 1.0, 2.0, 4.0]
    last = decide([*crashes, Crash(20.0, 1.0)])
    assert isinstance(last, StayDown)
    assert "5 times within 120 s" in last.because


def test_wait_is_capped() -> None:
    """The wait never exceeds backoff_max_s, even after a thousand crashes."""
    loose = Restart(crashes_max=1000, window_s=1.0, backoff_max_s=30)
    crashes = [Crash(at_s * 10.0, 1.0) for at_s in range(999)]
    decision = decide(crashes, restart=loose)
    assert decision == RestartAfter(30.0, decision.because)


def test_old_crashes_are_forgotten() -> None:
    """Crashes before the window don't count towards a crash loop."""
    crashes = [Crash(at_s, 1.0) for at_s in (0.0, 1.0, 2.0, 3.0, 200.0)]
    assert isinstance(decide(crashes), RestartAfter)


def test_a_well_replica_starts_over() -> None:
    """After having been ready for a while, a crash waits the initial backoff again, and the next one doubles."""
    crashes = [Crash(0.0, 1.0), Crash(1.0, 1.0), Crash(50.0, WELL_AFTER_S)]
    first, second = decide(crashes), decide([*crashes, Crash(52.0, 1.0)])
    assert isinstance(first, RestartAfter)
    assert isinstance(second, RestartAfter)
    assert (first.wait_s, second.wait_s) == (0.5, 1.0)


def test_never_ready_gives_up_after_three_attempts() -> None:
    """An engine that never came up is started three times in all."""
    first = decide([Crash(0, 0)], was_ever_ready=False)
    second = decide([Crash(0, 0), Crash(1, 0)], was_ever_ready=False)
    third = decide([Crash(0, 0), Crash(1, 0), Crash(2, 0)], was_ever_ready=False)
    assert isinstance(first, RestartAfter)
    assert first.because == "attempt 2 of 3"
    assert isinstance(second, RestartAfter)
    assert isinstance(third, StayDown)


def test_not_retryable_stays_down_at_once() -> None:
    """An end that would repeat itself is not repeated, ready before or not."""
    assert isinstance(decide([Crash(0, 0)], was_ever_ready=False, retryable=False), StayDown)
    assert isinstance(decide([Crash(0, 99)], retryable=False), StayDown)


def test_zero_crashes_allowed_means_no_restart() -> None:
    """crashes_max 0 and 1 both mean: the first crash is the last."""
    for crashes_max in (0, 1):
        decision = decide([Crash(0, 500)], restart=Restart(crashes_max=crashes_max))
        assert isinstance(decision, StayDown)
        assert "restart.crashes_max" in decision.because
