"""A replica failed this request: try another one, go on at another one, or tell the client? Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_S = 10.0
FREE = 10
"""Extra attempts that are always allowed within the window: a budget of a few requests would be none."""


@dataclass(frozen=True, slots=True)
class Retry:
    because: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    because: str


def decide_retry(
    *, answer_begun: bool, attempts: int, attempts_max: int, others: int, may_wait: bool = False
) -> Retry | GiveUp:
    """`others`: replicas that take requests and have not been tried for this one. `may_wait`: one more is coming.

    A request is safe to send again as long as the client has seen nothing of an answer: generating text
    changes nothing outside the engine.
    """
    if answer_begun:
        return GiveUp("part of the answer has gone out")
    if attempts >= attempts_max:
        return GiveUp(f"tried {attempts} times, the most that gateway.attempts_max allows")
    if others <= 0:
        return Retry("one that is being started") if may_wait else GiveUp("no other replica takes requests")
    return Retry(f"{others} other replica{'s' if others != 1 else ''} can take it")


def decide_resume(*, wanted: bool, resumes: int, resumes_max: int) -> Retry | GiveUp:
    """Whether a stream that has begun may go on at another replica. `wanted`: by the file."""
    if not wanted:
        return GiveUp("part of the answer has gone out (failover.resume is off)")
    if resumes >= resumes_max:
        return GiveUp(f"it went on {resumes} times, the most that failover.resumes_max allows")
    return Retry("part of the answer has gone out, and can be gone on with")


class RetryBudget:
    """Bounds extra attempts of one deployment by its requests: a failure of everything must not multiply the load.

    Within WINDOW_S, extra attempts may be `load_factor_max - 1` times the requests that were begun then, or are under
    way if those are more, and FREE besides. The same idea as the retry budgets of Finagle and Envoy; those in flight count, so that all
    streams of a replica that dies may go on at once.
    """

    def __init__(self) -> None:
        self._begun: deque[list[float]] = deque()
        self._extra: deque[float] = deque()
        self._begun_count = 0

    def begin(self, now_s: float) -> None:
        """A request is sent for the first time."""
        begun = self._begun
        # Counted by the second: a deque of every request would be long.
        if begun and now_s - begun[-1][0] < 1.0:
            begun[-1][1] += 1.0
        else:
            begun.append([now_s, 1.0])
            self._forget(now_s)
        self._begun_count += 1

    def take(self, now_s: float, in_flight: int, load_factor_max: float) -> bool:
        """One extra attempt, if there is room for it."""
        self._forget(now_s)
        extra = self._extra
        while extra and now_s - extra[0] > WINDOW_S:
            extra.popleft()
        if len(extra) >= (load_factor_max - 1.0) * max(self._begun_count, in_flight) + FREE:
            return False
        extra.append(now_s)
        return True

    def _forget(self, now_s: float) -> None:
        begun = self._begun
        while begun and now_s - begun[0][0] > WINDOW_S:
            self._begun_count -= int(begun.popleft()[1])
