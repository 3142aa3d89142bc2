"""Slots, waiting, refusals: single rules. Simulations are in tests/sim/test_turns_fairness.py."""

from __future__ import annotations

import gc
import weakref
from typing import Literal

from inferry.core.errors import InferryError, NoReadyReplica, QueueFull, QueueTimeout
from inferry.core.gateway_settings import Queue
from inferry.core.limits import Priority
from inferry.gateway.turns import SAMPLES_MIN, Answer, Ticket, Turns, share_of


class Client:
    """A waiter that writes down what it hears."""

    def __init__(self, tenant: str = "a", priority: Priority = "normal", prompt_tokens: int = 100) -> None:
        self.ticket = Ticket(self, tenant, prompt_tokens, priority=priority)
        self.heard: list[Literal["turn"] | InferryError] = []

    def on_turn(self) -> None:
        self.heard.append("turn")

    def on_refused(self, error: NoReadyReplica | QueueFull | QueueTimeout) -> None:
        self.heard.append(error)


def asked(turns: Turns, client: Client, now_s: float = 0.0) -> Client:
    assert turns.ask(client.ticket, now_s) is Answer.WAIT
    return client


def busy(turns: Turns, seconds: float = 1.0) -> list[Client]:
    """Enough requests of `seconds` each for a forecast, ended at that time; and all slots taken."""
    for _ in range(SAMPLES_MIN):
        one = Client("earlier")
        assert turns.ask(one.ticket, 0.0) is Answer.GO
        turns.done(one.ticket, 100, 128, seconds)
    runners = []
    for _ in range(turns.slots or 0):
        one = Client("runner")
        assert turns.ask(one.ticket, seconds) is Answer.GO
        runners.append(one)
    return runners


def test_slots_then_a_line() -> None:
    """As many go as there are slots; the next waits, and has its turn in the moment one is done."""
    turns = Turns(Queue(), 2)
    first, second, third = Client(), Client(), Client()
    assert turns.ask(first.ticket, 0.0) is Answer.GO
    assert turns.ask(second.ticket, 0.0) is Answer.GO
    asked(turns, third, 0.0)
    assert (turns.running, turns.waiting) == (2, 1)
    assert third.heard == []
    turns.done(first.ticket, 100, 10, 4.0)
    assert third.heard == ["turn"]
    assert third.ticket.waited_s == 4.0
    assert (turns.running, turns.waiting) == (2, 0)


def test_no_bound_means_no_waiting() -> None:
    """Without a number of slots everybody goes."""
    turns = Turns(Queue(waiting_max=0), None)
    assert {turns.ask(Client().ticket, 0.0) for _ in range(1000)} == {Answer.GO}
    assert (turns.running, turns.slots) == (1000, None)


def test_slots_come_and_go() -> None:
    """More slots give turns at once; fewer interrupt nobody, and nobody follows until there is room."""
    turns = Turns(Queue(), 1)
    running = Client()
    turns.ask(running.ticket, 0.0)
    waiting = [asked(turns, Client(), 0.0) for _ in range(4)]
    turns.set_slots(3, 1.0)
    assert [client.heard for client in waiting] == [["turn"], ["turn"], [], []]
    turns.set_slots(1, 2.0)
    turns.done(running.ticket, 100, 10, 3.0)
    turns.done(waiting[0].ticket, 100, 10, 3.0)
    assert (turns.running, turns.waiting) == (1, 2)
    turns.set_slots(None, 4.0)
    assert (turns.running, turns.waiting) == (3, 0)


def test_who_leaves_frees_what_it_had() -> None:
    """A client that goes away gives up its place in the line or its slot, and hears nothing more."""
    turns = Turns(Queue(), 1)
    running, gone, next_one = Client(), Client(), Client()
    turns.ask(running.ticket, 0.0)
    asked(turns, gone)
    asked(turns, next_one)
    turns.leave(gone.ticket, 1.0)
    turns.leave(running.ticket, 1.0)
    assert (gone.heard, next_one.heard) == ([], ["turn"])
    for client in (gone, running):
        turns.leave(client.ticket, 2.0)
    assert (turns.running, turns.waiting) == (1, 0)


def test_the_wait_is_bounded() -> None:
    """Past `wait_max_s` a request is refused with 429 queue_timeout and a time to come back; others stay."""
    turns = Turns(Queue(wait_max_s=5), 1)
    turns.ask(Client().ticket, 0.0)
    early, late = asked(turns, Client(), 0.0), asked(turns, Client(), 1.0)
    turns.expire(4.9)
    assert early.heard == []
    turns.expire(5.0)
    (error,) = early.heard
    assert isinstance(error, QueueTimeout)
    assert (error.status, error.code, error.retry_after_s) == (429, "queue_timeout", 5.0)
    assert "5 s" in error.message
    assert late.heard == []
    assert turns.waiting == 1


def test_the_line_is_bounded() -> None:
    """With `waiting_max` in the line, one more of the same tenant is refused with 429 queue_full."""
    turns = Turns(Queue(waiting_max=2), 1)
    turns.ask(Client().ticket, 0.0)
    for _ in range(2):
        asked(turns, Client())
    error = turns.ask(Client().ticket, 0.0)
    assert isinstance(error, QueueFull)
    assert (error.status, error.code) == (429, "queue_full")
    assert "2 requests wait already" in error.message
    assert error.retry_after_s is not None
    assert turns.waiting == 2


