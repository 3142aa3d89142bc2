"""The bank of limits where several hosts share one Redis: asks it while it is there, and does without while not.

run: connect ──► pump: whatever waits goes in one round trip ──► an error or silence ─┐
       ▲                                                                             ▼
       └── every RETRY_S ◄── alone: policy/limits_alone.py answers at once ◄─────────┘
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

import structlog

from inferry.core.clock import Clock
from inferry.core.errors import LimitsUnavailable
from inferry.core.leases import Grant, Return, Wish
from inferry.gateway.period_starts import UsedBefore, filled, starts_of, with_gaps
from inferry.ledger.redis_limits import Order, RedisBank
from inferry.policy.limits_alone import LimitsAlone, WhenGone

RETRY_S = 0.5
"""Between two tries to connect."""
FIRST_CONTACT_S = 3.0
"""From the start on, a Redis that does not answer is asked again for so long, and requests wait: a host that has
hardly met the others would take all of each limit for itself."""
HEARTBEAT_S = 2.0
"""A bank that nobody asks is asked anyway: to stay on its list of hosts, and to notice that it is gone."""
GATHER_S = 3 * RETRY_S
"""When Redis is back, hosts find it again within RETRY_S and a time-out (0.25 s), not at the same moment. Who comes
first waits for the others: else it would be lent what they are still admitting."""
SWITCH_S = 0.1
"""Before and after the end of that wait, requests wait: the last charges are on their way."""
CHARGES_MAX = 500
"""In one round trip, when coming back."""

log = structlog.get_logger()


class _Asked(Order):
    """An order with somebody who waits for it."""

    __slots__ = ("answered",)

    def __init__(
        self,
        holder: str,
        wishes: Sequence[Wish],
        returns: Sequence[Return],
        starts: Mapping[str, tuple[int, int]],
    ) -> None:
        super().__init__(holder, wishes, returns, starts)
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(self) -> None:
        """Its grants are filled in."""
        if not self.answered.done():
            self.answered.set_result(None)


class SharedLimitBank:
    """A LimitBank over Redis. `run` must run as a task; it ends by cancellation only."""

    def __init__(
        self, redis: RedisBank, host: str, when_gone: WhenGone, *, clock: Clock, used_before: UsedBefore
    ) -> None:
        self._redis = redis
        self._host = host
        self._clock = clock
        self._used_before = used_before
        self._alone = LimitsAlone(when_gone, redis.times)
        self._waiting: list[_Asked] = []
        self._forgotten: set[str] = set()
        self._woken = asyncio.Event()
        self._run_id = ""
        self._last_error = ""
        self._patient_until_s = math.inf
        self.is_gone: bool | None = None
        """None until the first contact, or until it is given up; requests wait for that."""

    async def serve(self, holder: str, wishes: Sequence[Wish], returns: Sequence[Return]) -> Sequence[Grant]:
        order = await self._answered(holder, wishes, returns, {})
        if not order.unknown:
            return order.grants
        # Here, and not where others' orders would wait for it.
        starts = await starts_of(order.unknown, self._used_before)
        late = [wish for wish in wishes if wish.bucket.id in starts]
        if not late:
            return order.grants
        again = await self._answered(holder, late, (), starts)
        return filled(wishes, order.grants, starts, again.grants)

    async def _answered(
        self,
        holder: str,
        wishes: Sequence[Wish],
        returns: Sequence[Return],
        starts: Mapping[str, tuple[int, int]],
    ) -> Order:
        order = _Asked(holder, wishes, returns, starts)
        if self.is_gone:
            self._answer_alone(order)
        else:
            self._waiting.append(order)
            self._woken.set()
            await order.answered
        return order

    def forget(self, holder: str) -> None:
        self._alone.forget(holder)
        self._forgotten.add(holder)
        self._woken.set()

    async def run(self) -> None:
        """Connect, serve, come back. Raises ConfigError at once if the setting can't work."""
        self._patient_until_s = self._clock.now_s() + FIRST_CONTACT_S
        try:
            while True:
                try:
                    await self._redis.connect()
                    _end_if_cancelled()
                    await self._come_back()
                    await self._pump()
                except LimitsUnavailable as error:
                    if self.is_gone or self._clock.now_s() >= self._patient_until_s:
                        self._go_alone(error)
                    else:
                        self.is_gone = None
                await asyncio.sleep(RETRY_S)
        finally:
            await self._redis.close()

    # --- while Redis is there -------------------------------------------------------------------------

    async def _pump(self) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            orders, self._waiting = self._waiting, []
            try:
                await self._redis.exchange(orders)
            except LimitsUnavailable:
                self._take_back(orders)
                raise
            now_s = self._redis.now_s()
            for order in orders:
                self._note(order, now_s)
                order.answer()
            forgotten, self._forgotten = self._forgotten, set()
            for holder in forgotten:
                await self._redis.forget(holder)
            _end_if_cancelled()

    def _note(self, order: Order, now_s: float) -> None:
        unknown = {bucket.id for bucket, _ in order.unknown}
        told = [
            (wish, grant)
            for wish, grant in zip(order.wishes, order.grants, strict=True)
            if wish.bucket.id not in unknown
        ]
        wishes, grants = [wish for wish, _ in told], [grant for _, grant in told]
        self._alone.note(order.holder, wishes, order.returns, grants, now_s)

    def _take_back(self, orders: list[_Asked]) -> None:
        """Whether Redis carried them out is not known. It may count what nobody has; never the other way: so the
        returns are not sent again."""
        for order in orders:
            self._alone.note(order.holder, (), order.returns, (), self._redis.now_s())
            order.returns = ()
        self._waiting = orders + self._waiting

    # --- while it is not ------------------------------------------------------------------------------

    def _answer_alone(self, order: Order) -> None:
        alone, now_s = self._alone, self._redis.now_s()
        for bucket, period in alone.unknown(order.wishes, now_s):
            begun, used = order.starts.get(bucket.id, (None, 0))
            if begun == period:
                alone.begin_period(bucket, period, used)
        order.unknown = set(alone.unknown(order.wishes, now_s))
        unknown = {bucket.id for bucket, _ in order.unknown}
        known = [wish for wish in order.wishes if wish.bucket.id not in unknown]
        grants = alone.handle(order.holder, known, order.returns, now_s)
        order.grants = with_gaps(order.wishes, unknown, grants)

    def _go_alone(self, error: LimitsUnavailable) -> None:
        if not self.is_gone:
            self._alone.begin(self._redis.hosts, self._host, self._redis.now_s())
            self.is_gone = True
        if error.message != self._last_error:
            self._last_error = error.message
            log.warning("limits.alone", because=error.message, hosts=self._alone.hosts)
        waiting, self._waiting = self._waiting, []
        for order in waiting:
            self._answer_alone(order)
            order.answer()

    async def _come_back(self) -> None:
        """Tell Redis what it has missed, wait for the other hosts to do so, then ask it again."""
        redis, alone = self._redis, self._alone
        was_restarted = bool(self._run_id) and redis.run_id != self._run_id
        if was_restarted:
            await self._charge(alone.everything(redis.now_s()))
        for holder, wishes in alone.held(redis.now_s()).items():
            await redis.exchange([Order(holder, wishes)])
        if self.is_gone:
            # Meanwhile requests are answered as before; from `is_gone = None` on they wait.
            await self._charge(alone.owed(redis.now_s()))
            await asyncio.sleep(max(0.0, await redis.gathering_s(GATHER_S) - SWITCH_S))
            self.is_gone = None
            await self._charge(alone.owed(redis.now_s()))
            await asyncio.sleep(2 * SWITCH_S)
            log.info("limits.shared_again", restarted=was_restarted, hosts=len(redis.hosts))
        self._run_id, self._last_error, self.is_gone = redis.run_id, "", False

    async def _charge(self, charges: Sequence[Return]) -> None:
        try:
            for start in range(0, len(charges), CHARGES_MAX):
                await self._redis.exchange([Order("", (), charges[start : start + CHARGES_MAX])])
        except LimitsUnavailable:
            self._alone.unpaid(charges)
            raise


def _end_if_cancelled() -> None:
    """A cancellation that comes just as a connection is made gets lost in the library (redis 8.1 on uvloop: one of
    ten); without this the task would never end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
