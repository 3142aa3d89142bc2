"""Latencies of a backlog that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.policy.scaling.backlog import Backlog
from inferry.policy.scaling.observation import Traffic
from tests.unit.policy.scaling.looks import Looks, scaling_of

SLOW = {"metric": "e2e_ms", "above": 2000, "add": 1, "over_s": 60}
TARGET = {"metric": "e2e_ms", "target": 1000, "over_s": 60}


@pytest.mark.parametrize("rule", [SLOW, TARGET])
def test_a_backlog_that_is_gone_adds_nothing(rule: dict[str, Any]) -> None:
    """A minute of requests that waited, then none waits and answers are quick: for the minute in which the percentile
    is still theirs, nothing is added, and it is told why."""
    chat = Looks(scaling_of(rule), latency_s=3.0, obeyed=False, at_gateways=5)
    assert chat.looks(60)[-1].to > 2
    chat.at_gateways = 0
    chat.look()
    chat.latency_s = 0.5
    after = chat.looks(60)
    assert max(each.to for each in after) == 2
    assert (after[0].inputs["e2e_ms p95 over 60 s"] or 0) > 2000
    assert "of those that did not wait, and none waits now" in after[0].wishes[0].because


def test_what_is_slow_without_any_backlog_is_added_for() -> None:
    """After a backlog, requests go on being slow though nothing waits: that is the replicas', and one more is asked for
    at the second look."""
    chat = Looks(scaling_of(SLOW), latency_s=3.0, obeyed=False, at_gateways=5)
    chat.looks(60)
    chat.at_gateways = 0
    assert [each.to for each in chat.looks(30)] == [2, 3, 3]


def test_the_look_at_which_a_backlog_is_gone_does_not_break_a_rules_time() -> None:
    """Something waits at every other look, and all are slow for a minute: the rule's minute is full."""
    chat = Looks(scaling_of({**SLOW, "for_s": 60}), latency_s=3.0, obeyed=False)
    found = []
    for number in range(9):
        chat.at_gateways = number % 2
        found.append(chat.look().to)
    assert found[:6] == [2] * 6
    assert 3 in found[6:]


def test_those_under_way_when_it_was_gone_waited_as_well() -> None:
    """4 were at replicas when nothing waited any more: it is over when 4 have ended, whatever came since. Counters
    that begin anew begin it anew; another backlog, too."""
    backlog = Backlog()
    backlog.look(0, Traffic(ended=10, waiting=3, in_flight=4), 3)
    assert not backlog.leaves_its_mark(-60)
    backlog.look(10, Traffic(ended=12, in_flight=4), 0)
    backlog.look(20, Traffic(ended=15, in_flight=4), 0)
    assert not backlog.over
    last = Traffic(ended=16, in_flight=4)
    backlog.look(30, last, 0)
    assert backlog.over is last
    assert backlog.leaves_its_mark(29)
    assert not backlog.leaves_its_mark(30)
    backlog.look(40, Traffic(ended=1, in_flight=2), 0)
    assert not backlog.over
    assert backlog.leaves_its_mark(30)
