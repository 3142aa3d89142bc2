"""What the gateway processes count together, as last asked, and what the fleet wants to know of it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from inferry.core.clock import Clock
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.gateway.snapshot import Snapshot
from inferry.policy.rollout import Served

SAMPLE_S = 1.0
DRAIN_SAMPLE_S = 0.1
"""While a replica waits for its last answers."""


class GatewayNumbers:
    """Kept by the control process. Between two questions the numbers stand still."""

    def __init__(self, clock: Clock) -> None:
        self.snapshot = Snapshot()
        self._clock = clock
        self._asked_s = clock.now_s()
        self._draining_since_s: dict[str, float] = {}

    async def ask(self, ask: Callable[[], Awaitable[Snapshot]]) -> Snapshot:
        """The numbers now."""
        asked_s = self._clock.now_s()
        self.snapshot = await ask()
        self._asked_s = asked_s
        return self.snapshot

    @property
    def pause_s(self) -> float:
        """Until they should be asked again."""
        return DRAIN_SAMPLE_S if self._draining_since_s else SAMPLE_S

    def on_view(self, view: ReplicaView) -> None:
        """A replica is in another state."""
        if view.state is ReplicaState.DRAINING:
            self._draining_since_s.setdefault(view.id, self._clock.now_s())
        else:
            self._draining_since_s.pop(view.id, None)

    def forget(self, replica_id: str) -> None:
        """The replica is gone for good."""
        self._draining_since_s.pop(replica_id, None)

    def held_by(self, replica_id: str) -> int:
        """Requests at a draining replica. Numbers from before it drained don't count: it may have got one since.
        While a gateway process is silent (until it answers or is killed), it may hold one that nobody knows of."""
        if self._asked_s <= self._draining_since_s.get(replica_id, -math.inf):
            return 1
        return max(self.snapshot.in_flight.get(replica_id, 0), 1 if self.snapshot.silent else 0)

    def served_by(self, replica_id: str) -> Served:
        """Since it came."""
        return Served(self.snapshot.sent.get(replica_id, 0), self.snapshot.failed.get(replica_id, 0))
