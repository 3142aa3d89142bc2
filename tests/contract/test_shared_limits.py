"""Two hosts on one Redis, clients that hammer one key: the bound in every window, also while Redis is killed."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferry.core.errors import LimitsUnavailable, RateLimited
from inferry.core.limits import Limits
from inferry.gateway.admission import Admitted, Refused
from inferry.gateway.shared_limit_bank import FIRST_CONTACT_S
from inferry.policy.limits_alone import WhenGone

from .limit_hosts import TIMES, Host, ask, caller, running, worst_window
from .limit_server import LimitServer, server_of

LIMIT = 40
WHO = caller(Limits(requests_per_minute=LIMIT))


def due(seconds: float, limit: float = LIMIT) -> float:
    """What clients that hammer must get at least in any interval of that length, once per `kept_s`: half of the limit,
    since windows last a second here and a busy machine may sleep through some. (How close to the limit it comes is
    proved on a hand-moved clock: tests/unit/policy/test_leases.py.)"""
    return 0.5 * limit * math.floor(seconds / TIMES.kept_s)


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LimitServer]:
    server = server_of(request.param, tmp_path)
    server.start()
    yield server
    server.kill()


def two_hosts(server: LimitServer, when_gone: WhenGone) -> list[Host]:
    return [Host(name, server.url, when_gone, TIMES) for name in ("h1", "h2")]


def admitted_of(hosts: list[Host], since_s: float = 0.0, until_s: float = 1e18) -> list[float]:
    return sorted(each for host in hosts for each in host.admitted if since_s <= each < until_s)


async def until(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return time.monotonic()


async def test_two_hosts_stay_below_the_limit_together(server: LimitServer) -> None:
    """At most the limit in every window, and at least 90 % of it once per window, lease and slot."""
    hosts = two_hosts(server, "last")
    async with running(hosts, WHO, clients=10):
        began_s = await until(0.3)
        ended_s = await until(5.0)
    admitted = admitted_of(hosts)
    assert worst_window(admitted, TIMES.window_s) <= LIMIT
    steady = admitted_of(hosts, began_s, ended_s)
    assert len(steady) >= due(ended_s - began_s)
    assert {type(refused.error) for host in hosts for _, refused in host.refused} == {RateLimited}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_last_keeps_the_bound_without_redis(server: LimitServer, how: str) -> None:
    """when_gone: last. Both hosts go on with what they had, in sum never above the limit; also through the return."""
    hosts = two_hosts(server, "last")
    async with running(hosts, WHO, clients=10):
        await until(2.5)
        server.kill() if how == "killed" else server.freeze()
        gone_s = await until(0.5)
        back_s = await until(2.5)
        server.start() if how == "killed" else server.thaw()
        shared_s = await until(3.0)
        assert [host.bank.is_gone for host in hosts] == [False, False]
        ended_s = await until(2.0)
    assert worst_window(admitted_of(hosts), TIMES.window_s) <= LIMIT
    assert len(admitted_of(hosts, gone_s, back_s)) >= due(back_s - gone_s)
    assert len(admitted_of(hosts, shared_s, ended_s)) >= due(ended_s - shared_s)


@pytest.mark.slow
async def test_share_gives_each_host_its_part(server: LimitServer) -> None:
    """when_gone: share. A window later each host is below half of the limit; until then below the sum of both."""
    hosts = two_hosts(server, "share")
    async with running(hosts, WHO, clients=10):
        await until(2.5)
        server.kill()
        settled_s = await until(TIMES.kept_s + 0.3)
        back_s = await until(2.5)
        server.start()
        await until(4.0)
    for host in hosts:
        alone = admitted_of([host], settled_s, back_s)
        assert len(alone) >= due(back_s - settled_s, LIMIT / 2)
        assert worst_window(alone, TIMES.window_s) <= LIMIT / 2
    assert worst_window(admitted_of(hosts), TIMES.window_s) <= LIMIT * 1.5


@pytest.mark.slow
async def test_closed_refuses_limited_requests_only(server: LimitServer) -> None:
    """when_gone: closed. 503 with Retry-After for limited keys, nothing for others; all is well when it is back."""
    hosts = two_hosts(server, "closed")
    async with running(hosts, WHO, clients=10):
        await until(1.5)
        server.kill()
        gone_s = await until(TIMES.lease_s + 0.3)
        unlimited = await ask(hosts[0].admissions[0], caller(Limits()))
        limited = await ask(hosts[0].admissions[0], WHO)
        back_s = await until(1.0)
        server.start()
        shared_s = await until(3.0)
        ended_s = await until(1.5)
    assert isinstance(unlimited, Admitted)
    assert isinstance(limited, Refused)
    assert isinstance(limited.error, LimitsUnavailable)
    assert (limited.error.status, limited.error.retry_after_s) == (503, 2.0)
    assert admitted_of(hosts, gone_s, back_s) == []
    assert worst_window(admitted_of(hosts), TIMES.window_s) <= LIMIT
    assert len(admitted_of(hosts, shared_s, ended_s)) >= due(ended_s - shared_s)


@pytest.mark.slow
async def test_a_redis_that_is_not_there_at_start_is_a_gone_one(server: LimitServer) -> None:
    """Hosts start without Redis, wait for it a little, admit their share, and find it later."""
    server.kill()
    hosts = two_hosts(server, "last")
    async with running(hosts, WHO, clients=4):
        await until(FIRST_CONTACT_S / 2)
        assert not any(host.admitted for host in hosts)
        await until(FIRST_CONTACT_S / 2 + 1.0)
        assert all(host.admitted for host in hosts)
        server.start()
        await until(3.0)
        assert [host.bank.is_gone for host in hosts] == [False, False]


@pytest.mark.slow
async def test_what_was_admitted_before_the_first_contact_counts(server: LimitServer) -> None:
    """A host that is all alone goes over to Redis without a burst: what it admitted before is charged there."""
    server.kill()
    hosts = two_hosts(server, "last")[:1]
    async with running(hosts, WHO, clients=10):
        await until(FIRST_CONTACT_S + 2.0)
        server.start()
        shared_s = await until(3.0)
        assert not hosts[0].bank.is_gone
        await until(1.0)
    assert worst_window(admitted_of(hosts), TIMES.window_s) <= LIMIT
    assert admitted_of(hosts, 0, shared_s)
    assert admitted_of(hosts, shared_s)


@pytest.mark.slow
async def test_a_redis_that_is_late_at_start_is_waited_for(server: LimitServer) -> None:
    """It freezes for longer than the time-out just as two hosts start: nobody counts for itself alone."""
    server.freeze()
    hosts = two_hosts(server, "last")
    async with running(hosts, WHO, clients=10):
        await until(1.0)
        server.thaw()
        await until(3.0)
    admitted = admitted_of(hosts)
    assert len(admitted) >= due(2.0)
    assert worst_window(admitted, TIMES.window_s) <= LIMIT


async def test_no_key_is_stuck_after_a_host_was_killed(server: LimitServer) -> None:
    """A host vanishes with permits and leases in hand: a permit's time and a window later all is free."""
    who = caller(Limits(requests_in_flight=5, requests_per_minute=10))
    first, second = two_hosts(server, "last")
    async with running([second], WHO, clients=0):
        async with running([first], who, clients=0):
            taken = [await ask(first.admissions[0], who) for _ in range(5)]
            assert all(isinstance(each, Admitted) for each in taken)
            assert isinstance(await ask(second.admissions[0], who), Refused)
        await until(max(TIMES.permit_ttl_s, TIMES.kept_s) + 0.1)
        again = [await ask(second.admissions[0], who) for _ in range(5)]
        assert [type(each) for each in again] == [Admitted] * 5


