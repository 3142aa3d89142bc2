"""Costs are exact integers."""

from __future__ import annotations

import pytest

from inferry.core.gateway_settings import Price
from inferry.ledger.prices import COST_NANO_MAX, cost_nano


def test_the_worked_number() -> None:
    """1000 prompt tokens, 200 of them cached, and 300 generated at 2.50/1.25/10 cost 5,250,000 billionths."""
    price = Price(prompt_per_mtok=2.5, cached_per_mtok=1.25, completion_per_mtok=10)
    assert cost_nano(price, 1000, 200, 300) == 5_250_000


def test_cached_tokens_cost_as_others_where_no_price_says_otherwise() -> None:
    """Without a price of their own, cached tokens are billed as prompt tokens: not twice, not for nothing."""
    price = Price(prompt_per_mtok=2.0)
    assert cost_nano(price, 100, 60, 0) == cost_nano(price, 100, 0, 0) == 200_000


def test_cached_tokens_may_be_free() -> None:
    """A price of 0 is a price, and not a missing one."""
    assert cost_nano(Price(prompt_per_mtok=2.0, cached_per_mtok=0.0), 100, 60, 0) == 80_000


@pytest.mark.parametrize(("per_mtok", "tokens", "nano"), [(0.0005, 1, 1), (0.0004, 1, 0), (0.0015, 3, 5)])
def test_rounded_once_at_the_end_halves_up(per_mtok: float, tokens: int, nano: int) -> None:
    """Half a billionth is rounded up, less is dropped, and three times 1.5 is 4.5, not three times 2."""
    assert cost_nano(Price(completion_per_mtok=per_mtok), None, None, tokens) == nano


def test_a_decimal_price_is_taken_as_written() -> None:
    """0.1 has no exact double, and a million tokens cost exactly 0.1 all the same."""
    assert cost_nano(Price(prompt_per_mtok=0.1), 1_000_000, 0, 0) == 100_000_000


def test_more_cached_than_prompt_tokens_is_not_negative() -> None:
    """An engine that claims more cached tokens than the prompt has gets no refund for its users."""
    assert cost_nano(Price(prompt_per_mtok=1.0, cached_per_mtok=0.5), 10, 1000, 0) == 5_000


def test_nonsense_has_a_bound() -> None:
    """The largest count an engine may claim, at the largest price, stays in range of the store's sums."""
    assert cost_nano(Price(prompt_per_mtok=10**6), 2**53, 0, 0) == COST_NANO_MAX
