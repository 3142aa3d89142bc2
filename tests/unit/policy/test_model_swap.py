"""Which model is unloaded for which."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferry.policy.model_swap import (
    CannotLoad,
    Holder,
    LoadNow,
    UnloadFirst,
    WaitForMemory,
    decide_load,
    in_gib,
    is_idle_too_long,
)

GIB = 2**30


def loaded(name: str, gib: int, *, used_s: float = 0.0, requests: int = 0, since_s: float = 0.0) -> Holder:
    return Holder(name, gib * GIB, True, requests, used_s, since_s, loaded_min_s=10)


holders_strategy = st.lists(
    st.builds(
        Holder,
        name=st.uuids().map(str),
        need_bytes=st.integers(0, 20),
        on_demand=st.booleans(),
        requests=st.integers(0, 3),
        used_s=st.floats(0, 100),
        loaded_s=st.none() | st.floats(0, 100),
        loaded_min_s=st.floats(0, 50),
        is_leaving=st.booleans(),
    ),
    max_size=8,
)


def test_without_a_budget_everything_is_loaded() -> None:
    """No budget, no bound."""
    assert isinstance(decide_load(100 * GIB, None, [loaded("a", 100)], 0), LoadNow)


def test_what_fits_is_loaded_beside_the_others() -> None:
    """Up to the last byte of the budget."""
    assert isinstance(decide_load(4 * GIB, 8 * GIB, [loaded("a", 4)], 0), LoadNow)
    assert not isinstance(decide_load(4 * GIB + 1, 8 * GIB, [loaded("a", 4)], 0), LoadNow)


def test_the_least_recently_used_idle_one_goes_first() -> None:
    """Of three idle ones, the one whose last request is longest ago; and it says what is missing."""
    holders = [loaded("a", 2, used_s=30), loaded("b", 2, used_s=20), loaded("c", 2, used_s=40)]
    decision = decide_load(3 * GIB, 8 * GIB, holders, 100)
    assert decision == UnloadFirst(("b",), "3.0 GiB are needed, 2.0 GiB of 8.0 GiB are free")


def test_an_idle_one_goes_before_a_busy_one() -> None:
    """Even if the busy one was used longer ago: an answer under way delays the load."""
    holders = [loaded("a", 4, used_s=30, requests=1), loaded("b", 4, used_s=90)]
    assert decide_load(4 * GIB, 8 * GIB, holders, 100) == UnloadFirst(
        ("b",), "4.0 GiB are needed, 0 MiB of 8.0 GiB are free"
    )


def test_a_busy_one_goes_where_nothing_else_helps() -> None:
    """Or a model under steady load would keep all others out forever."""
    decision = decide_load(8 * GIB, 8 * GIB, [loaded("a", 8, requests=2)], 100)
    assert isinstance(decision, UnloadFirst)
    assert decision.names == ("a",)


def test_nobody_goes_in_vain() -> None:
    """One that alone frees enough goes alone, though a smaller one was used longer ago."""
    holders = [loaded("small", 1, used_s=1), loaded("large", 7, used_s=2)]
    decision = decide_load(7 * GIB, 8 * GIB, holders, 100)
    assert isinstance(decision, UnloadFirst)
    assert decision.names == ("large",)


def test_one_that_has_just_come_stays() -> None:
    """For loaded_min_s; then it may go."""
    fresh = loaded("a", 8, since_s=95)
    assert decide_load(8 * GIB, 8 * GIB, [fresh], 100) == WaitForMemory(
        "'a' is loaded for less than loaded_min_s"
    )
    assert isinstance(decide_load(8 * GIB, 8 * GIB, [fresh], 105), UnloadFirst)


def test_one_that_loads_or_leaves_is_waited_for() -> None:
    """Neither is asked to go."""
    loading = Holder("a", 8 * GIB, True)
    assert decide_load(GIB, 8 * GIB, [loading], 0) == WaitForMemory("'a' is before it")
    leaving = Holder("a", 8 * GIB, True, is_leaving=True, loaded_s=0)
    assert decide_load(GIB, 8 * GIB, [leaving], 0) == WaitForMemory("'a' is being unloaded")


def test_what_can_never_fit_is_refused_with_the_figures() -> None:
    """Larger than the budget, or than what deployments that are always loaded leave of it."""
    assert decide_load(9 * GIB, 8 * GIB, [], 0) == CannotLoad(
        "it needs 9.0 GiB, and host.memory_budget is 8.0 GiB: 1.0 GiB are missing"
    )
    always = Holder("chat", 5 * GIB, False, loaded_s=0)
    assert decide_load(4 * GIB, 8 * GIB, [always], 0) == CannotLoad(
        "it needs 4.0 GiB, and host.memory_budget is 8.0 GiB, of which 5.0 GiB are for what is always loaded "
        "('chat'): 1.0 GiB are missing"
    )


@given(st.integers(0, 20), st.integers(1, 60), holders_strategy, st.floats(0, 200))
def test_unloading_is_always_allowed_enough_and_needed(
    need: int, budget: int, holders: list[Holder], now_s: float
) -> None:
    """Whoever is asked to go may go; together they free enough; without any one of them it would not do; and a busy
    one is only among them if all idle ones together are too few."""
    decision = decide_load(need, budget, holders, now_s)
    by_name = {each.name: each for each in holders}
    held = sum(each.need_bytes for each in holders)
    if isinstance(decision, LoadNow):
        assert held + need <= budget
    if not isinstance(decision, UnloadFirst):
        return
    going = [by_name[name] for name in decision.names]
    for each in going:
        assert each.on_demand
        assert not each.is_leaving
        assert each.loaded_s is not None
        assert now_s - each.loaded_s >= each.loaded_min_s
    leaving = sum(each.need_bytes for each in holders if each.is_leaving)
    freed = sum(each.need_bytes for each in going)
    short = held + need - budget - leaving
    assert freed >= short > 0
    assert all(freed - each.need_bytes < short for each in going)
    if any(each.requests for each in going):
        idle = sum(
            each.need_bytes
            for each in holders
            if each.on_demand
            and not each.requests
            and not each.is_leaving
            and each.loaded_s is not None
            and now_s - each.loaded_s >= each.loaded_min_s
        )
        assert idle < short


@given(st.integers(0, 20), st.integers(1, 60), holders_strategy)
def test_who_waits_is_served_in_the_end(need: int, budget: int, holders: list[Holder]) -> None:
    """Once everything has loaded, left or been there for long enough, the answer is never to wait."""
    late_s = 1000.0
    settled = [
        Holder(each.name, each.need_bytes, each.on_demand, each.requests, each.used_s, 0.0, each.loaded_min_s)
        for each in holders
        if not each.is_leaving
    ]
    assert not isinstance(decide_load(need, budget, settled, late_s), WaitForMemory)


def test_idle_for_too_long() -> None:
    """Counted from the last request, or from when it became ready; never while it holds one, loads or leaves."""
    idle = loaded("a", 1, used_s=50, since_s=20)
    assert not is_idle_too_long(idle, 30, 79)
    assert is_idle_too_long(idle, 30, 80)
    assert not is_idle_too_long(idle, None, 10_000)
    assert not is_idle_too_long(loaded("a", 1, used_s=50, requests=1), 30, 10_000)
    assert not is_idle_too_long(loaded("a", 1, used_s=0, since_s=60), 30, 80)
    assert not is_idle_too_long(Holder("a", GIB, True), 30, 10_000)
    assert not is_idle_too_long(Holder("a", GIB, True, loaded_s=0, is_leaving=True), 30, 10_000)


def test_sizes_are_written_for_people() -> None:
    """In GiB with a tenth, small ones in MiB."""
    assert (in_gib(3 * GIB // 2), in_gib(80 * 2**20)) == ("1.5 GiB", "80 MiB")