def test_two_processes_with_fifty_clients_each(server: LimitServer, tmp_path: Path) -> None:
    """Real processes, one of them killed with -9 and started again: the limit holds in every window."""
    began_s = time.monotonic()

    def start(name: str) -> subprocess.Popen[bytes]:
        arguments = [server.url, name, str(LIMIT), str(tmp_path / name)]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.contract.limit_hosts", *arguments], stdin=subprocess.PIPE
        )

    stays, goes, doomed = start("stays"), start("goes"), start("doomed")
    time.sleep(4)
    goes.communicate()
    doomed.kill()
    doomed.communicate()
    killed_s = time.monotonic()
    comes = start("comes")
    time.sleep(TIMES.kept_s + 3)
    stays.communicate()
    comes.communicate()
    assert (stays.returncode, goes.returncode, comes.returncode) == (0, 0, 0)
    admitted = sorted(
        float(line) for name in ("stays", "goes", "comes") for line in (tmp_path / name).read_text().split()
    )
    assert worst_window(admitted, TIMES.window_s) <= LIMIT
    # Once the doomed one is dead, the others get its part: all of the limit again.
    alone = [each for each in admitted if each > killed_s + TIMES.kept_s]
    assert len(alone) >= due(alone[-1] - alone[0])
    assert admitted[0] > began_s
