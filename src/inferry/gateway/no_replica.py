"""The error for a request that no replica of its deployment can take now: why, and when to come again."""

from __future__ import annotations

from collections.abc import Iterable

from inferry.core.errors import NoReadyReplica
from inferry.core.replica import ReplicaState, ReplicaView

RETRY_AFTER_S = 2.0
DRAINED_RETRY_AFTER_S = 15.0
"""Somebody has to bring it back first; nobody knows when."""
_SHOWN = (ReplicaState.STARTING, ReplicaState.SUSPECT)


def no_replica_error(deployment: str, views: Iterable[ReplicaView], because: str) -> NoReadyReplica:
    """`views`: those of this deployment. What the probes said last is told; what engines print is not for clients."""
    there = list(views)
    if there and all(view.drained for view in there):
        return NoReadyReplica(
            f"'{deployment}' is drained: its operator has taken it out, and it takes no requests until it is "
            "brought back.",
            retry_after_s=DRAINED_RETRY_AFTER_S,
        )
    reasons = {
        view.message.partition("\n")[0][:200] for view in there if view.state in _SHOWN and view.message
    }
    why = f"{because} ({'; '.join(sorted(reasons)[:3])})" if reasons else because
    return NoReadyReplica(
        f"'{deployment}' has no replica that takes requests now: {why}. Try again soon.",
        retry_after_s=RETRY_AFTER_S,
    )
