"""A request as a simulated gateway holds it: what it waits for, which replica has it, what its client has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from inferry.core.errors import EngineError, InferryError
from inferry.core.limits import Priority
from inferry.gateway.admission import Admitted
from inferry.gateway.served import ServedDeployment
from inferry.gateway.turns import Ticket
from inferry.policy.routing import NO_FACTS, RouteFacts, Slot
from inferry.simulate.replica_request import SimulatedRequest


class OpenCount(Protocol):
    """A gateway process, which knows how many requests it has."""

    def opened(self) -> None:
        """One more is under way."""

    def closed(self) -> None: ...


class RequestDoor(Protocol):
    """The deployment at the gateway process that a request came to."""

    @property
    def served(self) -> ServedDeployment: ...

    @property
    def gateway(self) -> OpenCount: ...

    def enter(self, request: ServedRequest) -> None: ...

    def refuse(self, request: ServedRequest, error: InferryError) -> None: ...

    def on_loaded(self, request: ServedRequest) -> None: ...

    def look_again(self, request: ServedRequest) -> None: ...

    def on_first_token(self, request: ServedRequest) -> None: ...

    def on_ended(self, request: ServedRequest) -> None: ...

    def on_lost(self, request: ServedRequest, error: EngineError) -> None: ...

    def hand_over(self, request: ServedRequest) -> None: ...


@dataclass(slots=True, eq=False)
class ServedRequest(SimulatedRequest):
    """What a replica computes is the leg that it was given: after a resume, what the client has is prompt there."""

    door: RequestDoor = field(kw_only=True)
    tenant: str = ""
    session: str | None = None
    priority: Priority = "normal"
    is_let_in: bool = False
    """No limit stood in its way."""
    is_over: bool = False
    ticket: Ticket | None = None
    admitted: Admitted | None = None
    slot: Slot | None = None
    facts: RouteFacts = NO_FACTS
    life: int = 0
    """Which life of the replica it is in: one that was started again is another one."""
    chosen_s: float = 0.0
    entered_s: float | None = None
    leg_ttft_s: float | None = None
    """At the replica that has it now."""
    first_byte_s: float | None = None
    """At the client."""
    delivered: int = 0
    """Tokens that the client has from replicas before this one."""
    first_cached_tokens: int = 0
    attempts: int = 0
    resumes: int = 0
    tried: dict[str, int] | None = None
    """Replicas that failed it, each with its life then."""
    is_replica_lost: bool = False
    waits_since_s: float | None = None
    """For a replica to come."""

    @property
    def whole_prompt_tokens(self) -> int:
        return self.prompt_tokens - self.delivered

    # --- it waits for a turn --------------------------------------------------------------------------

    def on_turn(self) -> None:
        self.door.enter(self)

    def on_refused(self, error: InferryError) -> None:
        self.door.refuse(self, error)

    # --- it waits for its model -----------------------------------------------------------------------

    def on_loaded(self) -> None:
        self.door.on_loaded(self)

    def on_not_loaded(self, error: InferryError) -> None:
        self.door.refuse(self, error)

    # --- it waits for a replica -----------------------------------------------------------------------

    def look_again(self) -> None:
        self.door.look_again(self)
