"""The law of an engine's timing, fitted to step times."""

from __future__ import annotations

import pytest

from inferry.simulate.timing_fit import fit


def _rows(*factors: float) -> list[tuple[tuple[float, float, float], float]]:
    places = [(1.0, count, count * context) for count in (1.0, 4.0, 32.0) for context in (100.0, 1000.0)]
    return [(terms, sum(f * t for f, t in zip(factors, terms, strict=True))) for terms in places]


def test_a_law_is_found_again() -> None:
    """From times that follow it, to the last digit but few."""
    found = fit(_rows(0.03, 0.0003, 1e-7))
    assert found.factors == pytest.approx((0.03, 0.0003, 1e-7), rel=1e-6)
    assert found.worst < 1e-9


def test_no_figure_is_below_zero() -> None:
    """Where a line through the times would have one, the rest are fitted without it."""
    found = fit(_rows(0.03, -0.0002, 1e-7))
    assert min(found.factors) >= 0
    assert 0 < found.worst < 1


def test_nothing_known_is_an_error() -> None:
    """Instead of a law out of thin air."""
    with pytest.raises(ValueError, match="no step's time is known"):
        fit([((1.0, 2.0), 0.0)])
