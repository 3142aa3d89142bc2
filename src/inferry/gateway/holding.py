"""The part of an exchange that holds things: a connection, a replica's slot, a filter, or nothing, while it waits for a
replica to come."""

from __future__ import annotations

from abc import abstractmethod

from inferry.core.request import Route
from inferry.gateway.attempts import is_one_coming
from inferry.gateway.back_pressure import BackPressure
from inferry.gateway.edge import Arrival
from inferry.gateway.host import Host
from inferry.gateway.outgoing import WayOut
from inferry.gateway.reservation import Reservation
from inferry.gateway.upstream import Dialing


class Holding(BackPressure):
    """See the module."""

    __slots__ = ("_dialing", "_ended", "_lost_replica", "_out", "_waits_since_s", "reservation")

    def __init__(self, gateway: Host, route: Route, arrival: Arrival) -> None:
        super().__init__(gateway, route, arrival)
        self._ended = False
        self._dialing: Dialing | None = None
        """A connection is on its way."""
        self._out: WayOut | None = None
        self.reservation: Reservation | None = None
        """Of `slot`."""
        self._lost_replica = False
        """The last attempt failed as they do when an engine dies."""
        self._waits_since_s: float | None = None
        """For a replica that takes requests."""

    @abstractmethod
    def _try_next(self) -> None: ...

    # --- waiting for a replica ------------------------------------------------------------------------

    def _may_wait(self) -> bool:
        """For a replica to come. Only who was at one, and lost it, does."""
        deployment = self.deployment
        assert deployment is not None
        if not self.attempts or not self._lost_replica:
            return False
        if self.course is not None and self.course.goes_on and not self.relaying:
            return False
        now_s, since_s = self._gateway.now_s(), self._waits_since_s
        waited_s = 0.0 if since_s is None else now_s - since_s
        return waited_s < deployment.failover.wait_max_s and is_one_coming(deployment, waited_s)

    def _wait(self) -> None:
        if self._waits_since_s is None:
            assert self.deployment is not None
            self._waits_since_s = self._gateway.now_s()
            self.deployment.stranded[self] = None

    def _stop_waiting(self) -> None:
        assert self.deployment is not None
        self._waits_since_s = None
        self.deployment.stranded.pop(self, None)

    def look_again(self) -> None:
        """For a replica: there may be one now, or it is time to give up."""
        if self._waits_since_s is not None and not self._ended:
            self._try_next()

    # --- letting go -----------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Close the connection, if there is one: its engine stops."""
        if self._dialing is not None:
            self._dialing.receiver = None
            self._dialing = None
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def _release_slot(self, *, failed: bool = True) -> None:
        if self.reservation is not None:
            self.reservation.end(self, self._gateway.now_s(), failed=failed)
            self.reservation = self.slot = None

    def _release_out(self) -> None:
        if self._out is not None:
            self._out.cancel()
            self._out = None
        self._held = False
