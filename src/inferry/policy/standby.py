"""Which replicas of a deployment serve, and which stand by: started and warm, without requests until one is missed.

A standby replica that is ready takes over at once from one that serves and is not ready, and that one stands by
when it is back. Whoever is on its way out counts for neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inferry.core.replica import ReplicaState

_S = ReplicaState
_LEAVING = frozenset({_S.DRAINING, _S.STOPPED})
_HOW_FAR: dict[ReplicaState, int] = {
    _S.FAILED: 0,
    _S.PENDING: 1,
    _S.STARTING: 2,
    _S.WARMING: 3,
    _S.SUSPECT: 4,
    _S.READY: 5,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One replica."""

    id: str
    state: ReplicaState
    standby: bool

    @property
    def is_ready(self) -> bool:
        return self.state is _S.READY


def decide_roles(replicas: Sequence[Standing], serve_wanted: int, standby_wanted: int) -> dict[str, bool]:
    """Whether each of `replicas`, the oldest first, stands by from now on. More may serve than are wanted, as while
    replicas are replaced; never fewer, as long as there are others."""
    roles = {each.id: each for each in replicas}
    while (changed := _one_change(list(roles.values()), serve_wanted, standby_wanted)) is not None:
        roles[changed.id] = changed
    return {each.id: each.standby for each in roles.values()}


def _one_change(replicas: Sequence[Standing], serve_wanted: int, standby_wanted: int) -> Standing | None:
    staying = [each for each in replicas if each.state not in _LEAVING]
    serving = [each for each in staying if not each.standby]
    standing_by = [each for each in staying if each.standby]
    ready = sum(each.is_ready for each in serving)
    # The oldest of those that are furthest: `max` takes the first of equals.
    best = max(standing_by, key=_how_far, default=None)
    if best is not None and (
        standby_wanted == 0 or len(serving) < serve_wanted or (ready < serve_wanted and best.is_ready)
    ):
        return replace(best, standby=False)
    # The youngest of those that are least far.
    worst = min(reversed(serving), key=_how_far, default=None)
    if worst is not None and len(serving) > serve_wanted and len(standing_by) < standby_wanted:
        return replace(worst, standby=True)
    return None


def _how_far(replica: Standing) -> int:
    return _HOW_FAR[replica.state]
