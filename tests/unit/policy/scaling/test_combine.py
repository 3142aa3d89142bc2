"""Many rules, one wish."""

from __future__ import annotations

from inferry.policy.scaling.combine import agree, leaning
from inferry.policy.scaling.vote import Stance, Vote, no_figure, one_stance


def vote(rule: str, to: int, floor: int = 0) -> Vote:
    return one_stance(rule, Stance(to, floor), "because")


def test_the_highest_wish_wins_upwards() -> None:
    """5 and 7 are wanted, and one rule wants fewer: 7."""
    agreed = agree([vote("a", 5, 4), vote("b", 7, 4), vote("c", 2, 2)], 4)
    assert (agreed.to, agreed.rule) == (7, "b")


def test_downwards_the_least_step_is_taken() -> None:
    """1 and 3 are wanted by those that want fewer, and nobody is against it: 3."""
    agreed = agree([vote("a", 1, 1), vote("b", 3, 3), vote("c", 4, 0)], 4)
    assert (agreed.to, agreed.rule) == (3, "b")


def test_a_rule_without_a_figure_keeps_all() -> None:
    """llm-d-autoscaling#1981: what can't tell is not taken for agreeing; and it is said who holds it."""
    agreed = agree([vote("a", 1, 1), no_figure("b", 4, "no figure: silence")], 4)
    assert (agreed.to, agreed.rule) == (4, "")
    assert agreed.because == "a wants 1 (because), held by b: no figure: silence"


def test_a_rule_may_agree_to_some_of_it_only() -> None:
    """1 is wanted, and another rule would ask for more again below 3."""
    agreed = agree([vote("a", 1, 1), vote("b", 4, 3)], 4)
    assert (agreed.to, agreed.rule) == (3, "a")
    assert "b agrees to 3" in agreed.because


def test_with_nobody_who_asks_nothing_changes() -> None:
    """That all would agree to 0 is no wish for 0."""
    assert agree([vote("a", 4), vote("b", 4)], 4).to == 4
    assert agree([], 4).to == 4


def test_what_ripens_is_told() -> None:
    """An operator sees which rule's time runs."""
    ripens = Vote("a", Stance(4, 4), Stance(5, 4), "hot for 20 s of 300 s")
    assert agree([ripens], 4).because == "not yet; a: hot for 20 s of 300 s"
    assert leaning([ripens], 4) == 5
