"""Circuit breaker of one replica at one gateway process: shall it be asked at all, while it fails? Pure.

state      what happens                                                          goes to
closed     all requests go there                                                 open: too many failures
open       none do, for open_s, doubled by each trial that fails                 half open: the time is over
half open  one request does, as a trial; another one if it says nothing          closed: one went well
           within open_s                                                         open: one failed

Too many failures: failures_max in a row, or more than share_max of at least requests_min in the last window_s.
"""

from __future__ import annotations

from enum import StrEnum

from inferry.core.health_settings import Breaker as Settings
from inferry.policy.recent_requests import RecentRequests


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """See the module. What counts as a failure is the caller's to say; a client that leaves is none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = BreakerState.CLOSED
        self.because = ""
        """Why it is not closed."""
        self._in_a_row = 0
        self._recent = RecentRequests(settings.window_s)
        self._opened = 0
        """Times since it was last closed for longer than window_s."""
        self._until_s = 0.0
        self._closed_since_s = 0.0

    def on_success(self, now_s: float) -> None:
        self._in_a_row = 0
        self._recent.add(now_s, failed=False)
        if self.state is BreakerState.HALF_OPEN:
            self.state, self.because = BreakerState.CLOSED, ""
            self._closed_since_s = now_s
            self._recent = RecentRequests(self.settings.window_s)

    def on_failure(self, reason: str, now_s: float) -> None:
        self._in_a_row += 1
        self._recent.add(now_s, failed=True)
        if self.state is BreakerState.HALF_OPEN:
            self._open(f"a trial failed: {reason}", now_s)
        elif self.state is BreakerState.CLOSED and (why := self._why_open(now_s)) is not None:
            if now_s - self._closed_since_s > self.settings.window_s:
                self._opened = 0
            self._open(f"{why}: {reason}", now_s)

    def admits_trial(self, now_s: float) -> bool:
        """Whether it is time for one (more) request as a trial; if so, it is counted as let in."""
        if self.state is BreakerState.CLOSED or now_s < self._until_s:
            return False
        self.state = BreakerState.HALF_OPEN
        self._until_s = now_s + self.settings.open_s
        return True

    def _open(self, because: str, now_s: float) -> None:
        self.state, self.because = BreakerState.OPEN, because
        # The exponent is bounded: 2.0**1100 would overflow.
        wait_s = self.settings.open_s * 2.0 ** min(self._opened, 60)
        self._until_s = now_s + min(wait_s, self.settings.open_max_s)
        self._opened += 1

    def _why_open(self, now_s: float) -> str | None:
        settings = self.settings
        if not settings.failures_max:
            return None
        if self._in_a_row >= settings.failures_max:
            return f"{self._in_a_row} requests failed in a row"
        seen = self._recent.counts(now_s)
        if seen.requests >= settings.requests_min and seen.failures > settings.share_max * seen.requests:
            return f"{seen.failures} of {seen.requests} requests failed within {settings.window_s:g} s"
        return None
