"""Did the engine compute the prompt that was sent? Decided from two counts of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_CUT_FROM_TOKENS = 256
"""No engine is set up with a shorter context; below, a missing part is the template's doing."""
_CUT_SHARE = 20
"""A cut takes at least one token in so many. A template's own words are few, whatever the prompt's length."""
_FORGET_AFTER_S = 600.0
"""An engine may be set right without the gateway's knowledge: after this, a long prompt is tried again."""


class FindingKind(StrEnum):
    OK = "ok"
    TRUNCATED = "truncated"
    """The engine left a part of the prompt out."""
    DOUBLED_BOS = "doubled_bos"
    """The engine put a beginning-of-sequence token before the one that the template wrote."""
    WRONG_TEMPLATE = "wrong_template"
    """The counts differ otherwise."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What two counts of one prompt say."""

    kind: FindingKind
    engine_tokens: int
    expected_tokens: int

    def warning(self) -> str | None:
        """The value of x-inferry-warning; None: all is well."""
        if self.kind is FindingKind.OK:
            return None
        what = self.kind.value.replace("_", "-")
        return f"prompt-{what}; engine={self.engine_tokens} expected={self.expected_tokens}"


def decide_finding(
    engine_tokens: int,
    expected_tokens: int,
    *,
    begins_with_bos: bool,
    tolerance_tokens: int,
    limit_tokens: int | None = None,
) -> Finding:
    """What the engine did to a prompt of `expected_tokens`. `begins_with_bos`: as the template renders it.
    `limit_tokens`: where the engine was seen to cut before.

    Worked: 4096 where 5120 are expected: truncated. 37 where 36 are, and the template writes BOS: doubled.
    """
    missing = expected_tokens - engine_tokens
    if missing == -1 and begins_with_bos:
        kind = FindingKind.DOUBLED_BOS
    elif abs(missing) <= tolerance_tokens:
        kind = FindingKind.OK
    elif missing > 0 and (
        (engine_tokens >= _CUT_FROM_TOKENS and missing * _CUT_SHARE >= expected_tokens)
        or engine_tokens == limit_tokens
    ):
        kind = FindingKind.TRUNCATED
    else:
        kind = FindingKind.WRONG_TEMPLATE
    return Finding(kind, engine_tokens, expected_tokens)


class LearnedLimit:
    """Where the engines of one deployment were seen to cut prompts: the most that came through of one that was
    cut. A longer prompt that came through whole, and time, disprove it."""

    def __init__(self) -> None:
        self._tokens: int | None = None
        self._whole_tokens = 0
        self._until_s = 0.0

    def learn(self, finding: Finding, now_s: float) -> None:
        if finding.kind is FindingKind.OK:
            self._whole_tokens = max(self._whole_tokens, finding.engine_tokens)
            if self._tokens is not None and self._tokens < self._whole_tokens:
                self._tokens = None
        elif finding.kind is FindingKind.TRUNCATED and finding.engine_tokens >= self._whole_tokens:
            self._tokens = max(finding.engine_tokens, self.tokens(now_s) or 0)
            self._until_s = now_s + _FORGET_AFTER_S

    def tokens(self, now_s: float) -> int | None:
        return self._tokens if now_s < self._until_s else None
