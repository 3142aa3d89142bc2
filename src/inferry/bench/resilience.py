"""What users see when a replica is killed or stopped in the middle of a run: how many fail, how long streams stand
still, and when it is as before. Pure, but for the blow itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

from msgspec import Struct

from inferry.bench.records import EngineSample, RequestRecord, RunRecord
from inferry.bench.statistics import Sample
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError

SLOW = 2.0
"""A first token is late that took this many times the p99 of those before the blow."""
BEFORE_LEAST = 20
"""Requests before the blow, without which there is nothing to be as before."""
SILENCE_S = 2.5
"""A replica was away whose engine told nothing for so long: it is asked once a second."""


class Blow(Struct, frozen=True, kw_only=True):
    """What is done to a replica, and when."""

    kind: Literal["kill", "stop"]
    replica: str
    pid: int
    after_s: float
    """From the run's start."""


class Resilience(Struct, frozen=True, kw_only=True):
    """Seconds and shares; None where nobody can say."""

    kind: Literal["kill", "stop"]
    replica: str
    at_s: float
    """On the run's clock."""
    under_way: int
    """Requests when it happened, on all replicas."""
    under_way_failed: int
    after: int
    """Requests that were due from then on, until the end of the run."""
    after_failed: int
    error_share: float
    """Failed of all these."""
    resume_gap_s: float | None
    """The longest pause of a stream that was under way and came to its proper end."""
    recovery_s: float | None
    """From then until the last request was due that failed or waited SLOW times as long as before; 0: none did.
    None: too few came before, or it was not as before when the run ended."""
    replica_back_s: float | None
    """From then until its engine told of itself again; None: not within the run, or it tells nothing."""


class Striker:
    """Strikes once, when the run's clock says so. `landed_s` is when it did, on the monotonic clock; None: it did not."""

    def __init__(self, blow: Blow) -> None:
        """Raises ProcessLookupError where the process is gone."""
        self._blow = blow
        # Held from the beginning on: an id alone can belong to another process by the time of the blow.
        self._process = os.pidfd_open(blow.pid) if hasattr(os, "pidfd_open") else None
        self._timer: asyncio.TimerHandle | None = None
        self._clock = SystemClock()
        self.landed_s: float | None = None

    def note(self, run_s: float) -> None:
        """The run's clock is at `run_s` now."""
        if self._timer is None:
            wait_s = max(0.0, self._blow.after_s - run_s)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._strike)

    def _strike(self) -> None:
        if self._send(signal.SIGKILL if self._blow.kind == "kill" else signal.SIGSTOP):
            self.landed_s = self._clock.now_s()

    def _send(self, number: signal.Signals) -> bool:
        try:
            if self._process is not None:
                signal.pidfd_send_signal(self._process, number)
            else:
                os.kill(self._blow.pid, number)
        except ProcessLookupError:  # it has ended by itself
            return False
        return True

    def end(self) -> None:
        """What was stopped goes on, unless somebody has ended it."""
        if self._timer is not None:
            self._timer.cancel()
        if self.landed_s is not None and self._blow.kind == "stop":
            self._send(signal.SIGCONT)
        if self._process is not None:
            os.close(self._process)


@contextmanager
def striking(blow: Blow | None) -> Iterator[Striker | None]:
    """A striker for one run; None: nothing is done. Raises ConfigError where the replica's process is gone."""
    if blow is None:
        yield None
        return
    try:
        striker = Striker(blow)
    except ProcessLookupError as error:
        raise ConfigError(f"{blow.replica} (pid {blow.pid}) has ended before it could be struck.") from error
    try:
        yield striker
    finally:
        striker.end()


def look(blow: Blow, at_s: float, record: RunRecord) -> Resilience:
    """What came of a blow at `at_s` of the run's clock."""
    measured = [each for each in record.requests if not each.warmup]
    under_way = [each for each in measured if _is_under_way(each, at_s)]
    after = [each for each in measured if each.due_s >= at_s]
    failed = sum(each.failed for each in under_way), sum(each.failed for each in after)
    touched = len(under_way) + len(after)
    return Resilience(
        kind=blow.kind,
        replica=blow.replica,
        at_s=at_s,
        under_way=len(under_way),
        under_way_failed=failed[0],
        after=len(after),
        after_failed=failed[1],
        error_share=sum(failed) / touched if touched else 0.0,
        resume_gap_s=max((_pause_s(each, at_s) for each in under_way if not each.failed), default=None),
        recovery_s=_recovery_s(measured, after, at_s),
        replica_back_s=_back_s(record.samples, blow.replica, at_s),
    )


def words(found: Resilience) -> str:
    """For people."""
    parts = [
        f"{found.replica} was {'killed' if found.kind == 'kill' else 'stopped'} at {found.at_s:.1f} s: "
        f"{found.under_way_failed} of {found.under_way} under way failed, {found.after_failed} of {found.after} later ones"
    ]
    if found.resume_gap_s is not None:
        parts.append(f"streams paused for up to {found.resume_gap_s:.2f} s")
    if found.recovery_s is None:
        parts.append("not seen to be as before")
    else:
        parts.append(f"as before after {found.recovery_s:.1f} s")
    if found.replica_back_s is not None:
        parts.append(f"the replica was back after {found.replica_back_s:.1f} s")
    return "; ".join(parts)


def _is_under_way(request: RequestRecord, at_s: float) -> bool:
    return (
        request.sent_s is not None
        and request.sent_s < at_s
        and request.due_s < at_s
        and (request.ended_s is None or request.ended_s >= at_s)
    )


def _pause_s(request: RequestRecord, at_s: float) -> float:
    """Its longest pause that ended after `at_s`, waiting for the first token among them."""
    marks = [request.sent_s or at_s, *request.chunk_s]
    return max((later - earlier for earlier, later in pairwise(marks) if later >= at_s), default=0.0)


def _recovery_s(measured: list[RequestRecord], after: list[RequestRecord], at_s: float) -> float | None:
    before = [
        wait for each in measured if each.due_s < at_s and (wait := _wait_s(each, until_s=at_s)) is not None
    ]
    if len(before) < BEFORE_LEAST or not after:
        return None
    limit = SLOW * (Sample(before).percentile(0.99) or 0.0)
    slow = [each.due_s for each in after if each.failed or (_wait_s(each) or 0.0) > limit]
    if not slow:
        return 0.0
    last = max(slow)
    # The last few of the run must have been good, or nobody knows when it would have been.
    return last - at_s if sum(each.due_s > last for each in after) >= BEFORE_LEAST else None


def _wait_s(request: RequestRecord, until_s: float | None = None) -> float | None:
    first_s = request.first_token_s
    if request.failed or first_s is None or (until_s is not None and first_s > until_s):
        return None
    return first_s - request.due_s


def _back_s(samples: tuple[EngineSample, ...], replica: str, at_s: float) -> float | None:
    told = sorted(each.at_s for each in samples if each.replica == replica)
    back = [later for earlier, later in pairwise(told) if later > at_s and later - earlier > SILENCE_S]
    return back[0] - at_s if back else None
