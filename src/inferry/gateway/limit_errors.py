"""What a client is told that a limit stopped: whose, which, how much, and when to come again."""

from __future__ import annotations

import math

from inferry.core.errors import (
    BudgetSpent,
    InferryError,
    LimitsUnavailable,
    RateLimited,
    TokensLimited,
    TooManyInFlight,
)
from inferry.core.leases import Bucket, Measure, owner_of
from inferry.gateway.limit_rules import NANO, whose_limit

UNAVAILABLE_RETRY_S = 2.0

_CLASSES: dict[Measure, type[InferryError]] = {
    Measure.REQUESTS_PER_MINUTE: RateLimited,
    Measure.TOKENS_PER_MINUTE: TokensLimited,
    Measure.REQUESTS_IN_FLIGHT: TooManyInFlight,
}
_WORDS = {
    Measure.REQUESTS_PER_MINUTE: "requests per minute",
    Measure.TOKENS_PER_MINUTE: "tokens per minute",
    Measure.REQUESTS_IN_FLIGHT: "requests at the same time",
    Measure.TOKENS_PER_DAY: "tokens per UTC day",
    Measure.TOKENS_PER_MONTH: "tokens per UTC month",
    Measure.COST_PER_DAY: "per UTC day",
    Measure.COST_PER_MONTH: "per UTC month",
}


def spent_error(bucket: Bucket, amount: int, retry_after_s: float) -> InferryError:
    """The limit has not `amount` left now."""
    whose, measure, allowed = _told(bucket)
    wanted = ""
    if measure not in (Measure.REQUESTS_PER_MINUTE, Measure.REQUESTS_IN_FLIGHT):
        wanted = f"; this request may take {_shown(measure, amount)}"
    left = "so many are under way" if measure is Measure.REQUESTS_IN_FLIGHT else "not enough is left"
    error = _CLASSES.get(measure, BudgetSpent)(
        f"{whose} may have {allowed} ({measure.value}), and {left}{wanted}. Try again in {_time(retry_after_s)}.",
        retry_after_s=max(0.001, retry_after_s),
    )
    error.elsewhere = owner_of(bucket.id)[0] == "deployment"
    return error


def too_large_error(bucket: Bucket, amount: int) -> InferryError:
    """One request wants more than the whole limit."""
    whose, measure, allowed = _told(bucket)
    return _CLASSES.get(measure, BudgetSpent)(
        f"This request may take {_shown(measure, amount)}, but {whose[0].lower() + whose[1:]} may have {allowed} "
        f"({measure.value}): waiting would not help. Shorten the prompt or ask for fewer tokens."
    )


def unavailable_error(bucket: Bucket) -> InferryError:
    whose, measure, _ = _told(bucket)
    return LimitsUnavailable(
        f"Who keeps the count of {measure.value} of {whose[0].lower() + whose[1:]} can't be asked now. "
        f"Try again in {_time(UNAVAILABLE_RETRY_S)}.",
        retry_after_s=UNAVAILABLE_RETRY_S,
    )


def _told(bucket: Bucket) -> tuple[str, Measure, str]:
    scope, owner, measure = owner_of(bucket.id)
    whose = whose_limit(scope, owner)
    return whose[0].upper() + whose[1:], measure, f"{_number(measure, bucket.limit)} {_WORDS[measure]}"


def _number(measure: Measure, units: int) -> str:
    return f"{units / NANO:.10g}" if measure in (Measure.COST_PER_DAY, Measure.COST_PER_MONTH) else str(units)


def _shown(measure: Measure, units: int) -> str:
    number = _number(measure, units)
    return number if measure in (Measure.COST_PER_DAY, Measure.COST_PER_MONTH) else f"{number} tokens"


def _time(seconds: float) -> str:
    whole = max(1, math.ceil(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{math.ceil(whole / 60)} min" if whole < 7200 else f"{math.ceil(whole / 3600)} h"
