"""Several deployments, one budget."""

from __future__ import annotations

from inferry.policy.scaling.fleet_budget import Claim, Grant, share_out


def test_what_fits_is_granted_without_a_word() -> None:
    """Without a budget, or within it, everybody has its wish."""
    claims = [Claim("chat", 2, 4, 1), Claim("code", 2, 1, 1)]
    assert share_out(claims) == [Grant("chat", 4, ""), Grant("code", 1, "")]
    assert share_out(claims, gpus_max=6) == [Grant("chat", 4, ""), Grant("code", 1, "")]


def test_what_begins_to_leave_has_its_gpus_still() -> None:
    """One of the 4 begins to leave, and of the two that are wanted instead only the GPU that is free is given away."""
    claims = [Claim("chat", 2, 4, 1), Claim("code", 2, 1, 1)]
    assert [each.to for each in share_out(claims, gpus_max=5)] == [3, 1]
    assert [each.to for each in share_out(claims, gpus_max=4)] == [2, 1]


def test_those_that_want_the_same_take_turns() -> None:
    """6 GPUs are left for two that want 8 each: 3 each, and it is told."""
    grants = share_out([Claim("chat", 1, 9, 1), Claim("code", 1, 9, 1)], gpus_max=8)
    assert [each.to for each in grants] == [4, 4]
    assert grants[0].because == "3 replicas of 8 more: 8 of the host's 8 GPUs are taken"


def test_the_more_urgent_goes_first_and_then_the_order_of_the_file() -> None:
    """Of three GPUs that are left the urgent one takes two; of the others, the first in the file gets the third."""
    claims = [Claim("chat", 1, 3, 1), Claim("code", 1, 3, 1), Claim("live", 1, 3, 1, urgency=5)]
    assert [each.to for each in share_out(claims, gpus_max=6)] == [2, 1, 3]


def test_a_big_replica_that_does_not_fit_leaves_room_for_small_ones() -> None:
    """3 GPUs are left: not for one more of 4 GPUs, but for three of one."""
    grants = share_out([Claim("big", 1, 2, 4), Claim("small", 1, 9, 1)], gpus_max=8)
    assert [each.to for each in grants] == [1, 4]


def test_money_is_a_budget_as_well() -> None:
    """10 an hour: 4 at 2.5, although ten times 0.1 is not quite 1 in binary."""
    assert share_out([Claim("chat", 1, 9, 0, 2.5)], money_per_hour_max=10)[0].to == 4
    assert share_out([Claim("chat", 1, 99, 0, 0.1)], money_per_hour_max=1)[0].to == 10


def test_a_budget_that_was_lowered_takes_nothing_away() -> None:
    """ai-dynamo/dynamo#12428: a planner over its budget was stuck. Here growth stops, and shrinking goes on."""
    claims = [Claim("chat", 6, 7, 1), Claim("code", 6, 4, 1)]
    assert [each.to for each in share_out(claims, gpus_max=8)] == [6, 4]


def test_replicas_without_gpus_are_not_bound_by_gpus() -> None:
    """On CPUs `gpus_max` says nothing."""
    assert share_out([Claim("chat", 1, 5), Claim("code", 4, 4, 2)], gpus_max=8)[0].to == 5
