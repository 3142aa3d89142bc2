"""One suite over every runtime: what the fleet relies on, wherever replicas run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from inferry.core.errors import StartFailed
from inferry.runtime.base import Handle, Runtime
from tests.contract.runtime_cases import CASES, Orders, RuntimeCase

PATIENCE_S = 60.0


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.slow] if kind == "kubernetes" else []) for kind in sorted(CASES)
    ]
)
def case(request: pytest.FixtureRequest) -> RuntimeCase:
    return CASES[request.param]


@pytest.fixture
async def runtime(case: RuntimeCase, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with case.made(tmp_path) as made:
        yield made


@pytest.fixture
def orders() -> Orders:
    return Orders()


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not fact():
            await asyncio.sleep(0.02)


async def answer(handle: Handle, path: str = "/") -> str:
    """What the engine says, as soon as it listens."""
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                return (await client.get(handle.endpoint.address(path))).text
            except httpx.ConnectError:
                await asyncio.sleep(0.05)


async def test_an_engine_answers_where_its_handle_says(runtime: Runtime, orders: Orders) -> None:
    """And it is among those that run."""
    handle = await runtime.start(orders.order("chat-0"))
    assert handle.replica_id == "chat-0"
    assert await answer(handle) == "ok"
    assert [each.replica_id for each in runtime.running()] == ["chat-0"]


async def test_two_at_once_have_a_place_each(runtime: Runtime, orders: Orders) -> None:
    """Neither is touched when the other one is stopped."""
    async with asyncio.TaskGroup() as group:
        starts = [group.create_task(runtime.start(orders.order(f"chat-{index}"))) for index in range(2)]
    first, second = [each.result() for each in starts]
    assert first.endpoint.url != second.endpoint.url
    assert [await answer(first), await answer(second)] == ["ok", "ok"]
    await runtime.stop(first, 5.0)
    assert await answer(second) == "ok"
    assert [each.replica_id for each in runtime.running()] == ["chat-1"]


async def test_an_end_by_itself_has_its_code_and_its_last_words(runtime: Runtime, orders: Orders) -> None:
    """Several may wait for it; when `wait` has returned, the log is complete, on this machine too."""
    handle = await runtime.start(orders.order("chat-0"))
    waiting = [asyncio.ensure_future(handle.ended()) for _ in range(2)]
    await answer(handle, "/exit/7")
    async with asyncio.timeout(PATIENCE_S):
        assert [(await each).code for each in waiting] == [7, 7]
        assert (await handle.wait()).code == 7
    assert {"engine is up", "told to exit"} <= set(handle.log_tail())
    assert "told to exit" in handle.log_path.read_text()
    await until(lambda: not runtime.running())


async def test_one_that_ended_can_start_again_under_its_name(runtime: Runtime, orders: Orders) -> None:
    """As after every crash."""
    first = await runtime.start(orders.order("chat-0"))
    await answer(first, "/exit/1")
    async with asyncio.timeout(PATIENCE_S):
        await first.wait()
    second = await runtime.start(orders.order("chat-0"))
    assert await answer(second) == "ok"


async def test_a_stop_is_polite_first(case: RuntimeCase, runtime: Runtime, orders: Orders) -> None:
    """And may be asked for twice."""
    handle = await runtime.start(orders.order("chat-0"))
    await answer(handle)
    async with asyncio.timeout(PATIENCE_S):
        exit = await runtime.stop(handle, 20.0)
        assert exit.code in case.grace_code
        assert await runtime.stop(handle, 20.0) == exit
    assert not runtime.running()
    with pytest.raises(httpx.TransportError):
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(handle.endpoint.address("/"))


async def test_a_deaf_one_is_killed_when_its_grace_is_over(runtime: Runtime, orders: Orders) -> None:
    """Not before."""
    handle = await runtime.start(orders.order("chat-0", deaf=True))
    await answer(handle)
    async with asyncio.timeout(PATIENCE_S):
        assert (await runtime.stop(handle, 1.0)).code == -9
    assert not runtime.running()


async def test_a_program_that_is_not_there_is_refused_with_its_name(
    case: RuntimeCase, runtime: Runtime, orders: Orders
) -> None:
    """No try would help: the fleet is told so. Where only a node knows, its handle ends with those words."""
    order = orders.order("chat-0", program="/nowhere/no-such-engine")
    if case.refuses_programs:
        with pytest.raises(StartFailed, match="no-such-engine"):
            await runtime.start(order)
    else:
        handle = await runtime.start(order)
        async with asyncio.timeout(PATIENCE_S):
            assert (await handle.wait()).code != 0
        assert "no-such-engine" in handle.log_tail()[-1]
    assert not runtime.running()


async def test_kill_now_ends_what_is_being_stopped(runtime: Runtime, orders: Orders) -> None:
    """The second Ctrl-C waits for no grace."""
    handle = await runtime.start(orders.order("chat-0", deaf=True))
    await answer(handle)
    stopping = asyncio.ensure_future(runtime.stop(handle, 600.0))
    await asyncio.sleep(0.3)
    assert not stopping.done()
    runtime.kill_now()
    async with asyncio.timeout(PATIENCE_S):
        assert (await stopping).code == -9


async def test_a_start_that_is_cancelled_leaves_nothing(runtime: Runtime, orders: Orders) -> None:
    """Who gives up a start has no engine of it left."""
    starting = asyncio.ensure_future(runtime.start(orders.order("chat-0")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not runtime.running())
