"""Does the ledger hold what the engines say that they generated? And if not: what explains the difference? Pure.

It compares, for one engine process, the growth of its own counters with the tokens of the requests that ended in that
time. Each known cause of a difference says how many tokens it accounts for, at least and at most. What no cause
accounts for is left over: requests that went past this gateway, or tokens that the ledger lost.

What it can't know: which of the requests in doubt made up a difference; what an engine did after it was last looked
at, before it died; and, where a cause has no upper bound, whether something else hides behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ABORT_TOKENS_MAX = 64
"""What an engine may generate for one stream between the client's leaving and its noticing: two seconds at 32 tokens
a second. Events may also carry several tokens each."""
WARM_UP_PROMPT_TOKENS_MAX = 16
_IDS_SHOWN = 20

Verdict = Literal["exact", "explained", "unexplained", "unknown"]


@dataclass(frozen=True, slots=True)
class Counters:
    """An engine's own counters at one moment; None where it has none."""

    wall_s: float
    """Before the engine was asked: what had ended by then is counted."""
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class EngineLife:
    """One engine process, from its start to its end or to now."""

    source: str
    replica_id: str
    deployment: str
    engine: str
    started_wall_s: float
    first: Counters
    """All 0 at the start, for an engine that Inferry started; otherwise when it was first looked at."""
    last: Counters

    @property
    def from_zero(self) -> bool:
        return self.first.wall_s <= self.started_wall_s


@dataclass(frozen=True, slots=True)
class LedgerShare:
    """What the ledger has of the requests whose last attempt was at one engine, in the time between two looks at it."""

    requests: int = 0
    """Ended in that time, with the engine's usage."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted_tokens: int = 0
    """Relayed of streams that were cut off, whoever did it."""
    counted_prompt_tokens: int = 0
    """Of the same; estimates."""
    cut: int = 0
    """Cut off in the middle by their client or by an engine."""
    cut_unseen: int = 0
    """Ended before any of their answer was relayed: no tokens are billed, whatever the engine did."""
    crashed: tuple[str, ...] = ()
    """Ids of requests that a gateway process had under way when it was killed."""
    crashed_calls: int = 0
    """Those of them that are no streams."""
    crashed_tokens: int = 0
    without_usage: int = 0
    """Answered whole, and nothing is known of tokens."""
    resumed: int = 0
    """Begun elsewhere and finished here: a part of their tokens is another engine's."""
    resumed_tokens: int = 0
    moved_away: int = 0
    """Of the same deployment, retried or resumed, and finished elsewhere: some of that work may be this engine's."""
    late: int = 0
    """Received before the last look and ended after it."""
    late_prompt_tokens: int = 0
    late_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason for a difference, and how many tokens it may make up."""

    what: str
    requests: int
    at_least: int
    at_most: int | None
    """None: nobody knows."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One counter of one engine process against the ledger."""

    counter: Literal["completion_tokens", "prompt_tokens"]
    engine_tokens: int | None
    ledger_tokens: int
    causes: tuple[Cause, ...]
    verdict: Verdict
    unexplained_tokens: int = 0
    """What is left of the difference after all causes; negative: the ledger has more than the engine."""

    @property
    def difference(self) -> int | None:
        """Engine less ledger."""
        return None if self.engine_tokens is None else self.engine_tokens - self.ledger_tokens


def reconcile(
    life: EngineLife, share: LedgerShare, *, running: int | None, warm_ups: int = 1
) -> tuple[Comparison, Comparison]:
    """Completion and prompt tokens of one engine process, engine against ledger.

    `running` is how many requests it has now, which are not in the ledger yet; None: an engine of the past.
    """
    completion = _compare(
        "completion_tokens",
        _growth(life.first.completion_tokens, life.last.completion_tokens),
        share.completion_tokens + share.counted_tokens,
        _completion_causes(life, share, running, warm_ups),
    )
    prompt = _compare(
        "prompt_tokens",
        _growth(life.first.prompt_tokens, life.last.prompt_tokens),
        share.prompt_tokens + share.counted_prompt_tokens,
        _prompt_causes(life, share, running, warm_ups),
    )
    return completion, prompt


def in_doubt(share: LedgerShare) -> str:
    """The requests that a crash cut off, as far as they fit into a line."""
    shown = ", ".join(share.crashed[:_IDS_SHOWN])
    return shown + (f" and {len(share.crashed) - _IDS_SHOWN} more" if len(share.crashed) > _IDS_SHOWN else "")


def _completion_causes(
    life: EngineLife, share: LedgerShare, running: int | None, warm_ups: int
) -> list[Cause]:
    crashed = len(share.crashed)
    causes = _warm_up(life, warm_ups, 1)
    causes += [
        Cause("streams cut off: generated and not relayed", share.cut, 0, share.cut * ABORT_TOKENS_MAX),
        Cause("cut off before anything was relayed", share.cut_unseen, 0, None),
        # Nobody saw their end: it may have come after the last look at the engine.
        Cause(
            "under way when a gateway process was killed",
            crashed,
            -share.crashed_tokens,
            None if share.crashed_calls else crashed * ABORT_TOKENS_MAX,
        ),
        Cause("ended after the engine was last looked at", share.late, 0, share.late_tokens),
    ]
    return causes + _open_causes(share, running, share.resumed_tokens)


def _prompt_causes(life: EngineLife, share: LedgerShare, running: int | None, warm_ups: int) -> list[Cause]:
    counted = share.cut + len(share.crashed)
    causes = _warm_up(life, warm_ups, WARM_UP_PROMPT_TOKENS_MAX)
    causes += [
        # An estimate may be off either way, and a request that was cut off early never reached prefill.
        Cause("requests cut off: their prompts are estimates", counted, -share.counted_prompt_tokens, None),
        Cause("cut off before anything was relayed", share.cut_unseen, 0, None),
        Cause("ended after the engine was last looked at", share.late, 0, share.late_prompt_tokens),
    ]
    return causes + _open_causes(share, running, 0)


def _warm_up(life: EngineLife, warm_ups: int, tokens_each: int) -> list[Cause]:
    count = warm_ups if life.from_zero else 0
    return [Cause("warm-up before the first request", count, 0, count * tokens_each)]


def _open_causes(share: LedgerShare, running: int | None, resumed_tokens: int) -> list[Cause]:
    return [
        Cause("begun at another replica and finished here", share.resumed, -resumed_tokens, 0),
        Cause("tried here and finished at another replica", share.moved_away, 0, None),
        Cause("answered without usage", share.without_usage, 0, None),
        Cause("running now", running or 0, 0, None),
    ]


def _compare(
    counter: Literal["completion_tokens", "prompt_tokens"],
    engine_tokens: int | None,
    ledger_tokens: int,
    causes: list[Cause],
) -> Comparison:
    real = tuple(cause for cause in causes if cause.requests)
    if engine_tokens is None:
        return Comparison(counter, None, ledger_tokens, real, "unknown")
    difference = engine_tokens - ledger_tokens
    low = sum(cause.at_least for cause in real)
    high = sum(math.inf if cause.at_most is None else cause.at_most for cause in real)
    if difference == 0:
        return Comparison(counter, engine_tokens, ledger_tokens, real, "exact")
    if low <= difference <= high:
        return Comparison(counter, engine_tokens, ledger_tokens, real, "explained")
    left = difference - low if difference < low else difference - int(high)
    return Comparison(counter, engine_tokens, ledger_tokens, real, "unexplained", left)


def _growth(first: int | None, last: int | None) -> int | None:
    if last is None:
        return None
    return last - (first or 0)
