"""Watches each replica from this gateway process: who is barred for failing or being slow, who warms up, and what
the control process is told of their progress.

The judges are in policy/: breaker.py, outliers.py, slow_start.py. Here their words reach the balancer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from inferry.core.health_settings import Health
from inferry.core.outcome import Ending, Outcome
from inferry.core.replica import ReplicaProgress, ReplicaState, ReplicaView
from inferry.gateway.account import Account
from inferry.gateway.back_pressure import BackPressure
from inferry.gateway.replica_progress import progress_of
from inferry.gateway.served import ServedDeployment
from inferry.policy.breaker import Breaker, BreakerState
from inferry.policy.outliers import PeerRecord, aside_s, find_outliers
from inferry.policy.recent_requests import RecentRequests
from inferry.policy.routing import Slot
from inferry.policy.slow_start import share_of

log = structlog.get_logger()

LOOK_S = 0.5
"""Between two looks, and two reports."""
SETTLED_S = 60.0
"""An outlier that was not set aside for so long is a first one again."""
_UP = (ReplicaState.READY, ReplicaState.SUSPECT)
OnProgress = Callable[[Mapping[str, ReplicaProgress]], None]


class Log(Protocol):
    """Who is told that a replica is set aside, and that it is back."""

    def info(self, event: str, **fields: object) -> object: ...

    def warning(self, event: str, **fields: object) -> object: ...


class _Watched:
    """One replica, in one life of its engine."""

    def __init__(self, deployment: ServedDeployment, slot: Slot) -> None:
        self.deployment = deployment
        self.slot = slot
        self.up = False
        """Its engine has been ready, and has not gone since."""
        self.warms_since_s: float | None = None
        self.heard_s: float | None = None
        self.failures = 0
        """Attempts that failed there, ever."""
        self.asides = 0
        self.aside_until_s: float | None = None
        self.was_aside_s = 0.0
        self.because = ""
        self.begin_life(deployment.spec.health)

    def begin_life(self, health: Health) -> None:
        self.breaker = Breaker(health.breaker)
        self.recent = RecentRequests(health.outliers.window_s)
        self.aside_until_s = None


class ReplicaWatch:
    """All replicas of one gateway process. Callbacks on its loop; nothing here waits."""

    def __init__(
        self,
        now_s: Callable[[], float],
        on_failure: Callable[[str, str], None],
        on_progress: OnProgress,
        active: Iterable[object],
        logger: Log = log,
    ) -> None:
        """`on_failure(replica_id, reason)` hears each failure that a request met, `on_progress` what is under way."""
        self._log = logger
        self._now_s = now_s
        self._tell_failure = on_failure
        self._tell_progress = on_progress
        self._active = active
        self._watched: dict[str, _Watched] = {}
        self._looked_s = now_s()
        self._told_some = False

    # --- what happens ---------------------------------------------------------------------------------

    def on_view(self, deployment: ServedDeployment, view: ReplicaView, slot: Slot) -> None:
        """The fleet has published it."""
        watched = self._watched.get(view.id)
        if watched is None:
            watched = self._watched[view.id] = _Watched(deployment, slot)
            watched.up = slot.state in _UP  # it was ready before we came: it is warm
        elif slot.state not in _UP:
            watched.up = False
        elif not watched.up:
            watched.up = True
            watched.begin_life(deployment.spec.health)
            deployment.balancer.let_in(slot)
            if deployment.spec.health.slow_start_s:
                watched.warms_since_s = self._now_s()
                deployment.balancer.set_share(slot, share_of(0.0, deployment.spec.health.slow_start_s))

    def forget(self, replica_id: str) -> None:
        self._watched.pop(replica_id, None)

    def on_failure(self, replica_id: str, reason: str) -> None:
        """A request met a failure there, whatever became of the request."""
        self._count_failure(replica_id, reason)
        self._tell_failure(replica_id, reason)

    def on_outcome(self, account: Account, outcome: Outcome) -> None:
        """A request has ended; its last replica answers for that."""
        watched = None if account.replica_id is None else self._watched.get(account.replica_id)
        if watched is None:
            return
        now_s = self._now_s()
        if account.whole:
            watched.heard_s = now_s
        elif (
            isinstance(account, BackPressure) and account.has_heard
        ):  # a client that leaves is no sign of life
            watched.heard_s = max(watched.heard_s or 0.0, account.activity_s)
        if account.status < 500 and (account.whole or outcome.ending is Ending.COMPLETED):
            ttft_s = None
            if account.first_byte_s is not None and outcome.stream and not account.resumes:
                ttft_s = account.first_byte_s - account.sent_s
            self._count_success(watched, ttft_s, now_s)

    def on_success(self, replica_id: str, ttft_s: float | None) -> None:
        """A request was answered there; `on_outcome` tells it of exchanges."""
        watched = self._watched.get(replica_id)
        if watched is not None:
            self._count_success(watched, ttft_s, self._now_s())

    def _count_success(self, watched: _Watched, ttft_s: float | None, now_s: float) -> None:
        watched.recent.add(now_s, failed=False, ttft_s=ttft_s)
        watched.breaker.on_success(now_s)
        if (watched.slot.barred or watched.slot.trial) and watched.breaker.state is BreakerState.CLOSED:
            self._let_in_unless_aside(watched)

    def _count_failure(self, replica_id: str, reason: str) -> None:
        watched = self._watched.get(replica_id)
        if watched is None:
            return
        now_s = self._now_s()
        watched.failures += 1
        watched.recent.add(now_s, failed=True)
        watched.breaker.on_failure(reason, now_s)
        if watched.breaker.state is BreakerState.OPEN and not watched.slot.barred:
            self._bar(watched, watched.breaker.because)

    # --- as time passes -------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Some 20 times a second."""
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._report(now_s)
            self._look(now_s)

    def failures(self) -> dict[str, int]:
        """By replica: attempts that failed there since it came, whatever became of the request."""
        return {replica_id: watched.failures for replica_id, watched in self._watched.items()}

    def barred(self) -> dict[str, str]:
        """Replicas that are set aside here, each with the reason."""
        return {name: each.because for name, each in self._watched.items() if each.slot.barred}

    def _report(self, now_s: float) -> None:
        heard_s = {name: each.heard_s for name, each in self._watched.items() if each.heard_s is not None}
        found = progress_of(self._active, heard_s, now_s)
        if found or self._told_some:
            self._tell_progress(found)
        self._told_some = bool(found)

    def _look(self, now_s: float) -> None:
        for each in self._watched.values():
            each.breaker.settings = each.deployment.spec.health.breaker
            self._warm_up(each, now_s)
            self._try_again(each, now_s)
        deployments = {each.deployment.name: each.deployment for each in self._watched.values()}
        for deployment in deployments.values():
            self._look_for_outliers(deployment, now_s)

    def _warm_up(self, watched: _Watched, now_s: float) -> None:
        if watched.warms_since_s is None:
            return
        share = share_of(now_s - watched.warms_since_s, watched.deployment.spec.health.slow_start_s)
        watched.deployment.balancer.set_share(watched.slot, share)
        if share >= 1.0:
            watched.warms_since_s = None

    def _try_again(self, watched: _Watched, now_s: float) -> None:
        if watched.aside_until_s is not None:
            if now_s < watched.aside_until_s:
                return
            watched.aside_until_s, watched.was_aside_s = None, now_s
            watched.recent = RecentRequests(watched.deployment.spec.health.outliers.window_s)
            if watched.breaker.state is BreakerState.CLOSED:
                self._let_in_unless_aside(watched)
        if watched.breaker.admits_trial(now_s):
            watched.deployment.balancer.bar(watched.slot, trial=True)

    def _look_for_outliers(self, deployment: ServedDeployment, now_s: float) -> None:
        settings = deployment.spec.health.outliers
        peers = [
            each
            for each in self._watched.values()
            if each.deployment is deployment and each.slot.state is ReplicaState.READY
        ]
        records = [
            PeerRecord(
                each.slot.id,
                each.recent.counts(now_s),
                each.slot.in_flight,
                each.slot.barred or each.breaker.state is not BreakerState.CLOSED,
            )
            for each in peers
            if each.warms_since_s is None
        ]
        for outlier in find_outliers(records, settings):
            watched = self._watched[outlier.replica_id]
            if now_s - watched.was_aside_s > SETTLED_S:
                watched.asides = 0
            watched.asides += 1
            watched.aside_until_s = now_s + aside_s(watched.asides, settings)
            self._bar(watched, outlier.because)

    def _bar(self, watched: _Watched, because: str) -> None:
        watched.because = because
        watched.deployment.balancer.bar(watched.slot)
        self._log.warning("replica_set_aside", replica=watched.slot.id, because=because)

    def _let_in_unless_aside(self, watched: _Watched) -> None:
        if watched.aside_until_s is None:
            watched.deployment.balancer.let_in(watched.slot)
            self._log.info("replica_let_in_again", replica=watched.slot.id)
