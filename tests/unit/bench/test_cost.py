"""What tokens cost: known rates and a price, by hand."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from inferry.bench.cost import cost, per_million
from inferry.bench.plan import Price, Slo
from inferry.bench.records import Verdict
from inferry.bench.summary import summarise
from tests.unit.bench.known_runs import plan, request, run

PRICE = Price(per_hour=3.6, currency="EUR")
"""A thousandth of it a second: at 1 token/s, a million cost a thousand."""


def test_a_million_tokens() -> None:
    """The hour's price by the hour's tokens; no tokens have no price, rather than an infinite one."""
    assert per_million(2.5, 1000.0) == pytest.approx(0.6944, abs=0.0001)
    assert per_million(2.5, 0.0) is per_million(2.5, None) is None


def test_input_that_nobody_counted_is_not_taken_for_none() -> None:
    """Without a rate of input there is no cost of all tokens; that of the output stands."""
    found = cost(PRICE, output_per_s=10.0, input_per_s=None, good_output_per_s=None)
    assert found.per_million_output_tokens == pytest.approx(100)
    assert found.per_million_tokens is None


def test_the_rates_are_those_of_the_run() -> None:
    """At about 40 tokens/s out and 100 in; where one answer's input is not known, all tokens have no cost."""
    priced = replace(plan(), price=PRICE)
    requests = [request(n, due_s=n / 10) for n in range(100)]
    summary = summarise(priced, run(requests))
    assert summary.cost is not None
    assert summary.output_tokens_per_s is not None
    assert summary.input_tokens_per_s is not None
    all_per_s = summary.output_tokens_per_s + summary.input_tokens_per_s
    assert summary.cost.per_million_output_tokens == pytest.approx(1000 / summary.output_tokens_per_s)
    assert summary.cost.per_million_tokens == pytest.approx(1000 / all_per_s)
    assert summary.cost.per_million_good_output_tokens is None
    requests[7] = replace(requests[7], input_tokens=None)
    partly = summarise(priced, run(requests)).cost
    assert partly is not None
    assert partly.per_million_tokens is None


def test_good_answers_pay_for_the_bad_ones() -> None:
    """With every second answer too late, the tokens of good ones cost twice as much; with none good, nothing is said."""
    requests = [request(n, due_s=n / 10, ttft_s=0.1 + 0.1 * (n % 2)) for n in range(100)]
    requests += [request(100, due_s=9.99, verdict=Verdict.TRUNCATED)]
    found = summarise(replace(plan(slo=Slo(ttft_ms=150)), price=PRICE), run(requests)).cost
    assert found is not None
    assert found.per_million_output_tokens is not None
    assert found.per_million_good_output_tokens == pytest.approx(
        2 * found.per_million_output_tokens, rel=0.03
    )
    none = summarise(replace(plan(slo=Slo(ttft_ms=50)), price=PRICE), run(requests)).cost
    assert none is not None
    assert none.per_million_good_output_tokens is None


def test_no_price_no_cost() -> None:
    """Nothing is made up."""
    assert summarise(plan(), run([request()])).cost is None
