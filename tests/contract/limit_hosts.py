"""Hosts with gateway processes that ask all the time, over one shared bank; for tests of limits.

As a program, it is one host in a process of its own: `python -m tests.contract.limit_hosts URL NAME LIMIT FILE`
asks with 50 clients at once until its standard input ends, and writes the monotonic time of each admitted request into
FILE.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from inferry.core.api_key import ApiKey, Caller
from inferry.core.clock import SystemClock
from inferry.core.leases import Bucket, Return, Times, Wish
from inferry.core.limits import Limits
from inferry.gateway.admission import Admission, Admitted, OnGrants, Pending, Refused
from inferry.gateway.limit_bank import LimitBank
from inferry.gateway.limit_rules import Estimate
from inferry.gateway.shared_limit_bank import SharedLimitBank
from inferry.ledger.redis_limits import RedisBank
from inferry.policy.limits_alone import WhenGone

TIMES = Times(window_s=1.0, slot_s=0.05, lease_s=0.1, permit_ttl_s=0.5)
NO_LIMITS = Limits()
TICK_S = 0.02


def caller(limits: Limits) -> Caller:
    return Caller("t", ApiKey("key_1", "p", b"", "t", "n"), limits)


class LinkedStore:
    """A gateway process' line to its control process: the reply comes later."""

    def __init__(self, bank: LimitBank, holder: str) -> None:
        self._bank = bank
        self._holder = holder
        self._tasks: set[asyncio.Task[None]] = set()

    def exchange(self, wishes: Sequence[Wish], returns: Sequence[Return], on_grants: OnGrants) -> None:
        async def call() -> None:
            on_grants(await self._bank.serve(self._holder, wishes, returns))

        task = asyncio.get_running_loop().create_task(call())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def ask(
    admission: Admission, who: Caller, estimate: Estimate | None = None, deployment_limits: Limits = NO_LIMITS
) -> Admitted | Refused:
    """`Admission.ask`, awaited."""
    answered: asyncio.Future[Admitted | Refused] = asyncio.get_running_loop().create_future()

    def on_answer(answer: Admitted | Refused) -> None:
        if not answered.done():
            answered.set_result(answer)

    answer = admission.ask(who, "chat", deployment_limits, estimate or Estimate(), on_answer)
    if not isinstance(answer, Pending):
        return answer
    try:
        return await answered
    except asyncio.CancelledError:
        answer.cancel()
        raise


class Host:
    """One host: a control process' bank, and two gateway processes' admissions."""

    def __init__(self, name: str, url: str, when_gone: WhenGone, times: Times) -> None:
        async def used_before(bucket: Bucket, period: int) -> int:
            return 0

        clock = SystemClock()
        redis = RedisBank(url, "test", name, clock=clock, times=times)
        self.bank = SharedLimitBank(redis, name, when_gone, clock=clock, used_before=used_before)
        self.admissions = [Admission(LinkedStore(self.bank, f"g{n}"), clock, times) for n in range(2)]
        self.admitted: list[float] = []
        self.refused: list[tuple[float, Refused]] = []

    async def tick(self) -> None:
        while True:
            for admission in self.admissions:
                admission.tick(time.monotonic())
            await asyncio.sleep(TICK_S)

    async def hammer(self, place: int, who: Caller, pause_s: float) -> None:
        """Ask, and ask again."""
        admission = self.admissions[place % len(self.admissions)]
        while True:
            answer = await ask(admission, who)
            if isinstance(answer, Admitted):
                self.admitted.append(time.monotonic())
                admission.settle(answer, 0, 0)
            else:
                self.refused.append((time.monotonic(), answer))
            await asyncio.sleep(pause_s)


@asynccontextmanager
async def running(
    hosts: Sequence[Host], who: Caller, clients: int, pause_s: float = 0.005
) -> AsyncIterator[None]:
    """The hosts run, and `clients` ask each of them, until the end of the block."""
    tasks = []
    for host in hosts:
        tasks += [asyncio.create_task(host.bank.run()), asyncio.create_task(host.tick())]
        tasks += [asyncio.create_task(host.hammer(n, who, pause_s)) for n in range(clients)]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        _, stuck = await asyncio.wait(tasks, timeout=10)
        assert not stuck


def worst_window(times_s: Sequence[float], window_s: float) -> int:
    """The most events in any half-open interval of `window_s`."""
    times_s = sorted(times_s)
    worst = start = 0
    for end, time_s in enumerate(times_s):
        while times_s[start] <= time_s - window_s:
            start += 1
        worst = max(worst, end - start + 1)
    return worst


async def _main(url: str, name: str, limit: int) -> list[float]:
    host = Host(name, url, "last", TIMES)
    async with running([host], caller(Limits(requests_per_minute=limit)), clients=50):
        await asyncio.to_thread(sys.stdin.read)
    return host.admitted


if __name__ == "__main__":
    admitted_s = asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    Path(sys.argv[4]).write_text("\n".join(map(repr, admitted_s)))
