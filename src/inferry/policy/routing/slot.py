"""What routing knows of one replica, and its answer when there is none to choose."""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.replica import ReplicaLoad, ReplicaState


@dataclass(slots=True, eq=False)
class Slot:
    """One replica, as this gateway process sees it. Compared and hashed by identity."""

    id: str
    state: ReplicaState
    weight: float = 1.0
    """What it can take beside the others; above 0."""
    in_flight: int = 0
    """Requests that it holds from here: exact at every moment."""
    served: int = 0
    """Requests ever sent there, for the status table."""
    turn: int = 0
    """When it was chosen last, counted in choices; 0 is never."""
    others: float = 0.0
    """Requests that it holds from elsewhere, as last read from its engine; less and less with the reading's age.
    Always 0 where nobody else can send it any."""
    reading: ReplicaLoad | None = None
    """What its engine told last."""
    held_at_reading: int = 0
    """What it held from here then."""

    full_weight: float = 1.0
    """`weight` without `share`."""
    share: float = 1.0
    """How much of its full weight it gets now; less than 1 while it warms up."""
    barred: bool = False
    """Its requests fail, or it is far slower than its peers: only when nobody else is well."""
    trial: bool = False
    """It may have one request, to see whether it is well again; barred with that."""

    @property
    def load(self) -> float:
        """What it would hold with one more request, per weight."""
        return (self.in_flight + self.others + 1) / self.weight


@dataclass(frozen=True, slots=True)
class NoReplica:
    """Nobody can take the request, and why, in words for the client's error."""

    because: str
