"""Thresholds: for how long, what breaks it, and what is on the way."""

from __future__ import annotations

from itertools import pairwise

from tests.unit.policy.scaling.looks import Looks, scaling_of

HOT = {"metric": "gpu_use", "above": 0.8, "for_s": 300, "add": 1}
COLD = {"metric": "gpu_use", "below": 0.3, "for_s": 600, "remove": 1}
QUEUE = {"metric": "queue_depth", "above": 50, "add": 2}
SLOW = {"metric": "e2e_ms", "above": 2000, "add": 1}


def test_a_rule_applies_after_its_time_to_the_second() -> None:
    """GPUs over 80 % from 100 s on, for 5 minutes: one more at 400 s, and not at 390 s."""
    chat = Looks(scaling_of(HOT))
    chat.looks(100)
    chat.gpu_use = 0.9
    assert chat.changes(310) == [(400.0, 3)]


def test_one_look_below_the_threshold_begins_the_time_anew() -> None:
    """4 minutes above, one look below, 4 minutes above: nothing."""
    chat = Looks(scaling_of(HOT), gpu_use=0.9)
    assert chat.changes(240) == []
    chat.gpu_use = 0.7
    assert chat.changes(10) == []
    chat.gpu_use = 0.9
    assert chat.changes(240) == []


def test_a_missing_figure_breaks_the_time_of_a_rule_that_removes() -> None:
    """9 minutes idle, one look without figures, 9 minutes idle: nothing is removed."""
    chat = Looks(scaling_of(COLD), gpu_use=0.1)
    assert chat.changes(540) == []
    chat.gpu_use = None
    assert chat.changes(10) == []
    chat.gpu_use = 0.1
    assert chat.changes(600) == []
    assert chat.changes(10) == [(chat.now_s - 10, 1)]


def test_a_short_gap_does_not_complete_a_rule_that_adds_and_does_not_break_it() -> None:
    """Figures are missing at the look at which 5 minutes are over: it adds at the next one."""
    chat = Looks(scaling_of(HOT), gpu_use=0.9)
    assert chat.changes(290) == []
    chat.gpu_use = None
    assert chat.changes(20) == []
    chat.gpu_use = 0.9
    assert chat.changes(10) == [(310.0, 3)]


def test_a_long_gap_breaks_a_rule_that_adds() -> None:
    """Hot, an hour without figures, hot: that is no hour of heat."""
    chat = Looks(scaling_of(HOT), gpu_use=0.9)
    chat.looks(200)
    chat.gpu_use = None
    chat.looks(3600)
    chat.gpu_use = 0.9
    assert chat.changes(300) == []


def test_a_gap_in_the_looks_is_no_time_that_something_held() -> None:
    """The controller slept for an hour (its machine did): the rule's time begins when it looks again."""
    chat = Looks(scaling_of(HOT), gpu_use=0.9)
    chat.look()
    chat.now_s += 3600
    assert chat.changes(300) == []


def test_what_is_on_the_way_counts_as_capacity() -> None:
    """61 wait for 2 replicas: 2 more. While these load, 61 are about 31, and nothing is added."""
    chat = Looks(scaling_of(QUEUE), at_gateways=61, starts=True)
    assert chat.look().to == 4
    decision = chat.look()
    assert decision.to == 4
    assert "queue_depth is 61, above 50, and with 2 on the way about 30.5" in decision.wishes[0].because


def test_a_peak_that_is_too_high_for_what_is_on_the_way_is_answered_again() -> None:
    """200 wait for 2: 2 on the way leave 100, 4 leave 67, 6 leave 50."""
    chat = Looks(scaling_of(QUEUE), at_gateways=200, starts=True)
    assert [each.to for each in chat.looks(50)] == [4, 6, 8, 8, 8]


def test_nothing_is_added_while_the_first_ones_load() -> None:
    """superlinked/sie#293: a deployment that wakes up with 200 requests parked waits for its first replica."""
    chat = Looks(scaling_of(QUEUE), wanted=1, coming=1, at_gateways=200)
    decision = chat.look()
    assert decision.to == 1
    assert "1 on the way are the first to serve" in decision.wishes[0].because