def test_a_full_line_makes_room_for_another_tenant() -> None:
    """Where one tenant fills the line, the first of another takes the place of its newest."""
    turns = Turns(Queue(waiting_max=3), 1)
    turns.ask(Client().ticket, 0.0)
    flood = [asked(turns, Client("flood")) for _ in range(3)]
    asked(turns, Client("quiet"))
    assert [client.heard for client in flood[:2]] == [[], []]
    (error,) = flood[2].heard
    assert isinstance(error, QueueFull)
    assert turns.waiting == 3
    important = asked(turns, Client("flood", "high"))
    assert len(flood[1].heard) == 1
    assert important.heard == []


def test_no_line_at_all() -> None:
    """`waiting_max: 0` and `wait_max_s: 0` both mean: go or be refused."""
    for settings in (Queue(waiting_max=0), Queue(wait_max_s=0)):
        turns = Turns(settings, 1)
        turns.ask(Client().ticket, 0.0)
        error = turns.ask(Client().ticket, 0.0)
        assert isinstance(error, QueueFull)
        assert "don't wait here" in error.message


def test_who_would_wait_too_long_is_told_at_once() -> None:
    """One slot, 2 s each, 9 s allowed: four may wait; the fifth hears at once, and when it may come again."""
    turns = Turns(Queue(wait_max_s=9), 1)
    busy(turns, seconds=2.0)
    for _ in range(4):
        asked(turns, Client("a"), 2.0)
    one_more = Client("a")
    assert turns.forecast_s(one_more.ticket) == 10.0
    error = turns.ask(one_more.ticket, 2.0)
    assert isinstance(error, QueueFull)
    assert "about 10 s" in error.message
    assert error.retry_after_s == 1.0


def test_a_quiet_tenant_is_not_shed_for_another_ones_line() -> None:
    """The forecast is for the request's own turn: behind a flood that is told to go, another tenant may wait."""
    turns = Turns(Queue(wait_max_s=30), 1)
    busy(turns, seconds=2.0)
    while turns.ask(Client("flood").ticket, 2.0) is Answer.WAIT:
        pass
    assert 10 <= turns.waiting <= 15
    forecast_s = turns.forecast_s(Client("quiet").ticket)
    assert forecast_s is not None
    assert forecast_s <= 6.0
    asked(turns, Client("quiet"), 2.0)


def test_no_forecast_from_nothing() -> None:
    """Before enough requests have ended, nobody is shed: a first burst must not be refused by a guess."""
    turns = Turns(Queue(wait_max_s=1), 1)
    one = Client()
    turns.ask(one.ticket, 0.0)
    turns.done(one.ticket, 100, 10, 1000.0)
    turns.ask(Client().ticket, 1000.0)
    assert turns.forecast_s(Client().ticket) is None
    asked(turns, Client(), 1000.0)


def test_the_forecast_of_a_free_slot_is_zero() -> None:
    """With a slot free nobody would wait."""
    turns = Turns(Queue(), 2)
    busy(turns)
    turns.set_slots(3, 1.0)
    assert turns.forecast_s(Client().ticket) == 0.0


def test_a_long_stream_falls_behind() -> None:
    """What `progress` reports counts before the stream ends."""
    turns = Turns(Queue(), 2)
    stream, other = Client("streams"), Client("other")
    turns.ask(stream.ticket, 0.0)
    turns.ask(other.ticket, 0.0)
    first, second = asked(turns, Client("streams")), asked(turns, Client("other"))
    turns.progress(stream.ticket, 10_000)
    turns.done(other.ticket, 100, 128, 1.0)
    assert (first.heard, second.heard) == ([], ["turn"])
    turns.leave(stream.ticket, 2.0)
    turns.progress(stream.ticket, 20_000)
    assert (stream.ticket.completion_tokens, first.heard) == (10_000, ["turn"])


class Fails(Client):
    """Has its turn, and is done in the same moment."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns

    def on_turn(self) -> None:
        super().on_turn()
        self.turns.done(self.ticket, 0, 0, 1.0)


def test_turns_that_end_at_once_do_not_nest() -> None:
    """Five thousand waiters that fail in the moment of their turn: no recursion, and each has had its turn."""
    turns = Turns(Queue(waiting_max=5000), 1)
    running = Client()
    turns.ask(running.ticket, 0.0)
    failing = [Fails(turns) for _ in range(5000)]
    for client in failing:
        asked(turns, client)
    turns.done(running.ticket, 100, 10, 1.0)
    assert (turns.running, turns.waiting) == (0, 0)
    assert [client.heard for client in failing] == [["turn"]] * 5000


def test_nothing_holds_on_to_a_request_that_is_over() -> None:
    """Waiter and ticket are freed at once when both let go of each other, without a garbage collection."""
    turns = Turns(Queue(waiting_max=1), 1)
    clients = [Client() for _ in range(4)]
    for client in clients:
        turns.ask(client.ticket, 0.0)
    turns.leave(clients[1].ticket, 1.0)
    turns.done(clients[0].ticket, 100, 10, 1.0)
    freed = [weakref.ref(client) for client in clients]
    gc.disable()
    try:
        del client
        clients.clear()
        assert [ref() for ref in freed] == [None] * 4
    finally:
        gc.enable()


def test_the_settings_may_change() -> None:
    """New bounds hold for newcomers at once; who waits already stays."""
    turns = Turns(Queue(waiting_max=5), 1)
    turns.ask(Client().ticket, 0.0)
    for _ in range(5):
        asked(turns, Client())
    turns.settings = Queue(waiting_max=2)
    assert isinstance(turns.ask(Client().ticket, 0.0), QueueFull)
    assert (turns.waiting, turns.waiting_of("normal"), turns.waiting_of("low")) == (5, 5, 0)


def test_shares_of_several_gateways() -> None:
    """10 slots over 4 processes are 3 each, which is 2 too many; a process is never without any."""
    assert [share_of(10, 4), share_of(8, 4), share_of(1, 4), share_of(7, 1)] == [3, 2, 1, 7]
