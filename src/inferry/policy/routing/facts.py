"""What a policy may know of a request before it is sent, and of an attempt when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """Of a request. Only what the deployment's policy wants is filled in; the rest is as here."""

    prompt_tokens: int = 0
    """Estimated, where nobody counted."""
    answer_tokens: int = 0
    """Estimated, or the most that the client asks for."""
    blocks: Sequence[int] = ()
    """Chained hashes of the prompt's blocks: two equal ones mean an equal prompt up to there."""
    session: str | None = None
    """What it belongs to, for policies that keep such requests together; None: nothing known."""


@dataclass(slots=True)
class Seen:
    """Of one attempt at one replica, when it is over. (Not frozen: that would cost a microsecond per request.)"""

    answer_began: bool = False
    """Something of an answer came from the engine; `on_first_byte` was told then."""
    failed: bool = False
    """By the replica's fault."""
    ttft_s: float | None = None
    """From choice to the first byte of the answer."""
    duration_s: float | None = None
    """From choice to the end of a whole answer."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the prompt's tokens, those that the engine had in its cache."""
    completion_tokens: int | None = None
    """Those of this attempt."""


NO_FACTS = RouteFacts()
NOTHING_SEEN = Seen()
