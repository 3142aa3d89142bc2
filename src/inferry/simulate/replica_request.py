"""A request at a simulated replica, and who hears what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar


class Stage(IntEnum):
    """Where a request is: waiting -> computing -> answering -> gone; back to waiting where it is preempted. Live, an
    answer may be paused, and computes again when it goes on."""

    GONE = 0
    WAITING = 1
    COMPUTING = 2
    ANSWERING = 3
    PAUSED = 4


@dataclass(slots=True, eq=False)
class SimulatedRequest:
    """One request, and what came of it. Times are seconds on the clock that its replica is told. Subclass it for more.

    `blocks`: ids of the prompt's blocks; an equal id means an equal prompt up to the block's end.
    """

    arrival_s: float
    prompt_tokens: int
    answer_tokens: int
    blocks: Sequence[int] = ()
    replica: str = ""
    cached_tokens: int = 0
    """Of the prompt, when it was let in first."""
    first_token_s: float | None = None
    ended_s: float | None = None
    said: int = 0
    """Tokens of its answer; while it answers, as of when it began to."""
    kept_blocks: Sequence[int] = ()
    """What others may reuse after its end, where that is more than `blocks`."""
    stage: Stage = Stage.GONE
    # The replica's own notes.
    due_s: float = 0.0
    """When the engine may begin with it."""
    left: int = 0
    """Tokens to compute before it answers."""
    held: int = 0
    """How many of its blocks it holds by their ids."""
    base: int = 0
    """Its context is so much more than steps have passed."""
    number: int = 0
    """Of those that were let in, in order."""

    @property
    def ttft_s(self) -> float:
        """Only of one that has its first token."""
        assert self.first_token_s is not None
        return self.first_token_s - self.arrival_s


Heard = TypeVar("Heard", bound=SimulatedRequest, contravariant=True)


class ReplicaListener(Protocol[Heard]):
    """Hears of each request, at the replica's `now_s`. It may submit requests and let them leave meanwhile."""

    def first_token(self, request: Heard) -> None: ...

    def token(self, request: Heard) -> None:
        """One more, after the first. Only where tokens are told one by one."""

    def ended(self, request: Heard) -> None:
        """It has all its tokens."""

    def preempted(self, request: Heard) -> None:
        """It lost its blocks, and waits again."""
