"""Between which numbers: file, schedule, GPUs, money, and replicas that don't come up."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.policy.scaling.bounds import bounds_in_force
from tests.unit.policy.scaling.looks import Looks, scaling_of

QUEUE = {"metric": "queue_depth", "above": 50, "add": 4}
OFFICE = {"days": ["mon", "tue", "wed", "thu", "fri"], "begin": "08:00", "end": "18:00", "min": 6}
DAY = 24 * 60


def minimum(minute: int, *entries: dict[str, Any], zone: str = "UTC") -> int:
    return bounds_in_force(scaling_of(schedule=list(entries)), {zone: minute}).low


@pytest.mark.parametrize(
    ("minute", "low"), [(8 * 60 - 1, 1), (8 * 60, 6), (18 * 60 - 1, 6), (18 * 60, 1), (5 * DAY + 9 * 60, 1)]
)
def test_a_schedule_holds_from_its_begin_up_to_its_end(minute: int, low: int) -> None:
    """Monday 07:59, 08:00, 17:59, 18:00, and Saturday 09:00."""
    assert minimum(minute, OFFICE) == low


@pytest.mark.parametrize(("minute", "low"), [(6 * DAY + 23 * 60, 3), (60, 3), (2 * 60, 1), (DAY + 60, 1)])
def test_an_entry_over_midnight_belongs_to_the_day_it_began(minute: int, low: int) -> None:
    """Sunday 22:00 to 02:00: also Monday 01:00, over the week's end; not Tuesday 01:00."""
    assert minimum(minute, {"days": ["sun"], "begin": "22:00", "end": "02:00", "min": 3}) == low


def test_of_several_entries_the_highest_min_and_the_highest_max_hold() -> None:
    """Two that overlap never contradict each other."""
    wide = {"begin": "00:00", "end": "24:00", "max": 3}
    bounds = bounds_in_force(scaling_of(schedule=[wide, OFFICE]), {"UTC": 9 * 60})
    assert (bounds.low, bounds.high) == (6, 10)
    assert bounds.low_by == "schedule 08:00-18:00, min 6"


def test_a_zone_of_which_the_time_is_unknown_rests_and_says_so() -> None:
    """Not taken for midnight."""
    chat = Looks(scaling_of(schedule=[{**OFFICE, "timezone": "Europe/Berlin"}]), week_minutes={"UTC": 9 * 60})
    decision = chat.look()
    assert decision.to == 2
    assert "the schedule has no time of Europe/Berlin: it rests" in decision.because


def test_the_hour_comes_and_its_min_is_there_at_once() -> None:
    """Whatever was stabilized or cooled down; no rule is needed for it."""
    moves = {"stabilize_s": 600, "cooldown_s": 600}
    chat = Looks(scaling_of(QUEUE, schedule=[OFFICE], up=moves, down=moves), week_minutes={"UTC": 479})
    assert chat.changes(50) == []
    chat.week_minutes = {"UTC": 480}
    decision = chat.look()
    assert (decision.to, decision.rule) == (6, "schedule")
    assert "at least 6: schedule 08:00-18:00, min 6" in decision.because


def test_a_file_with_nothing_but_a_schedule_follows_its_min() -> None:
    """Down to 1 before the office opens, 6 while it is open, 1 after."""
    chat = Looks(scaling_of(schedule=[OFFICE]), week_minutes={"UTC": 479})
    assert chat.changes(20) == [(10.0, 1)]
    chat.week_minutes = {"UTC": 480}
    assert chat.changes(20) == [(20.0, 6)]
    chat.week_minutes = {"UTC": 18 * 60}
    assert chat.changes(20) == [(40.0, 1)]


def test_gpus_bound_the_number() -> None:
    """9 GPUs at 2 each are 4 replicas (ai-dynamo/dynamo#12428: a planner went over max_gpu_budget and stuck)."""
    chat = Looks(scaling_of(QUEUE, gpus_max=9), at_gateways=900, gpus_per_replica=2)
    decisions = chat.looks(100)
    assert {each.to for each in decisions} == {4}
    assert "at most 4: gpus_max 9, 2 per replica" in decisions[-1].because


def test_money_bounds_the_number() -> None:
    """10 an hour at 2.5 each are 4."""
    scaling = scaling_of(QUEUE, money_per_hour_max=10, replica_price_per_hour=2.5)
    decision = Looks(scaling, at_gateways=900).look()
    assert decision.to == 4
    assert "at most 4: money_per_hour_max 10, 2.5 per replica" in decision.because


def test_a_budget_below_min_goes_before_it_and_never_takes_the_last_one() -> None:
    """min 4 with GPUs for 2 are 2; with GPUs for none, the one that is there stays."""
    chat = Looks(scaling_of(QUEUE, min=4, gpus_max=4), wanted=4, gpus_per_replica=2)
    assert chat.look().to == 2
    chat = Looks(scaling_of(QUEUE, gpus_max=1), wanted=1, gpus_per_replica=2)
    assert chat.look().to == 1


def test_replicas_that_do_not_come_up_are_not_joined_by_more() -> None:
    """Failing starts: ten that fail are no better than one, and cost ten times as much."""
    chat = Looks(scaling_of(QUEUE), at_gateways=900, failing="out of GPU memory")
    decision = chat.look()
    assert (decision.to, decision.rule) == (2, "")
    assert decision.because.endswith("none is added while they don't come up: out of GPU memory")


def test_a_changed_file_brings_the_number_within_its_bounds_at_once() -> None:
    """Also at a first look: bounds are no guess."""
    decision = Looks(scaling_of(QUEUE, max=3), wanted=8).look()
    assert (decision.to, decision.rule) == (3, "max")
