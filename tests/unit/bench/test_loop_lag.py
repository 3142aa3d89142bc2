"""How late and how busy the client was: of which seconds that is said."""

from __future__ import annotations

import asyncio

import pytest

from inferry.bench import loop_lag
from inferry.bench.loop_lag import LOOK_S, LoopLag, Second, with_load, with_times
from inferry.core.clock import SystemClock


def second(late_ms: float, *, sends: int = 0, reads: int = 0, under_way: int = 1) -> Second:
    return Second(
        late_s=[late_ms / 1000] * 200, wall_s=1.0, cpu_s=0.9, sends=sends, reads=reads, under_way=under_way
    )


def test_waiting_for_one_answer_hides_nothing() -> None:
    """Three seconds of load, then the rest of it, then minutes with one request that hangs or trickles.

    Only those in which requests were sent, or answers came in numbers, say how the client did.
    """
    loaded = [second(80, sends=30, reads=300, under_way=10) for _ in range(3)]
    rest = second(80, reads=100, under_way=10)
    hanging = [second(0.1) for _ in range(300)]
    trickling = [second(0.1, reads=1) for _ in range(300)]
    assert with_load([*loaded, rest, *hanging]) == [*loaded, rest]
    assert with_load([*loaded, rest, *trickling]) == [*loaded, rest]
    assert with_times([*loaded, rest, *hanging]) == [*loaded, rest]
    assert with_times([*loaded, *trickling]) == [*loaded, *trickling]


def test_one_user_that_is_answered_for_long_is_load() -> None:
    """A single stream counts as long as something comes, and a pause between two requests does not."""
    streaming, pause = second(1, reads=20), second(1, under_way=0)
    assert with_load([second(1, sends=1), streaming, pause, second(1, sends=1)]) == [
        second(1, sends=1),
        streaming,
        second(1, sends=1),
    ]
    assert with_load([pause]) == [pause]


class Doing:
    """Of a stand-in client."""

    sends = reads = under_way = 0


async def test_seconds_have_what_was_done_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second has its own sends and reads and the most under way at its ends; no look is in none or two."""
    monkeypatch.setattr(loop_lag, "SECOND_S", 0.02)
    doing = Doing()
    lag = LoopLag(doing)
    lag.begin()
    doing.sends, doing.under_way = 3, 3
    while not lag.seconds:
        await asyncio.sleep(0.005)
    doing.reads, doing.under_way = 7, 0
    while len(lag.seconds) < 3:
        await asyncio.sleep(0.005)
    lag.end()
    assert [sum(each.sends for each in lag.seconds), sum(each.reads for each in lag.seconds)] == [3, 7]
    assert [each.under_way for each in lag.seconds[:3]] == [3, 3, 0]
    assert all(each.wall_s >= 0.02 for each in lag.seconds[:-1])
    assert all(each.cpu_s >= 0 for each in lag.seconds)
    looks = sum(len(each.late_s) for each in lag.seconds)
    assert looks == pytest.approx(sum(each.wall_s for each in lag.seconds) / LOOK_S, abs=2)


async def test_a_stall_is_in_the_second_in_which_its_answers_are_read() -> None:
    """A loop that stood still ends no second at its first look after that: what came meanwhile is read later."""
    doing = Doing()
    lag = LoopLag(doing)
    lag.begin()
    lag._due_s = SystemClock.now_s() - 1.5
    lag._began = lag._began._replace(at_s=lag._due_s)
    lag._look()
    assert not lag.seconds
    doing.reads = 5
    while not lag.seconds:
        await asyncio.sleep(0.005)
    lag.end()
    assert max(lag.seconds[0].late_s) >= 1.5
    assert lag.seconds[0].reads == 5
