"""Where in the week a moment is, in a time zone."""

from __future__ import annotations

from inferry.core.clock import wall_s_of, week_minute


def test_minutes_since_monday_there() -> None:
    """By the zone's own clock, with its summer time; a zone that nobody knows is none."""
    monday = wall_s_of("2026-01-05 00:00")
    assert week_minute(monday, "UTC") == 0
    assert week_minute(monday + 59, "UTC") == 0
    assert week_minute(monday + 25 * 3600, "UTC") == 25 * 60
    assert week_minute(monday, "Europe/Berlin") == 60
    assert week_minute(wall_s_of("2026-07-06 00:00"), "Europe/Berlin") == 120
    assert week_minute(monday, "America/New_York") == 7 * 24 * 60 - 5 * 60
    assert week_minute(monday, "Europe/Atlantis") is None
