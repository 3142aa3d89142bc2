"""How long replicas take until they serve, which of them don't come up, and since when the others serve: seen from
their changes of state."""

from __future__ import annotations

from collections import deque
from statistics import median

from inferry.core.replica import ReplicaState, ReplicaView

KEPT = 5
"""Of the last starts of a deployment, the median: one that had to fetch its weights first does not count for all."""
FAILING_S = 300.0
"""After a start that failed, no more are begun for so long, and for as long as one is down."""

_S = ReplicaState


class Starts:
    """Told of each change of each replica. Memory: what is there now, and a few figures per deployment."""

    def __init__(self) -> None:
        self._began_s: dict[str, float] = {}
        self._serves_since_s: dict[str, float] = {}
        self._took_s: dict[str, deque[float]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        """By deployment: its last start, where that failed."""
        self._down: dict[str, tuple[str, str]] = {}
        """By replica that is down: its deployment, and why. One that waits for its next try, or for people, is neither
        capacity nor on the way: without this, others would be ordered in its place, again and again."""
        self._loops: set[str] = set()
        """Those whose last start failed: a next one is no promise."""

    def on_view(self, view: ReplicaView, now_s: float) -> None:
        """A replica is in another state, or says something else."""
        began_s = self._began_s.get(view.id)
        if view.state is _S.STARTING and began_s is None:
            self._began_s[view.id] = now_s
            if view.id not in self._loops:
                self._down.pop(view.id, None)  # it served before: on the way again
        elif view.state is _S.READY:
            self._serves_since_s.setdefault(view.id, now_s)
            self._up(view.id)
            if began_s is not None:
                del self._began_s[view.id]
                self._took_s.setdefault(view.deployment, deque(maxlen=KEPT)).append(now_s - began_s)
                self._failed.pop(view.deployment, None)
        elif view.state is _S.FAILED:
            self._serves_since_s.pop(view.id, None)
            said = view.message.partition("\n")[0]
            self._down[view.id] = (view.deployment, f"{view.id}: {said}")
            if self._began_s.pop(view.id, None) is not None:
                self._failed[view.deployment] = (now_s, f"{view.id}: {said}")
                self._loops.add(view.id)
        elif view.state in (_S.DRAINING, _S.STOPPED):
            self._began_s.pop(view.id, None)
            self._up(view.id)

    def on_gone(self, replica_id: str) -> None:
        """It has left for good."""
        self._up(replica_id)
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
        """Why its replicas don't come up; empty where none is down, and the last one that started came up, or that is
        long ago. One whose start failed is down until it serves, however often it is tried meanwhile."""
        for of, why in self._down.values():
            if of == deployment:
                return why
        at_s, because = self._failed.get(deployment, (0.0, ""))
        return because if because and now_s - at_s < FAILING_S else ""

    def _up(self, replica_id: str) -> None:
        self._down.pop(replica_id, None)
        self._loops.discard(replica_id)
