"""Units of a limit, lent for a moment: what a gateway process asks of whoever keeps the counts, and gets.

Plain data, small and picklable. Money is in billionths (`cost_nano`), everything else in ones.
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec

DAY_S = 86400


class Measure(StrEnum):
    """What is limited. The values are the keys of `core.limits.Limits`."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    REQUESTS_IN_FLIGHT = "requests_in_flight"
    TOKENS_PER_DAY = "tokens_per_day"
    TOKENS_PER_MONTH = "tokens_per_month"
    COST_PER_DAY = "cost_per_day"
    COST_PER_MONTH = "cost_per_month"


class Kind(StrEnum):
    """How units come back."""

    WINDOW = "window"
    """A while after they were granted: the window slides."""
    PERMITS = "permits"
    """When the request is over."""
    DAY = "day"
    """At the next UTC day."""
    MONTH = "month"
    """At the next UTC month."""


KIND_OF = {
    Measure.REQUESTS_PER_MINUTE: Kind.WINDOW,
    Measure.TOKENS_PER_MINUTE: Kind.WINDOW,
    Measure.REQUESTS_IN_FLIGHT: Kind.PERMITS,
    Measure.TOKENS_PER_DAY: Kind.DAY,
    Measure.TOKENS_PER_MONTH: Kind.MONTH,
    Measure.COST_PER_DAY: Kind.DAY,
    Measure.COST_PER_MONTH: Kind.MONTH,
}


class Bucket(msgspec.Struct, frozen=True, array_like=True):
    """One limit of one owner."""

    id: str
    """`key:key_1:tokens_per_minute`: scope, owner, measure."""
    kind: Kind
    limit: int


class Wish(msgspec.Struct, frozen=True, array_like=True):
    """Units wanted of one bucket. With all numbers 0, it only says what is held."""

    bucket: Bucket
    least: int = 0
    """Fewer help nobody who waits."""
    most: int = 0
    """What the largest of those who wait needs: `Grant.retry_s` is for that."""
    need: int = 0
    """What all who wait need."""
    want: int = 0
    """What would be of use, `need` included, so as not to ask again so soon."""
    held: int = 0
    """Permits only: all that this holder has now, in use or not. The bank believes it."""


class Return(msgspec.Struct, frozen=True, array_like=True):
    """Units that were granted and not spent. Negative: spent without a grant, to be charged in any case."""

    bucket: Bucket
    slot: int
    """Of the grant; NOW for a charge."""
    units: int


NOW = -1
"""The slot that is current when the bank hears of it."""


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """A bank's answer to one wish."""

    bucket_id: str
    units: int = 0
    slot: int = 0
    """Where they were counted; goes into the Return."""
    lasts_s: float = 0.0
    """They may be spent until so long after the wish was sent (not after the grant came: so no two clocks need
    to agree)."""
    left: int = 0
    """What the bank has after this grant. Below 0: more was used than the limit."""
    retry_s: float = 0.0
    """When `most` units will be there, if nobody takes any before; 0 if they were granted."""
    reset_s: float = 0.0
    """When all units will be there, if nobody takes any before."""
    unavailable: bool = False
    """The bank can't be asked, and may not guess."""


class Times(msgspec.Struct, frozen=True):
    """How long things take; the same for all who share a bank. Tests shorten them."""

    window_s: float = 60.0
    slot_s: float = 0.5
    """Grants are counted in slots of this length."""
    lease_s: float = 1.0
    permit_ttl_s: float = 10.0
    """Permits that their holder has not confirmed for so long are free again."""

    @property
    def kept_s(self) -> float:
        """How long a slot counts, from its beginning: a unit granted at its end may be spent a lease later, and
        must still be seen a window after that. 60 + 1 + 0.5 = 61.5 s."""
        return self.window_s + self.lease_s + self.slot_s


def bucket_id(scope: str, owner: str, measure: Measure) -> str:
    return f"{scope}:{owner}:{measure.value}"


def owner_of(bucket_id: str) -> tuple[str, str, Measure]:
    """Scope (`key`, `tenant` or `deployment`), its id or name, and the measure."""
    scope, _, rest = bucket_id.partition(":")
    owner, _, measure = rest.rpartition(":")
    return scope, owner, Measure(measure)


# --- the calendar, in UTC -----------------------------------------------------------------------------


def period_of(kind: Kind, wall_s: float) -> int:
    """Number of the day since 1970, or of the month since year 0 (12 * year + month - 1)."""
    day = math.floor(wall_s / DAY_S)
    return day if kind is Kind.DAY else _month_of(day)


def period_start_s(kind: Kind, period: int) -> int:
    """Wall seconds at which a period begins; it ends where the next one begins."""
    return DAY_S * (period if kind is Kind.DAY else _first_day(period))


# Both from Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": civil_from_days, days_from_civil.
# Years begin in March there, so that the leap day is a year's last. 2026-01-01 is day 20454.


def _month_of(day: int) -> int:
    era, day_of_era = divmod(day + 719468, 146097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    months_from_march = (5 * day_of_year + 2) // 153
    return 12 * (era * 400 + year_of_era) + months_from_march + 2


def _first_day(month: int) -> int:
    year, months_from_march = divmod(month - 2, 12)
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * months_from_march + 2) // 5
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
