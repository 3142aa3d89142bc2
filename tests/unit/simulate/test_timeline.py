"""Simulated time: in order, and the same each time."""

from __future__ import annotations

from inferry.simulate.timeline import Timeline


def test_events_happen_in_order_and_equals_as_they_were_planned() -> None:
    """By time; at one moment, what was planned first comes first; what events plan is in it."""
    timeline = Timeline()
    seen: list[tuple[float, str]] = []

    def note(name: str) -> None:
        seen.append((timeline.now_s, name))
        if name == "b":
            timeline.at(timeline.now_s, note, "b again")

    for at_s, name in ((3.0, "d"), (1.0, "a"), (2.0, "b"), (2.0, "c")):
        timeline.at(at_s, note, name)
    timeline.run()
    assert seen == [(1.0, "a"), (2.0, "b"), (2.0, "c"), (2.0, "b again"), (3.0, "d")]


def test_a_cancelled_event_does_not_happen() -> None:
    """Nor does it move the time."""
    timeline = Timeline()
    timeline.cancel(timeline.at(5.0, lambda: None))
    timeline.run()
    assert timeline.now_s == 0.0


def test_a_run_can_stop_and_go_on() -> None:
    """Up to a time, that time included; the rest is still to come."""
    timeline = Timeline()
    seen: list[float] = []
    for at_s in (1.0, 2.0, 3.0):
        timeline.at(at_s, lambda: seen.append(timeline.now_s))
    timeline.run(until_s=2.0)
    assert seen == [1.0, 2.0]
    timeline.run()
    assert seen == [1.0, 2.0, 3.0]
