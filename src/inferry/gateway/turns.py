"""Who may go to the replicas of a deployment now, who waits, and who is told at once that it won't help.

One `Turns` per deployment and gateway process. It does no I/O and reads no clock: it is told, and it calls
the waiters back. Order is policy/fairness.py's; this file has the slots, the bounds and the forecasts.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum
from typing import Protocol

from inferry.core.errors import NoReadyReplica, QueueFull, QueueTimeout
from inferry.core.gateway_settings import Queue
from inferry.core.limits import Priority
from inferry.policy.fairness import FairQueue, Share

LEARN = 0.1
"""Share of the newest request in the moving average of holding times: about the last 20 count."""
SAMPLES_MIN = 10
"""Requests that must have ended before a forecast is made from how long they took."""
RETRY_AFTER_MIN_S = 1.0
FORGET_S = 1.0
"""Between two looks for tenants that need not be remembered."""


class Answer(Enum):
    """What `Turns.ask` says, if it does not refuse."""

    GO = "go"
    WAIT = "wait"


class Waiter(Protocol):
    """Who holds a ticket. Both are called at most once, and not both; they must not raise.

    They may call `Turns` again, `done` included.
    """

    def on_turn(self) -> None:
        """The wait is over: the slot is taken."""

    def on_refused(self, error: NoReadyReplica | QueueFull | QueueTimeout) -> None:
        """The wait is over, without a slot: too long, somebody else came before, or no slot will be free."""


class _Nobody:
    """Holds tickets that are over: a ticket and its waiter that point at each other would stay in memory until
    the next garbage collection."""

    def on_turn(self) -> None:
        raise AssertionError("a ticket that is over had its turn")

    def on_refused(self, error: NoReadyReplica | QueueFull | QueueTimeout) -> None:
        raise AssertionError("a ticket that is over was refused")


_NOBODY = _Nobody()


class _State(Enum):
    NEW = 0
    WAITING = 1
    RUNNING = 2
    OVER = 3


class Ticket(Share):
    """One request that wants a slot, with its waiter."""

    __slots__ = ("began_s", "completion_tokens", "since_s", "state", "waiter")

    def __init__(
        self,
        waiter: Waiter,
        tenant: str,
        prompt_tokens: int,
        completion_tokens_max: int | None = None,
        priority: Priority = "normal",
        weight: float = 1.0,
    ) -> None:
        super().__init__(tenant, prompt_tokens, completion_tokens_max, priority, weight)
        self.waiter: Waiter = waiter
        self.state = _State.NEW
        self.since_s = 0.0
        self.began_s = 0.0
        self.completion_tokens = 0
        """Generated so far, as `progress` said."""

    @property
    def is_running(self) -> bool:
        return self.state is _State.RUNNING

    @property
    def waited_s(self) -> float:
        """From `ask` to its turn; 0 before that."""
        return self.began_s - self.since_s if self.state in (_State.RUNNING, _State.OVER) else 0.0


class Turns:
    """Slots of one deployment, and the bounded queue before them.

    Every ticket that `ask` lets in must come back: `done` after its turn, or `leave` at any time.
    All times are one monotonic clock's seconds.
    """

    def __init__(self, settings: Queue, slots: int | None) -> None:
        self.settings = settings
        """May be replaced at any time; who waits already stays."""
        self.running = 0
        self._slots: float = math.inf if slots is None else slots
        self._queue = FairQueue()
        self._waiting: OrderedDict[Ticket, None] = OrderedDict()
        """By arrival, so that `expire` looks only at those whose time is over."""
        self._hold_s = 0.0
        self._samples = 0
        self._handing_out = False
        self._forgot_s = -math.inf

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    def waiting_of(self, priority: Priority) -> int:
        return self._queue.waiting_of(priority)

    @property
    def slots(self) -> int | None:
        """None: unbounded."""
        return None if self._slots == math.inf else int(self._slots)

    def set_slots(self, slots: int | None, now_s: float) -> None:
        """More or fewer may run from now on; None: no bound. Nobody who runs is interrupted."""
        self._slots = math.inf if slots is None else slots
        self._hand_out(now_s)

    # --- a request's way ------------------------------------------------------------------------------

    def ask(self, ticket: Ticket, now_s: float) -> Answer | QueueFull:
        """GO: it has a slot. WAIT: its waiter will hear. QueueFull: it is refused, and nothing is kept."""
        assert ticket.state is _State.NEW
        ticket.since_s = now_s
        if self.running < self._slots and not self._queue.waiting:
            ticket.state = _State.RUNNING
            ticket.began_s = now_s
            self.running += 1
            self._queue.start(ticket)
            return Answer.GO
        error = self._make_room(ticket, now_s)
        if error is not None:
            ticket.state = _State.OVER
            ticket.began_s = now_s
            ticket.waiter = _NOBODY
            return error
        ticket.state = _State.WAITING
        self._waiting[ticket] = None
        self._queue.push(ticket)
        return Answer.WAIT

    def take_waiting(self, now_s: float) -> list[Waiter]:
        """Nobody waits any more. Returns those who did, in order of arrival: they have not been told."""
        return [self._take_out(ticket, now_s) for ticket in list(self._waiting)]

    def progress(self, ticket: Ticket, completion_tokens: int) -> None:
        """It runs, and has generated so many tokens up to now. Tell it of long streams, every 100 tokens or so."""
        if ticket.state is _State.RUNNING:
            ticket.completion_tokens = completion_tokens
            self._queue.grow(ticket, completion_tokens)

    def done(
        self, ticket: Ticket, prompt_tokens: int | None, completion_tokens: int | None, now_s: float
    ) -> None:
        """Its slot is free. Tokens are what the engine counted; None: the estimate, and what `progress` said."""
        assert ticket.state is _State.RUNNING
        ticket.state = _State.OVER
        ticket.waiter = _NOBODY
        self.running -= 1
        self._queue.settle(
            ticket,
            ticket.prompt_tokens if prompt_tokens is None else prompt_tokens,
            ticket.completion_tokens if completion_tokens is None else completion_tokens,
        )
        if self._samples < SAMPLES_MIN:
            self._samples += 1
            self._hold_s += (now_s - ticket.began_s - self._hold_s) / self._samples
        else:
            self._hold_s += LEARN * (now_s - ticket.began_s - self._hold_s)
        if self._queue.waiting:
            self._hand_out(now_s)

    def leave(self, ticket: Ticket, now_s: float) -> None:
        """Its client went away, or its deadline is over, whether it waits, runs, or is over already."""
        if ticket.state is _State.WAITING:
            self._take_out(ticket, now_s)
        elif ticket.state is _State.RUNNING:
            self.done(ticket, None, None, now_s)

    # --- now and then ---------------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """Refuse all that have waited `wait_max_s`. Call it ten times a second."""
        wait_max_s = self.settings.wait_max_s
        while self._waiting:
            ticket = next(iter(self._waiting))
            if now_s - ticket.since_s < wait_max_s:
                break
            self._take_out(ticket, now_s).on_refused(
                QueueTimeout(
                    f"Every replica was busy for {wait_max_s:g} s, which is the longest that a request may wait "
                    "here.",
                    retry_after_s=self._retry_after_s(self.forecast_s(ticket)),
                )
            )
        if now_s - self._forgot_s >= FORGET_S:
            self._forgot_s = now_s
            self._queue.forget_idle()

    def forecast_s(self, share: Share) -> float | None:
        """How long a newcomer like `share` would wait; None: too little has been seen, or no slot exists.

        Little's law: with all slots busy, one comes free every `mean holding time / slots`.
        """
        if self._samples < SAMPLES_MIN or not self._slots:
            return None
        if self.running < self._slots and not self._queue.waiting:
            return 0.0
        return (self._queue.ahead(share) + 1) * self._hold_s / self._slots

    # --- inside ---------------------------------------------------------------------------------------

    def _make_room(self, ticket: Ticket, now_s: float) -> QueueFull | None:
        """None: it may wait. Somebody who ranks lower may have had to go."""
        settings = self.settings
        wait_s = self.forecast_s(ticket)
        if wait_s is not None and wait_s > settings.wait_max_s:
            return QueueFull(
                f"Every replica is busy, and the wait would be about {wait_s:.0f} s; at most "
                f"{settings.wait_max_s:g} s are allowed.",
                retry_after_s=self._retry_after_s(wait_s - settings.wait_max_s),
            )
        if not settings.wait_max_s or not settings.waiting_max:
            return QueueFull(
                "Every replica is busy, and requests don't wait here.",
                retry_after_s=self._retry_after_s(wait_s),
            )
        if self._queue.waiting < settings.waiting_max:
            return None
        victim = self._queue.outranked(ticket)
        if victim is None:
            return self._full(wait_s)
        assert isinstance(victim, Ticket)
        self._take_out(victim, now_s).on_refused(self._full(self.forecast_s(victim)))
        return None

    def _full(self, wait_s: float | None) -> QueueFull:
        return QueueFull(
            f"Every replica is busy, and {self.settings.waiting_max} requests wait already.",
            retry_after_s=self._retry_after_s(wait_s),
        )

    def _retry_after_s(self, wait_s: float | None) -> float:
        """Never sooner than a second; where there is no forecast, as long as one may wait."""
        return max(self.settings.wait_max_s if wait_s is None else wait_s, RETRY_AFTER_MIN_S)

    def _take_out(self, ticket: Ticket, now_s: float) -> Waiter:
        """It waits no more. Returns its waiter, who may have to be told."""
        waiter, ticket.waiter = ticket.waiter, _NOBODY
        ticket.state = _State.OVER
        ticket.began_s = now_s
        del self._waiting[ticket]
        self._queue.remove(ticket)
        return waiter

    def _hand_out(self, now_s: float) -> None:
        # A waiter whose turn ends at once comes back here through `done`: the loop below goes on for it, or a
        # thousand of them would call each other a thousand deep.
        if self._handing_out:
            return
        self._handing_out = True
        try:
            while self.running < self._slots and (ticket := self._queue.pop()) is not None:
                assert isinstance(ticket, Ticket)
                del self._waiting[ticket]
                ticket.state = _State.RUNNING
                ticket.began_s = now_s
                self.running += 1
                ticket.waiter.on_turn()
        finally:
            self._handing_out = False


def share_of(slots: int, gateways: int) -> int:
    """Slots for each of several gateway processes, at least 1: together at most `gateways - 1` too many, which
    then wait in the engines."""
    return max(-(-slots // gateways), 1)
