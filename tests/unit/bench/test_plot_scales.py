"""Axes and how values are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.bench.plot_scales import Unit, amount_text, axis_for, log_axis, time_axis


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "–"),
        (math.inf, "ms", "∞"),
        (0.0, "ms", "0 ms"),
        (0.0312, "ms", "31.2 µs"),
        (41.26, "ms", "41.3 ms"),
        (1250.0, "ms", "1.25 s"),
        (999.7, "ms", "1 s"),
        (12.0, "s", "12 s"),
        (600.0, "s", "10 min"),
        (0.9871, "share", "98.7 %"),
        (0.00001, "share", "under 0.01 %"),
        (1234567.0, "number", "1,234,567"),
        (19.96, "per_s", "20/s"),
    ],
)
def test_values_are_written_for_people(value: float | None, unit: Unit, text: str) -> None:
    """Three figures, a unit that fits the size, and words for what is no number."""
    assert amount_text(value, unit) == text


@given(st.lists(st.floats(0, 1e9), max_size=20), st.sampled_from(["ms", "number", "per_s", "W"]))
def test_every_value_has_its_place(values: list[float], unit: Unit) -> None:
    """Whatever is measured lies on its axis, in order, and ticks do too, each with words of its own."""
    axis = axis_for(values, unit)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(axis.low <= value <= axis.high * (1 + 1e-9) for value in values if value >= axis.low)
    assert 2 <= len(axis.ticks) <= 12
    ticks = [axis.place(tick) for tick in axis.ticks]
    assert ticks == sorted(set(ticks))
    if axis.high > 1e-3:
        words = [amount_text(tick, unit) for tick in axis.ticks]
        assert len(set(words)) == len(words)


@given(st.floats(1e-3, 1e6), st.floats(1, 1e6))
def test_logarithmic_axes_hold_their_span(least: float, factor: float) -> None:
    """From the least to the most, however far apart, with few enough ticks to be read."""
    axis = log_axis(least, least * factor, "ms")
    assert axis.low <= least * 1.001
    assert axis.high >= least * factor * 0.999
    assert 2 <= len(axis.ticks) <= 10


def test_small_and_large_values_share_a_logarithmic_axis() -> None:
    """Beyond thirty to one the axis is logarithmic, unless there is a zero, which such an axis has not."""
    assert not axis_for([10, 290], "ms").log
    assert axis_for([10, 310], "ms").log
    assert not axis_for([0, 10, 310], "ms").log


@given(st.floats(0, 1e6))
def test_time_ends_where_the_run_does(until_s: float) -> None:
    """All plots over time share the run's clock: the axis has its length, and not too many ticks."""
    axis = time_axis(until_s)
    assert axis.high == (until_s if until_s > 1e-6 else 1.0)
    assert 1 <= len(axis.ticks) <= 14
