"""What filters say of a request, an answer or a piece of it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inferry.core.errors import ContentFiltered

NO_FLAGS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Passed:
    """Nothing to change: the very bytes that were looked at may go on."""

    flags: frozenset[str] = NO_FLAGS
    """Names of the flag rules that found something."""


@dataclass(frozen=True, slots=True)
class Masked:
    """`body` goes on in place of what was looked at."""

    body: bytes
    rules: frozenset[str]
    """Names of the rules that masked."""
    flags: frozenset[str] = NO_FLAGS


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing goes on. `error` is what the client is told instead of an answer."""

    rule: str
    error: ContentFiltered
    flags: frozenset[str] = NO_FLAGS
    answer: bytes | None = None
    """Of a whole answer that was blocked: the body to send in its place, with status 200, in which the dialect's own
    field says why (finish_reason `content_filter`, stop_reason `refusal`). None: send the error."""


Verdict = Passed | Masked | Blocked


def blocked(rule: str, what: Literal["request", "answer"], because: str = "") -> Blocked:
    """Never says which text was found: the client may be an attacker."""
    reason = f": {because}" if because else ""
    return Blocked(rule, ContentFiltered(f"The {what} was stopped by the filter '{rule}'{reason}."))
