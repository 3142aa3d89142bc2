"""The only door to the machine's time; everything else is handed a Clock."""

from __future__ import annotations

import datetime
import time
import zoneinfo
from typing import Protocol


class Clock(Protocol):
    """Two readings: one that only ever moves forward, one that people read."""

    def now_s(self) -> float:
        """Seconds on the monotonic clock; only differences mean something."""

    def wall_s(self) -> float:
        """Seconds since 1970 UTC; for display and records, never for durations."""


class SystemClock:
    """The machine's own clocks. Not wrapped: they are read several times per request."""

    now_s = staticmethod(time.monotonic)  # noqa: TID251 - this is the door
    wall_s = staticmethod(time.time)  # noqa: TID251 - this is the door


def utc_text(wall_s: float) -> str:
    """`2026-01-31 12:00:00Z` for a wall reading."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(wall_s))


def wall_s_of(text: str) -> float:
    """The wall reading for a UTC date or time: `2026-01-31`, `2026-01-31 12:00`, `2026-01-31T12:00:00Z`.

    Raises ValueError for anything else, an offset other than UTC among it.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    if moment.utcoffset():
        raise ValueError(f"'{text}' is not in UTC")
    return moment.timestamp()


def week_minute(wall_s: float, timezone: str) -> int | None:
    """Minutes since Monday 00:00 in a time zone (`Europe/Berlin`) at a wall reading; None: nobody here knows the zone."""
    try:
        # UTC needs no database of zones, which small containers do not have.
        zone = datetime.UTC if timezone == "UTC" else zoneinfo.ZoneInfo(timezone)
        there = datetime.datetime.fromtimestamp(wall_s, zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
    return there.weekday() * 24 * 60 + there.hour * 60 + there.minute


def local_text(wall_s: float, layout: str) -> str:
    """A wall reading in this machine's time zone, laid out as `strftime` has it."""
    return time.strftime(layout, time.localtime(wall_s))


def pause_s(seconds: float) -> None:
    """Block this thread; for command lines that poll, never for code on an event loop."""
    time.sleep(seconds)
