"""Who is asked when: sends requests at their times, and never waits for an answer before it sends the next one.

Open loop: a request is sent when it is due, however slow the server is. Closed loop: each of so many users asks again
when answered. A later turn of a conversation is due a while after the turn before it has ended.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable

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


class Turn:
    """A later turn of a conversation. Written when the one before has been sent: until then it takes no room."""

    __slots__ = ("_made", "_make", "_taken", "after", "number", "think_s")

    def __init__(
        self, number: int, after: int, think_s: float, make: Callable[[], tuple[Ask, bytes]]
    ) -> None:
        self.number = number
        self.after = after
        """The turn before."""
        self.think_s = think_s
        self._make = make
        self._made: tuple[Ask, bytes] | None = None
        self._taken = False

    def prepare(self) -> None:
        if self._made is None and not self._taken:
            self._made = self._make()

    def take(self) -> tuple[Ask, bytes]:
        """Once."""
        self.prepare()
        made, self._made, self._taken = self._made, None, True
        assert made is not None, "taken once"
        return made

    def leave(self) -> None:
        """It will not be sent."""
        self._made, self._taken = None, True


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
        """Not yet sent, but for later turns."""
        self._due: list[tuple[float, int]] = []
        """A heap of seconds since the start, and numbers."""
        self._whenever: deque[int] = deque()
        """For users of a closed loop."""
        self._next_turn: dict[int, Turn] = {}
        """By the number of the one before."""
        self._due_turns: dict[int, Turn] = {}
        """The one before has ended."""
        self.to_prepare: asyncio.Queue[Turn] = asyncio.Queue()
        """Turns that will soon be due."""
        self._turn_ended_s: dict[int, float] = {}
        """Of turns whose next was not known then; infinite: it was left out, and so are those after it."""
        self._users = users_of(plan, process)
        self._free_since_s: deque[float] = deque([0.0] * self._users)
        self._idle_s = 0.0
        """In which users were free and no request was made for them: of all users, one after the other."""
        self._asked_until_s = 0.0
        """When no more requests were to come; from then on, nobody who is free waits for one."""
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
        """One more request, made already, that comes after no other. Those due after the plan's time are left out."""
        if self.all_taken:  # stopped meanwhile
            return
        number, due_s = ask.number, ask.due_s
        if due_s is not None and due_s >= self._plan.duration_s:
            self._turn_ended_s[number] = math.inf
            return
        # What was asked is not needed to read the answer, and may be long.
        self._asks[number] = _without_prompt(ask)
        self._requests[number] = request
        self._prepared_bytes += len(request)
        if due_s is not None:
            self._set_due(due_s, number)
        else:
            self._whenever.append(number)
            self._serve_users()
        self._look_at_room()

    def add_turn(self, turn: Turn) -> None:
        """A later turn, after the one before it."""
        if self.all_taken:
            return
        ended_s = self._turn_ended_s.pop(turn.after, None)
        if ended_s is None:
            self._next_turn[turn.after] = turn
        else:
            self._set_turn_due(turn, ended_s)

    def begin(self, start_s: float) -> None:
        """From now on, requests are sent; `start_s` on the monotonic clock."""
        self.start_s = start_s
        self._timer = ExactTimer(self._on_time)
        self._timer.set(start_s if self._free_since_s or not self._due else start_s + self._due[0][0])
        self._look_at_end()
        self._wait_for_end_of_time()

    def no_more(self) -> None:
        self._take_no_more()
        self._look_at_end()

    def stop(self) -> None:
        """Send nothing more, and leave what is under way."""
        self._forget_unsent()
        self._take_no_more()
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

    @property
    def idle_share(self) -> float:
        """Of the time of a closed loop's users, that in which they were free and no request was made for them."""
        time_s = self._users * self._asked_until_s
        return self._idle_s / time_s if time_s > 0 else 0.0

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
            free_since_s = self._free_since_s.popleft()
            self._idle_s += self._run_s() - free_since_s
            self._send(self._whenever.popleft(), free_since_s)

    def _send(self, number: int, due_s: float) -> None:
        turn = self._due_turns.pop(number, None)
        if turn is None:
            request = self._requests.pop(number)
            self._prepared_bytes -= len(request)
        else:
            ask, request = turn.take()
            self._asks[number] = _without_prompt(ask)
        exchange = Exchange(number, self.start_s + due_s, request)
        self._sent += 1
        self.client.send(exchange, self._plan.timeout_s, self._asks[number].abandon_after_s)
        if number in self._next_turn:
            self.to_prepare.put_nowait(self._next_turn[number])
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
            if self._set_turn_due(following, ended_s):
                return  # the user of a closed loop stays with the conversation
        elif ask.session is not None and not self.all_taken:
            self._turn_ended_s[number] = ended_s
        if isinstance(self._plan.arrivals, Closed):
            self._free_since_s.append(ended_s)
            self._serve_users()

    def _set_turn_due(self, turn: Turn, ended_s: float) -> bool:
        """False: it would be due after the plan's time, and is left out with all turns after it."""
        due_s = ended_s + turn.think_s
        if due_s < self._plan.duration_s:
            self._due_turns[turn.number] = turn
            self._set_due(due_s, turn.number)
            return True
        left: Turn | None = turn
        while left is not None:
            left.leave()
            self._turn_ended_s[left.number] = math.inf
            left = self._next_turn.pop(left.number, None)
        return False

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
            self._take_no_more()
        if self.all_taken and not self._whenever:
            self.finished.set()

    def _is_over(self) -> bool:
        return self._run_s() >= self._plan.duration_s

    def _wait_for_end_of_time(self) -> None:
        """A closed loop in which nothing is under way then has nobody else to notice it."""
        left_s = self.start_s + self._plan.duration_s - _now_s()
        if left_s > 0:  # loops' timers may be early
            asyncio.get_running_loop().call_later(left_s, self._wait_for_end_of_time)
        else:
            self._look_at_end()

    def _take_no_more(self) -> None:
        if not self.all_taken and self._timer is not None:
            self._asked_until_s = min(self._run_s(), self._plan.duration_s)
            self._idle_s += sum(max(0.0, self._asked_until_s - since_s) for since_s in self._free_since_s)
        self.all_taken = True

    def _run_s(self) -> float:
        """Since the run's start."""
        return _now_s() - self.start_s

    def _forget_unsent(self) -> None:
        for number in self._requests:
            self._asks.pop(number, None)
        self._requests.clear()
        self._due.clear()
        self._whenever.clear()
        self._next_turn.clear()
        self._due_turns.clear()
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
