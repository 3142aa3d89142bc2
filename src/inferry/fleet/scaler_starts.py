"""How long replicas take until they serve, which of them don't come up, and since when the others serve: seen from
their changes of state."""

from __future__ import annotations

from collections import deque
from statistics import median

from inferry.core.replica import ReplicaState, ReplicaView

KEPT = 5
"""Of the last starts of a deployment, the median: one that had to fetch its weights first does not count for all."""
FAILING_S = 300.0
"""After a start that failed, no more are begun for so long; then it is tried again, with one wish more."""

_S = ReplicaState


class Starts:
    """Told of each change of each replica. Memory: what is there now, and a few figures per deployment."""

    def __init__(self) -> None:
        self._began_s: dict[str, float] = {}
        self._serves_since_s: dict[str, float] = {}
        self._took_s: dict[str, deque[float]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        """By deployment: its last start, where that failed."""

    def on_view(self, view: ReplicaView, now_s: float) -> None:
        """A replica is in another state, or says something else."""
        began_s = self._began_s.get(view.id)
        if view.state is _S.STARTING and began_s is None:
            self._began_s[view.id] = now_s
        elif view.state is _S.READY:
            self._serves_since_s.setdefault(view.id, now_s)
            if began_s is not None:
                del self._began_s[view.id]
                self._took_s.setdefault(view.deployment, deque(maxlen=KEPT)).append(now_s - began_s)
                self._failed.pop(view.deployment, None)
        elif view.state is _S.FAILED:
            self._serves_since_s.pop(view.id, None)
            if self._began_s.pop(view.id, None) is not None:
                said = view.message.partition("\n")[0]
                self._failed[view.deployment] = (now_s, f"{view.id}: {said}")
        elif view.state in (_S.DRAINING, _S.STOPPED):
            self._began_s.pop(view.id, None)

    def on_gone(self, replica_id: str) -> None:
        """It has left for good."""
        self._began_s.pop(replica_id, None)
        self._serves_since_s.pop(replica_id, None)

    def start_s(self, deployment: str) -> float | None:
        """From the start of its process until it served; None: none did yet."""
        took_s = self._took_s.get(deployment)
        return median(took_s) if took_s else None

    def served_s(self, replica_id: str, now_s: float) -> float:
        """For how long it has served; 0 where it does not."""
        since_s = self._serves_since_s.get(replica_id)
        return 0.0 if since_s is None else now_s - since_s

    def failing(self, deployment: str, now_s: float) -> str:
        """Why its replicas don't come up; empty where the last one that started did, or that is long ago."""
        at_s, because = self._failed.get(deployment, (0.0, ""))
        return because if because and now_s - at_s < FAILING_S else ""
