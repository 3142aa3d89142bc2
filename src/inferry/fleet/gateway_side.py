"""What the fleet asks of the gateway, and tells it. Filled in by whoever builds both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferry.policy.rollout import Served


def _nothing_held(replica_id: str) -> int:
    return 0


def _nobody(replica_id: str, because: str) -> None:
    return None


def _nothing_served(replica_id: str) -> Served:
    return Served()


@dataclass(slots=True)
class GatewaySide:
    """Called on the fleet's loop; must not block or raise."""

    on_gone: Callable[[str], None]
    """A replica has left for good."""
    in_flight: Callable[[str], int] = _nothing_held
    """How many requests a replica holds, at all gateways together."""
    hand_over: Callable[[str, str], None] = _nobody
    """(replica, because): its requests go on at others, where that can be."""
    served: Callable[[str], Served] = _nothing_served
    """What a replica was asked and how often it failed, at all gateways together, since it came."""
