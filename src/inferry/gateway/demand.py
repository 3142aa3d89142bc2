"""What a deployment was asked for, and how it went: the counts that autoscaling decides by.

Counted is who was let in: no filter and no limit stood in the way, so a replica was wanted. Those who left it
for the next deployment behind a name have failed here. What is refused for want of room (a full queue, a wait that
took too long, an engine that takes no more: status 429) is a failure, too, and so is every answer that an engine
did not give; what the client did wrong, or ended itself, is not.
"""

from __future__ import annotations

from inferry.core.latency_counts import LatencyCounts
from inferry.core.outcome import Ending, Outcome

NO_ROOM = 429


class Demand:
    """Counters of one deployment in one process; a few per request, none per token."""

    __slots__ = ("arrived", "e2e", "ended", "failed", "itl", "output_tokens", "prompt_tokens", "ttft")

    def __init__(self) -> None:
        self.arrived = 0
        self.ended = 0
        self.failed = 0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.ttft = LatencyCounts()
        """Of streams, from the whole request received; counted when they begin: with long answers, their ends tell late."""
        self.itl = LatencyCounts()
        """Of streams: mean time between tokens, one each."""
        self.e2e = LatencyCounts()
        """Of answers that were given whole, waiting included."""

    def observe(self, outcome: Outcome) -> None:
        """One that was let in has ended."""
        self.ended += 1
        ending, tokens = outcome.ending, outcome.completion_tokens
        if ending is Ending.COMPLETED:
            self.e2e.observe(outcome.duration_s)
        elif ending is Ending.FAILED or (ending is Ending.REJECTED and outcome.status == NO_ROOM):
            self.failed += 1
        if outcome.prompt_tokens is not None:
            self.prompt_tokens += outcome.prompt_tokens
        if tokens is not None:
            self.output_tokens += tokens
        if outcome.ttft_s is not None and tokens is not None and tokens > 1:
            self.itl.observe((outcome.duration_s - outcome.ttft_s) / (tokens - 1))

    def observe_first_token(self, ttft_s: float) -> None:
        """The stream of one that was let in has begun."""
        self.ttft.observe(ttft_s)

    def observe_leaving(self) -> None:
        """One that was let in tries another deployment."""
        self.ended += 1
        self.failed += 1

    def add(self, other: Demand) -> None:
        """Count what another process counted, too."""
        self.arrived += other.arrived
        self.ended += other.ended
        self.failed += other.failed
        self.prompt_tokens += other.prompt_tokens
        self.output_tokens += other.output_tokens
        self.ttft.add(other.ttft)
        self.itl.add(other.itl)
        self.e2e.add(other.e2e)