def test_a_backlog_that_those_on_the_way_will_carry_is_no_reason_for_more() -> None:
    """A replica loads for ten minutes and the queue grows all the while; what is on the way carries what comes in,
    so its length says nothing."""
    chat = Looks(scaling_of({**QUEUE, "over_s": 60}), at_gateways=0, per_s=4.0)
    chat.looks(70)
    chat.at_gateways, chat.coming, chat.wanted = 500, 2, 4  # 2 serve 4/s: 4 will serve 8/s
    decision = chat.look()
    assert decision.to == 4
    assert "with 2 on the way 8/s get done of 4/s that come in" in decision.wishes[0].because


def test_a_rule_that_was_answered_takes_its_time_anew() -> None:
    """GPUs stay hot with one more: the next one comes after another 5 minutes, not 10 seconds later."""
    chat = Looks(scaling_of(HOT), gpu_use=0.95)
    assert chat.changes(640) == [(300.0, 3), (610.0, 4)]


def test_what_was_refused_is_asked_for_again_at_once() -> None:
    """A change that was not made (no memory on the host) is no answer: the wish stays."""
    chat = Looks(scaling_of(HOT), gpu_use=0.95, obeyed=False)
    assert [at_s for at_s, _ in chat.changes(330)] == [300.0, 310.0, 320.0]


def test_slow_requests_of_before_a_change_are_not_answered_twice() -> None:
    """One more replica for a slow minute: for the next minute the percentile is partly of requests that waited before
    it came."""
    chat = Looks(scaling_of(SLOW), latency_s=3.0)
    changes = chat.changes(200)
    gaps = [after[0] - before[0] for before, after in pairwise(changes)]
    assert len(changes) >= 2
    assert min(gaps) >= 60


def test_fewer_are_not_agreed_to_by_a_rule_that_would_ask_for_them_back() -> None:
    """ray-project/ray#26455: up and down in turns. 2 replicas at 45 % are 1 at 90 %, above 80 %."""
    cold = {"metric": "gpu_use", "below": 0.5, "for_s": 60, "remove": 1}
    hot = {"metric": "gpu_use", "above": 0.8, "add": 1}
    chat = Looks(scaling_of(hot, cold), gpu_use=0.45)
    decisions = chat.looks(300)
    assert {each.to for each in decisions} == {2}
    assert "1 would have too much of it" in decisions[-1].because
    chat.gpu_use = 0.35
    assert chat.changes(120)[0][1] == 1


def test_amounts_may_be_shares_of_what_is_wanted() -> None:
    """50% of 5, rounded up, are 3 more."""
    chat = Looks(scaling_of({**QUEUE, "add": "50%"}), wanted=5, at_gateways=400)
    assert chat.look().to == 8


def test_an_engines_metric_may_ask_for_more_when_it_is_low() -> None:
    """Free blocks below 100 are a reason to add."""
    free = {"metric": "engine:free_blocks", "below": 100, "add": 1}
    chat = Looks(scaling_of(free), own={"free_blocks": 20.0})
    assert chat.look().to == 3
    chat.own = {"free_blocks": 500.0}
    assert chat.look().to == 3


def test_errors_alert_for_as_long_as_they_last_and_add_nothing() -> None:
    """One request in five fails: an alert at each look, and no replica."""
    chat = Looks(scaling_of({"metric": "error_rate", "above": 0.05, "alert": True}), failed_share=0.2)
    during = chat.looks(100)
    chat.failed_share = 0.0
    after = chat.looks(100)
    assert {each.to for each in during + after} == {2}
    assert during[-1].alerts[0].because == "error_rate is 0.2, above 0.05"
    assert [bool(each.alerts) for each in after[-4:]] == [False] * 4


def test_three_failed_requests_are_no_alert() -> None:
    """A share of fewer than five requests is too thin a ground."""
    rule = {"metric": "error_rate", "above": 0.05, "alert": True, "over_s": 10}
    chat = Looks(scaling_of(rule), failed_share=1.0, per_s=0.3)
    assert not any(each.alerts for each in chat.looks(100))
    chat.per_s = 0.5
    assert chat.looks(20)[-1].alerts
