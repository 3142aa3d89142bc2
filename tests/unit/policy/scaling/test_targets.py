"""Targets: Kubernetes' formula, with what is on the way."""

from __future__ import annotations

from tests.unit.policy.scaling.looks import Looks, scaling_of

USE = {"metric": "gpu_use", "target": 0.6}


def test_a_mean_is_kept_by_proportion() -> None:
    """4 replicas at 0.9 for a target of 0.6 make 6."""
    assert Looks(scaling_of(USE), wanted=4, gpu_use=0.9).look().to == 6


def test_a_sum_is_so_much_per_replica() -> None:
    """45 requests/s at 10 per replica make 5."""
    chat = Looks(scaling_of({"metric": "requests_per_s", "target": 10}), per_s=45.0)
    assert chat.changes(20) == [(10.0, 5)]


def test_within_the_tolerance_nothing_changes() -> None:
    """0.65 is within 10 % of 0.6; 0.67 is not."""
    assert Looks(scaling_of(USE), wanted=4, gpu_use=0.65).look().to == 4
    assert Looks(scaling_of(USE), wanted=4, gpu_use=0.67).look().to == 5


def test_replicas_on_the_way_are_counted_as_there() -> None:
    """4 serve at 0.9 and 2 come: 6 is what it takes, and nothing is added while they load."""
    chat = Looks(scaling_of(USE), wanted=6, coming=2, gpu_use=0.9)
    assert {each.to for each in chat.looks(100)} == {6}


def test_it_shrinks_to_what_the_load_needs_at_the_second_look() -> None:
    """6 at 0.1 need one; a first look removes none."""
    chat = Looks(scaling_of(USE), wanted=6, gpu_use=0.1)
    assert [each.to for each in chat.looks(20)] == [6, 1]


def test_without_a_figure_it_stays() -> None:
    """Replicas that tell nothing are not replicas at 0."""
    chat = Looks(scaling_of(USE), wanted=6, gpu_use=None)
    decisions = chat.looks(1000)
    assert {each.to for each in decisions} == {6}
    assert decisions[-1].wishes[0].to is None
