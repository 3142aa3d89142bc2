"""What a door of a simulated gateway needs of those around it: its gateway, the replicas, the counts."""

from __future__ import annotations

from typing import Protocol

from inferry.core.errors import InferryError
from inferry.core.outcome import Ending
from inferry.gateway.served import ServedDeployment
from inferry.simulate.service_request import OpenCount, ServedRequest


class Places(Protocol):
    """The replicas, by id."""

    def submit(self, request: ServedRequest, replica_id: str) -> int | None:
        """It is sent there; returns the replica's life. None: an engine there refuses it, it is too long."""

    def leave(self, request: ServedRequest) -> None:
        """It is not to be computed any more where it is."""

    def life_of(self, replica_id: str) -> int | None:
        """None: gone for good."""


class Gatekeeper(OpenCount, Protocol):
    """What a door needs of its gateway process."""

    attempts_max: int
    first_byte_timeout_s: float

    def set_aside(self, replica_id: str) -> int:
        """How often it kept requests from this replica."""

    def ask_limits(self, request: ServedRequest, served: ServedDeployment) -> InferryError | None:
        """None: it may enter."""

    def weight(self, tenant: str) -> float: ...

    def settle(self, request: ServedRequest, answer_tokens: int, served: ServedDeployment) -> None:
        """Give back what limits reserved for it."""

    def on_success(self, replica_id: str, ttft_s: float | None) -> None: ...

    def on_failure(self, replica_id: str, reason: str) -> None: ...

    def on_waiting(self) -> None:
        """Somebody waits: let `expire` be called ten times a second."""


class Ledger(Protocol):
    """Who hears of each request, once when it comes and once when it is over."""

    def arrived(self, request: ServedRequest) -> None: ...

    def over(
        self, request: ServedRequest, ending: Ending, code: str | None, status: int, answer_tokens: int
    ) -> None: ...
