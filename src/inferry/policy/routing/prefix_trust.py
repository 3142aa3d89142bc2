"""Are prompts cached where they should be? What was expected of one replica's cache, against what its engine says.

Two witnesses: of each request, how many of its tokens were cached, which also tells how much the cache holds; or,
from engines that don't say that, the counters of their prefix cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.replica import ReplicaLoad

CREDIT_TOKENS = 20_000.0
"""Tokens that were expected and found, on credit, for a new replica."""
WINDOW_TOKENS = 1_000_000.0
"""Expected tokens after which all that was seen so far counts half."""
COUNTED_TOKENS_MIN = 20_000
"""Looked up by an engine, before its counters are judged: with fewer, requests under way blur them."""
SHRINK, GROW = 0.95, 1.02
"""Of the cache that is assumed, for a request that found less than half of what was expected, or more than that."""
CAPACITY_TOKENS_MIN = 10_000.0


@dataclass(frozen=True, slots=True)
class _Counted:
    """An engine's counters when they were last judged, beside ours."""

    queries: int
    hits: int
    asked_tokens: int
    expected_tokens: float


class CacheTrust:
    """Of one replica. `share`: of the tokens that should be cached, those that are, 0 to 1."""

    __slots__ = ("_asked_tokens", "_counted", "_expected", "_expected_tokens", "_found", "_tells", "share")

    def __init__(self) -> None:
        self.share = 1.0
        self._expected = self._found = CREDIT_TOKENS
        self._asked_tokens = 0
        self._expected_tokens = 0.0
        self._tells = False
        self._counted: _Counted | None = None

    def on_sent(self, prompt_tokens: int, expected_tokens: float) -> None:
        """A prompt was computed there."""
        self._asked_tokens += prompt_tokens
        self._expected_tokens += expected_tokens

    def on_told(self, expected_tokens: float, cached_tokens: int) -> None:
        """Of one request's tokens, the engine had so many."""
        self._tells = True
        self._judge(expected_tokens, cached_tokens)

    def on_counters(self, reading: ReplicaLoad) -> None:
        """They count everybody's requests: a share of the hits is taken for ours."""
        queries, hits = reading.prefix_query_tokens, reading.prefix_hit_tokens
        if self._tells or queries is None or hits is None:
            return
        before = self._counted
        if before is not None and queries >= before.queries:
            looked_up = queries - before.queries
            if looked_up < COUNTED_TOKENS_MIN:
                return
            ours = (hits - before.hits) * (self._asked_tokens - before.asked_tokens) / looked_up
            self._judge(self._expected_tokens - before.expected_tokens, ours)
        self._counted = _Counted(queries, hits, self._asked_tokens, self._expected_tokens)

    def _judge(self, expected: float, found: float) -> None:
        self._expected += expected
        self._found += min(found, expected)
        if self._expected > WINDOW_TOKENS:
            self._expected /= 2
            self._found /= 2
        self.share = self._found / self._expected


def capacity_after(capacity_tokens: float, expected: float, cached: int, block_tokens: float) -> float:
    """What a cache seems to hold, after one request. Small steps: near its bound, either may be by chance."""
    if cached > expected + block_tokens:
        return capacity_tokens * GROW
    if cached < expected / 2:
        return max(capacity_tokens * SHRINK, CAPACITY_TOKENS_MIN)
    return capacity_tokens
