"""What a million tokens cost at the rates of a run: the price of an hour of all that serves, by an hour's tokens."""

from __future__ import annotations

from msgspec import Struct

from inferry.bench.plan import Price

SECONDS_PER_HOUR = 3600
MILLION = 1_000_000


class Cost(Struct, frozen=True, kw_only=True):
    """In the price's currency. It holds at the run's load: a server that is half idle costs twice as much a token."""

    per_hour: float
    currency: str
    per_million_output_tokens: float | None
    """None, here and below: no such tokens came in the window."""
    per_million_tokens: float | None
    """Input and output together. None also: of some answers nobody knows the input."""
    per_million_good_output_tokens: float | None
    """Of answers within the SLO. None also: there is no SLO."""


def cost(
    price: Price, *, output_per_s: float | None, input_per_s: float | None, good_output_per_s: float | None
) -> Cost:
    """Rates are of tokens; None: not known."""
    known = output_per_s is not None and input_per_s is not None
    return Cost(
        per_hour=price.per_hour,
        currency=price.currency,
        per_million_output_tokens=per_million(price.per_hour, output_per_s),
        per_million_tokens=per_million(price.per_hour, (output_per_s or 0) + (input_per_s or 0))
        if known
        else None,
        per_million_good_output_tokens=per_million(price.per_hour, good_output_per_s),
    )


def per_million(per_hour: float, tokens_per_s: float | None) -> float | None:
    """2.5 an hour at 1,000 tokens/s, which are 3.6 million an hour: 0.694. None: there are none."""
    return per_hour / (tokens_per_s * SECONDS_PER_HOUR) * MILLION if tokens_per_s else None
