"""When Python's collector looks, in a process that serves."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from inferry.cli.short_pauses import (
    OBJECTS_PER_CONNECTION,
    OBJECTS_PER_REQUEST,
    QUIET_LOOKS,
    QUIET_REQUESTS,
    SWITCH_S,
    WORTH_OBJECTS,
    YOUNG_MAX,
    QuietMoments,
    keep_pauses_short,
)


class Knot:
    """Refers to itself: only the collector can free it."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threshold, switch_s = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    sys.setswitchinterval(switch_s)


def knots() -> weakref.ref[Knot]:
    """As many as are worth a collection even with some requests under way, and a way to see whether the last one is
    still there."""
    gc.collect()
    some = WORTH_OBJECTS + OBJECTS_PER_REQUEST * (QUIET_REQUESTS + 1)
    made = [Knot() for _ in range(some + 100)]
    return weakref.ref(made[-1])


def test_garbage_goes_in_a_quiet_moment() -> None:
    """Not while many requests are under way; when few have been for some looks, whatever the thresholds say."""
    gc.set_threshold(YOUNG_MAX, 10, 10)
    moments, seen = QuietMoments(), knots()
    for requests in (QUIET_REQUESTS + 1, *[QUIET_REQUESTS] * (QUIET_LOOKS - 1)) * 2:
        moments.look(requests, 0)
    assert seen() is not None
    moments.look(QUIET_REQUESTS, 0)
    assert seen() is None


def test_nothing_is_looked_for_where_little_was_made() -> None:
    """An idle process is not searched each second, nor for the connections that were opened to it."""
    gc.collect()
    seen = weakref.ref(Knot())
    moments = QuietMoments()
    for _ in range(QUIET_LOOKS):
        moments.look(0, 0)
    assert seen() is not None
    seen = knots()
    moments.look(0, 1000)
    assert seen() is not None


def test_streams_under_way_bring_no_collection() -> None:
    """What live requests hold does not count towards the collector's threshold."""
    QuietMoments().look(2000, 3000)
    alive = 2000 * OBJECTS_PER_REQUEST + 3000 * OBJECTS_PER_CONNECTION
    assert gc.get_threshold()[0] == YOUNG_MAX + alive


def test_what_is_loaded_is_not_looked_at_again() -> None:
    """All objects that are there by now are out of the collector's sight, and threads take turns quickly."""
    mine = Knot()
    keep_pauses_short()
    assert not any(each is mine for each in gc.get_objects())
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
