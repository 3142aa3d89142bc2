"""The clock moved by hand."""

from __future__ import annotations

import pytest

from inferry.core.clock import Clock, utc_text
from inferry.testing.manual_clock import ManualClock


def test_it_stands_still_until_it_is_moved() -> None:
    """Both readings are a Clock's, advance together, and only when told."""
    clock = ManualClock(now_s=5.0)
    as_clock: Clock = clock
    assert (as_clock.now_s(), as_clock.now_s()) == (5.0, 5.0)
    assert utc_text(as_clock.wall_s()) == "2026-01-01 00:00:00Z"
    assert clock.advance(61.5) == 66.5
    assert utc_text(as_clock.wall_s()) == "2026-01-01 00:01:01Z"


def test_only_wall_time_can_jump() -> None:
    """An operator may set what people read; durations don't notice, and never run backwards."""
    clock = ManualClock()
    clock.set_wall_s(0.0)
    assert (clock.now_s(), clock.wall_s()) == (0.0, 0.0)
    with pytest.raises(ValueError, match="can't go back"):
        clock.advance(-1.0)
