"""Who is asked when: sends requests at their times, and never waits for an answer before it sends the next one.

Open loop: a request is sent when it is due, however slow the server is. Closed loop: each of so many users asks again
when answered. A later turn of a conversation is due a while after the turn before it has ended.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque

from inferry.bench.exact_timer import ExactTimer
from inferry.bench.http_client import Client, Exchange
from inferry.bench.plan import Closed, RunPlan
from inferry.bench.raw_store import RawStore
from inferry.bench.records import Ask, Verdict
from inferry.bench.split import prepared_max, users_of
from inferry.bench.worker_messages import Counts
from inferry.core.clock import SystemClock

PREPARED_BYTES_MAX = 64 << 20
"""Of requests made ahead of their time, per process: no more are made until some are sent."""
STOPPED = "the run was stopped"

_now_s = SystemClock.now_s


class Sender:
    """One worker's share of a run. Its `client` must call its `on_end`."""

    def __init__(self, plan: RunPlan, process: int, store: RawStore) -> None:
        self._plan = plan
        self._store = store
        self.client: Client = None  # type: ignore[assignment]  # set before any use
        self.start_s = 0.0
        self._asks: dict[int, Ask] = {}
        """Not yet ended."""
        self._requests: dict[int, bytes] = {}
        """Not yet sent."""
        self._due: list[tuple[float, int]] = []
        """A heap of seconds since the start, and numbers."""
        self._whenever: deque[int] = deque()
        """For users of a closed loop."""
        self._next_turn: dict[int, int] = {}
        """The request that comes after the one with the number."""
        self._turn_ended_s: dict[int, float] = {}
        """Of turns whose next was not known then; infinite: it was left out, and so are those after it."""
        self._free_since_s: deque[float] = deque([0.0] * users_of(plan, process))
        self._timer: ExactTimer | None = None
        self._prepared_max = prepared_max(plan, process)
        self._prepared_bytes = 0
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.was_full = asyncio.Event()
        self.all_taken = False
        """No more requests will be added."""
        self.finished: asyncio.Event = asyncio.Event()
        self.slip_s: list[float] = []
        self._sent = self._ended = self._failed = self._unsent = 0
        self._first_piece_ms: list[float] = []

    # --- before and while the run goes on -------------------------------------------------------------

    def add(self, ask: Ask, request: bytes) -> None:
        """One more request, made already. Those due after the plan's time are left out."""
        if self.all_taken:  # stopped meanwhile
            return
        number = ask.number
        after_s = None
        if ask.after is not None and ask.due_s is None:
            after_s = self._turn_ended_s.pop(ask.after, None)
            if after_s is None:
                self._next_turn[ask.after] = number
        due_s = ask.due_s if after_s is None else after_s + ask.think_s
        if due_s is not None and due_s >= self._plan.duration_s:
            self._turn_ended_s[number] = math.inf
            return
        # What was asked is not needed to read the answer, and may be long.
        self._asks[number] = _without_prompt(ask)
        self._requests[number] = request
        self._prepared_bytes += len(request)
        if due_s is not None:
            self._set_due(due_s, number)
        elif ask.after is None:
            self._whenever.append(number)
            self._serve_users()
        self._look_at_room()

    def begin(self, start_s: float) -> None:
        """From now on, requests are sent; `start_s` on the monotonic clock."""
        self.start_s = start_s
        self._timer = ExactTimer(self._on_time)
        self._timer.set(start_s if self._free_since_s or not self._due else start_s + self._due[0][0])
        self._look_at_end()
        self._wait_for_end_of_time()

    def no_more(self) -> None:
        self.all_taken = True
        self._look_at_end()

    def stop(self) -> None:
        """Send nothing more, and leave what is under way."""
        self._forget_unsent()
        self.all_taken = True
        self.client.drop_all(Verdict.ABANDONED, STOPPED)
        self._look_at_end()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def counts(self) -> Counts:
        first_piece_ms, self._first_piece_ms = self._first_piece_ms, []
        return Counts(
            sent=self._sent,
            ended=self._ended,
            failed=self._failed,
            under_way=self.client.under_way,
            unsent=self._unsent,
            first_piece_ms=tuple(first_piece_ms),
        )

    @property
    def unsent(self) -> int:
        return self._unsent

    # --- sending --------------------------------------------------------------------------------------

    def _set_due(self, due_s: float, number: int) -> None:
        heapq.heappush(self._due, (due_s, number))
        if self._timer is not None and self._due[0][1] == number:
            self._timer.set(self.start_s + due_s)

    def _on_time(self) -> None:
        if self._timer is None:
            return
        due = self._due
        while due and self.start_s + due[0][0] <= _now_s():
            due_s, number = heapq.heappop(due)
            self._send(number, due_s)
        if due:
            self._timer.set(self.start_s + due[0][0])
        self._serve_users()
        self._look_at_end()

    def _serve_users(self) -> None:
        if self._timer is None or _now_s() < self.start_s:
            return
        while self._whenever and self._free_since_s and not self._is_over():
            self._send(self._whenever.popleft(), self._free_since_s.popleft())

    def _send(self, number: int, due_s: float) -> None:
        request = self._requests.pop(number)
        self._prepared_bytes -= len(request)
        exchange = Exchange(number, self.start_s + due_s, request)
        self._sent += 1
        self.client.send(exchange, self._plan.timeout_s, self._asks[number].abandon_after_s)
        self._look_at_room()

    def on_end(self, exchange: Exchange) -> None:
        ask = self._asks.pop(exchange.number)
        self._ended += 1
        self._failed += exchange.trouble not in (None, Verdict.ABANDONED) or exchange.reader.status != 200
        self._unsent += exchange.trouble is Verdict.UNSENT
        raw = exchange.raw(self.start_s)
        if raw.pieces and raw.sent_s is not None:
            self._first_piece_ms.append((raw.pieces[0][0] - raw.sent_s) * 1000)
        if ask.due_s is not None and raw.sent_s is not None:
            self.slip_s.append(raw.sent_s - raw.due_s - raw.connect_s)
        self._store.keep(ask, raw)
        self._go_on(ask, exchange.number, raw.ended_s or 0.0)
        self._look_at_end()

    def _go_on(self, ask: Ask, number: int, ended_s: float) -> None:
        """The next turn of the conversation, or another one for the user who is free now."""
        following = self._next_turn.pop(number, None)
        if following is not None:
            due_s = ended_s + self._asks[following].think_s
            if due_s < self._plan.duration_s:
                self._set_due(due_s, following)
                return  # the user of a closed loop stays with the conversation
            self._leave_out(following)
        elif ask.session is not None and not self.all_taken:
            self._turn_ended_s[number] = ended_s
        if isinstance(self._plan.arrivals, Closed):
            self._free_since_s.append(ended_s)
            self._serve_users()

    # --- bounds ---------------------------------------------------------------------------------------

    def _look_at_room(self) -> None:
        if len(self._requests) < self._prepared_max and self._prepared_bytes < PREPARED_BYTES_MAX:
            self.has_room.set()
        else:
            self.has_room.clear()
            self.was_full.set()

    def _look_at_end(self) -> None:
        """A closed loop ends with its time, all else with its last request."""
        if self._timer is None or self.client.under_way or self._due:
            return
        if isinstance(self._plan.arrivals, Closed) and self._is_over():
            self._forget_unsent()
            self.all_taken = True
        if self.all_taken and not self._whenever:
            self.finished.set()

    def _is_over(self) -> bool:
        return _now_s() - self.start_s >= self._plan.duration_s

    def _wait_for_end_of_time(self) -> None:
        """A closed loop in which nothing is under way then has nobody else to notice it."""
        left_s = self.start_s + self._plan.duration_s - _now_s()
        if left_s > 0:  # loops' timers may be early
            asyncio.get_running_loop().call_later(left_s, self._wait_for_end_of_time)
        else:
            self._look_at_end()

    def _leave_out(self, number: int | None) -> None:
        """A turn that would be due after the plan's time, and all turns after it."""
        while number is not None:
            self._asks.pop(number)
            self._prepared_bytes -= len(self._requests.pop(number))
            self._turn_ended_s[number] = math.inf
            number = self._next_turn.pop(number, None)
        self._look_at_room()

    def _forget_unsent(self) -> None:
        for number in self._requests:
            self._asks.pop(number, None)
        self._requests.clear()
        self._due.clear()
        self._whenever.clear()
        self._next_turn.clear()
        self._prepared_bytes = 0
        self._look_at_room()


def _without_prompt(ask: Ask) -> Ask:
    return Ask(
        number=ask.number,
        due_s=ask.due_s,
        input_tokens=ask.input_tokens,
        output_tokens=ask.output_tokens,
        shared_tokens=ask.shared_tokens,
        session=ask.session,
        after=ask.after,
        think_s=ask.think_s,
        abandon_after_s=ask.abandon_after_s,
    )
