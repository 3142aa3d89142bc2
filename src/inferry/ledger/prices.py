"""What tokens cost, in whole billionths of the ledger's currency. Pure, and integers all the way."""

from __future__ import annotations

from typing import NamedTuple

from inferry.core.gateway_settings import Price

NANO = 1_000_000_000
"""Billionths in one unit of currency."""
COST_NANO_MAX = 10**15
"""A million units of currency for one request: beyond it, an engine told nonsense, and sums must not overflow."""
_MTOK = 1_000_000


class Rates(NamedTuple):
    """A Price as integers: billionths per million tokens, so that sums of products are exact."""

    prompt: int
    cached: int
    completion: int

    def cost_nano(self, prompt: int | None, cached: int | None, completion: int | None) -> int:
        """See `cost_nano`."""
        if self == _FREE:
            return 0
        prompt_tokens = prompt or 0
        cached_tokens = min(cached or 0, prompt_tokens)
        total = (
            (prompt_tokens - cached_tokens) * self.prompt
            + cached_tokens * self.cached
            + (completion or 0) * self.completion
        )
        return min(COST_NANO_MAX, (total + _MTOK // 2) // _MTOK)


_FREE = Rates(0, 0, 0)


def rates(price: Price) -> Rates:
    """The integers behind a price; a price's digits beyond the ninth after the point are rounded away."""
    cached = price.prompt_per_mtok if price.cached_per_mtok is None else price.cached_per_mtok
    return Rates(*(round(each * NANO) for each in (price.prompt_per_mtok, cached, price.completion_per_mtok)))


def cost_nano(price: Price, prompt: int | None, cached: int | None, completion: int | None) -> int:
    """The cost of one request in billionths; None counts as no tokens.

    `prompt` is all prompt tokens; the `cached` ones among them (at most all) have their own price. Rounded once,
    at the end, to the nearest billionth, halves up. At 2.50 / 1.25 / 10.00 per million, 1000 prompt tokens
    (200 of them cached) and 300 generated cost 800 x 2.50 + 200 x 1.25 + 300 x 10.00 = 5250 millionths:
    5,250,000 billionths.
    """
    return rates(price).cost_nano(prompt, cached, completion)
