"""What keeps a number from going up and down in turns."""

from __future__ import annotations

import pytest

from inferry.core.scaling_settings import ScalingMove
from inferry.policy.scaling.steady import Allowed, Steady
from tests.unit.policy.scaling.looks import Looks, scaling_of

USE = {"metric": "gpu_use", "target": 0.5, "tolerance": 0.0}


def test_downwards_the_most_that_was_wished_within_the_window_holds() -> None:
    """The load falls to a third: for 300 s nothing, then all the way at once, as Kubernetes' HPA does."""
    chat = Looks(scaling_of(USE, down={"stabilize_s": 300}), wanted=6, gpu_use=0.5)
    chat.looks(600)
    chat.gpu_use = 0.16
    assert chat.changes(320) == [(900.0, 2)]


def test_a_peak_within_the_window_begins_it_anew_and_is_told() -> None:
    """Load that comes back every 4 minutes keeps its replicas; the operator sees for how long still."""
    chat = Looks(scaling_of(USE, down={"stabilize_s": 300}), wanted=6, gpu_use=0.5)
    chat.looks(400)
    for _ in range(5):
        chat.gpu_use = 0.16
        assert chat.changes(240) == []
        chat.gpu_use = 0.5
        assert chat.changes(10) == []
    chat.gpu_use = 0.16
    assert chat.look().because.endswith("held at 6: down.stabilize_s, 290 s left")


def test_a_first_look_removes_none_however_idle_it_is() -> None:
    """A controller that was just started knows nothing: the window must be full first."""
    chat = Looks(scaling_of(USE, down={"stabilize_s": 60}), wanted=6, gpu_use=0.0)
    assert [each.to for each in chat.looks(70)] == [6] * 6 + [1]
    assert "60 s left since the first look" in Looks(chat.scaling, wanted=6, gpu_use=0.0).look().because


def test_upwards_only_as_far_as_has_been_wished_all_the_time() -> None:
    """With 60 s upwards, a peak of half a minute adds nothing, and one that lasts adds its least."""
    chat = Looks(scaling_of(USE, up={"stabilize_s": 60}), wanted=2, gpu_use=0.5)
    chat.looks(100)
    chat.gpu_use = 1.0
    assert chat.changes(30) == []
    chat.gpu_use = 0.5
    chat.look()
    chat.gpu_use = 1.0
    chat.looks(30)
    chat.gpu_use = 0.75
    assert chat.changes(40) == [(200.0, 3)]


def test_for_s_and_stabilize_s_run_side_by_side() -> None:
    """Below 30 % for 10 minutes, stabilized over 5: after 10 minutes, not after 15."""
    rule = {"metric": "gpu_use", "below": 0.3, "for_s": 600, "remove": 1}
    chat = Looks(scaling_of(rule, down={"stabilize_s": 300}), wanted=3, gpu_use=0.5)
    chat.looks(100)
    chat.gpu_use = 0.1
    assert chat.changes(620) == [(700.0, 2)]


def test_a_cooldown_holds_between_two_changes_and_counts_down() -> None:
    """90 s after a change there may be the next one."""
    rule = {"metric": "queue_depth", "above": 50, "add": 1}
    chat = Looks(scaling_of(rule, up={"cooldown_s": 90}), at_gateways=200)
    decisions = chat.looks(190)
    assert [each.at_s for each in decisions if each.is_change] == [0.0, 90.0, 180.0]
    assert (
        decisions[2].because.endswith("held: up.cooldown_s, 70 s left; no rule ever asks for fewer") is False
    )
    assert decisions[2].because.endswith("held: up.cooldown_s, 70 s left")


def test_a_change_up_does_not_cool_down_the_other_direction() -> None:
    """They are separate."""
    up = Steady(ScalingMove(cooldown_s=100), 1)
    down = Steady(ScalingMove(cooldown_s=100), -1)
    for now_s in (0.0, 10.0):
        up.wished(now_s, 2)
        down.wished(now_s, 2)
    up.changed(10.0, 1)
    assert up.allow(10.0, 3, 4).to == 3
    assert down.allow(10.0, 3, 2) == Allowed(2)


def test_at_most_so_many_in_so_long() -> None:
    """4 a minute of the 8 that are wanted: 4 at once, 4 after the minute."""
    chat = Looks(scaling_of(USE, max=20, up={"most": 4, "per_s": 60}), wanted=2, gpu_use=2.5)
    first, second, *_ = chat.looks(20)
    assert (first.to, second.to) == (6, 6)
    assert "up.most: 4 in 60 s, so not 10 at once" in first.because
    assert "held: up.most: 4 in 60 s, 50 s left" in second.because
    assert chat.changes(50)[0][0] == 60.0


def test_a_share_is_of_the_number_at_the_beginning_of_the_time() -> None:
    """100% a minute doubles once a minute; it does not double at every look."""
    chat = Looks(scaling_of(USE, max=100, up={"most": "100%", "per_s": 60}), wanted=2, gpu_use=50.0)
    assert chat.changes(130) == [(0.0, 4), (60.0, 8), (120.0, 16)]


def test_only_changes_that_were_made_count() -> None:
    """A host that refuses a replica does not start a cooldown."""
    rule = {"metric": "queue_depth", "above": 50, "add": 1}
    chat = Looks(scaling_of(rule, up={"cooldown_s": 90}), at_gateways=200, obeyed=False)
    assert len(chat.changes(50)) == 5


@pytest.mark.parametrize("sign", [1, -1])
def test_memory_does_not_grow_with_the_window(sign: int) -> None:
    """A day's window at a look a second keeps no more than there are different numbers."""
    steady = Steady(ScalingMove(stabilize_s=86_400, per_s=86_400), sign)
    for number in range(20_000):
        steady.wished(float(number), number * 7 % 50)
        steady.changed(float(number), 1)
    assert len(steady._wished) <= 50
    assert len(steady._changes) <= 101
    assert sum(by for _, by in steady._changes) == 20_000


def test_moments_of_a_real_clock() -> None:
    """They are no round numbers: the wish of a look is never older than that look."""
    steady = Steady(ScalingMove(stabilize_s=0), 1)
    now_s = 9_204.000_000_4
    for number in (1, 3, 2, 3):
        steady.wished(now_s, number)
        assert steady.allow(now_s, 1, number).to == number
        now_s += 0.500_000_3
