"""What happened to replicas lately, for those who come to look afterwards. In memory, the newest so many."""

from __future__ import annotations

from collections import deque

from pydantic import BaseModel, Field

from inferry.core.replica import ReplicaView

EVENTS_MAX = 2000


class FleetEvent(BaseModel):
    """A replica came into another state."""

    number: int = Field(description="Counts up, from 1, since Inferry started.")
    at: float = Field(description="Wall seconds since 1970.")
    deployment: str
    replica: str
    state: str
    message: str


class FleetEvents:
    """The last EVENTS_MAX of them."""

    def __init__(self) -> None:
        self._events: deque[FleetEvent] = deque(maxlen=EVENTS_MAX)
        self._number = 0
        self._states: dict[str, tuple[str, str]] = {}

    def note(self, view: ReplicaView, wall_s: float) -> None:
        """`view` is how it is now; noted where state or message are others than before."""
        now = (view.state.value, view.message)
        if self._states.get(view.id) == now:
            return
        self._states[view.id] = now
        self._number += 1
        self._events.append(
            FleetEvent(
                number=self._number,
                at=wall_s,
                deployment=view.deployment,
                replica=view.id,
                state=view.state.value,
                message=view.message,
            )
        )

    def forget(self, replica_id: str) -> None:
        """The replica is gone for good."""
        self._states.pop(replica_id, None)

    def since(self, number: int) -> list[FleetEvent]:
        """Those after this one, oldest first."""
        return [event for event in self._events if event.number > number]
