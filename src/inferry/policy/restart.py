"""An engine ended by itself: start it again, and when? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inferry.core.deployment_base import Restart

WELL_AFTER_S = 30.0
"""A replica that was ready this long was well: its next crash is a new story, and waits the initial backoff.
As long as the longest default wait, so that a crash loop can't look like two stories."""
NEVER_READY_ATTEMPTS_MAX = 3
"""Starts of a replica that has never been ready: it is most likely misconfigured, and someone is waiting for
the message. Three, since a port may be taken or memory short for a moment."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One end that nobody wished for."""

    at_s: float
    """Monotonic."""
    ready_for_s: float
    """How long it had been ready; 0 if it had not got there."""


@dataclass(frozen=True, slots=True)
class RestartAfter:
    wait_s: float
    because: str


@dataclass(frozen=True, slots=True)
class StayDown:
    because: str


def decide_restart(
    crashes: Sequence[Crash],
    now_s: float,
    restart: Restart,
    *,
    was_ever_ready: bool,
    retryable: bool,
) -> RestartAfter | StayDown:
    """What to do after the last of `crashes` (oldest first, at least one).

    The wait doubles with each crash of a streak: with the defaults 0.5, 1, 2, 4 s, and the fifth crash within
    two minutes is a crash loop.
    """
    assert crashes, "decided without a crash"
    if not retryable:
        return StayDown("starting it again would end the same way")
    if not was_ever_ready and len(crashes) >= NEVER_READY_ATTEMPTS_MAX:
        return StayDown(f"it ended {len(crashes)} times without ever being ready")
    recent = sum(1 for crash in crashes if now_s - crash.at_s <= restart.window_s)
    if recent >= restart.crashes_max:
        if restart.crashes_max <= 1:
            return StayDown("the file wants no restarts (restart.crashes_max)")
        return StayDown(f"crash loop: it ended {recent} times within {restart.window_s:g} s")
    streak = 1
    for crash in reversed(crashes):
        if crash.ready_for_s >= WELL_AFTER_S or streak == len(crashes):
            break
        streak += 1
    # The exponent is bounded: 2.0**1100 would overflow, and every wait is capped long before.
    wait_s = min(restart.backoff_initial_s * 2.0 ** min(streak - 1, 60), restart.backoff_max_s)
    if was_ever_ready:
        because = f"crash {recent} of at most {restart.crashes_max - 1} within {restart.window_s:g} s"
    else:
        because = f"attempt {len(crashes) + 1} of {NEVER_READY_ATTEMPTS_MAX}"
    return RestartAfter(wait_s, because)
