"""When the engine of a request must wait: its client reads slowly, or somebody looks at the answer first."""

from __future__ import annotations

from inferry.core.request import Route
from inferry.gateway.account import Account
from inferry.gateway.edge import Arrival
from inferry.gateway.host import Host
from inferry.gateway.upstream import UpstreamConnection


class BackPressure(Account):
    """The part of an exchange that stops reading from its upstream connection, and goes on."""

    __slots__ = ("_connection", "_gateway", "_held", "_paused", "activity_s")

    def __init__(self, gateway: Host, route: Route, arrival: Arrival) -> None:
        super().__init__(route, arrival)
        self.activity_s = 0.0
        self._gateway = gateway
        self._connection: UpstreamConnection | None = None
        self._held = False
        self._paused = False

    @property
    def waits_for_engine(self) -> bool:
        """It was sent to one, and nobody else holds it up."""
        return self._connection is not None and not (self._paused or self._held)

    @property
    def has_heard(self) -> bool:
        """Something has come from the engine that it was sent to."""
        return self._connection is not None and self.activity_s > self.sent_s

    def pause(self) -> None:
        """The client reads more slowly than the engine writes."""
        self._paused = True
        self.activity_s = self._gateway.now_s()
        self._read_or_not()

    def resume(self) -> None:
        self._paused = False
        self.activity_s = self._gateway.now_s()
        self._read_or_not()

    def hold_upstream(self, held: bool) -> None:
        """Too much waits for an outside verdict: don't read more."""
        if held != self._held:
            self._held = held
            self._read_or_not()

    def _read_or_not(self) -> None:
        if self._connection is not None and not self._connection.lost:
            if self._paused or self._held:
                self._connection.transport.pause_reading()
            else:
                self._connection.transport.resume_reading()
