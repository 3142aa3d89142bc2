"""Gateway processes as the control process keeps them: one that hangs is found and replaced."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import NoReturn, cast

import httpx
import pytest
from structlog.testing import capture_logs

from inferry.core.errors import StartFailed
from inferry.core.gateway_settings import Gateway
from inferry.gateway import workers
from inferry.gateway.link import Link
from inferry.gateway.messages import Configuration, LeasesWanted, Setup
from inferry.gateway.server import bind_sockets
from inferry.gateway.workers import GatewayWorkers


async def _nothing(name: str, wanted: LeasesWanted) -> object:
    return ()


async def _no_page() -> bytes:
    return b""


def make_workers(folder: Path) -> tuple[GatewayWorkers, int]:
    """One gateway process that serves no deployment, and its port."""
    listeners = bind_sockets("127.0.0.1", 0)

    def setup(name: str) -> Setup:
        return Setup(
            name=name,
            configuration=Configuration(1, Gateway(), {}, ()),
            keys=(),
            views=(),
            workers=1,
            log_path=folder / f"{name}.jsonl",
            journal_folder=folder / "journal",
        )

    made = GatewayWorkers(
        listeners,
        setup=setup,
        environ=os.environ,
        log_folder=folder,
        on_replica_failure=lambda replica_id, reason: None,
        on_leases=_nothing,
        on_worker_gone=lambda name: None,
        metrics_page=_no_page,
        drain_s=lambda: 1.0,
    )
    return made, int(listeners[0].getsockname()[1])


def _no_room(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


async def test_a_process_that_can_not_be_made_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the machine has no room for a process in another's place, the rest goes on; then there is one again."""
    monkeypatch.setattr(workers, "RESTART_PAUSE_S", 0.01)
    gateways, _ = make_workers(tmp_path)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(gateways.run())
        await gateways.wait_started()
        pid = gateways.pids["gateway-0"]
        with monkeypatch.context() as patch, capture_logs() as logged:
            patch.setattr(asyncio, "create_subprocess_exec", _no_room)
            os.kill(pid, signal.SIGKILL)
            while [entry["event"] for entry in logged].count("gateway_process_not_started") < 2:
                await asyncio.sleep(0.02)
        await _until_other_than(gateways, pid)
        gateways.drain(at_once=True)
        await running


async def test_a_first_process_that_can_not_be_made_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start there is nothing to keep alive: the reason is the message."""
    gateways, _ = make_workers(tmp_path)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", _no_room)
    with pytest.raises(ExceptionGroup) as raised:
        await gateways.run()
    (error,) = raised.value.exceptions
    assert isinstance(error, StartFailed)
    assert error.message == "gateway-0 can't be started: Resource temporarily unavailable"
    gateways.drain()


class _Replies:
    """A link's end that notes what is replied."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, object]] = []

    def reply(self, number: int, value: object) -> None:
        self.replies.append((number, value))


async def test_a_fault_in_one_answer_ends_nothing(tmp_path: Path) -> None:
    """The process that asked for leases hears that nobody could be asked, the one for metrics gets none; the log
    has the fault, and all goes on."""

    async def fail() -> object:
        raise RuntimeError("a bug")

    gateways, _ = make_workers(tmp_path)
    link = _Replies()
    with capture_logs() as logged:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            running = group.create_task(gateways.run())
            await gateways.wait_started()
            gateways._answer(cast(Link, link), 1, fail(), workers.NOT_ASKED)
            gateways._answer(cast(Link, link), 2, fail(), b"")
            while len(link.replies) < 2:
                await asyncio.sleep(0.01)
            assert not running.done()
            gateways.drain(at_once=True)
            await running
    assert link.replies == [(1, None), (2, b"")]
    assert [entry["event"] for entry in logged].count("gateway_process_not_answered") == 2


async def _until_other_than(gateways: GatewayWorkers, pid: int) -> None:
    while gateways.pids["gateway-0"] == pid:
        await asyncio.sleep(0.02)


async def test_a_process_that_is_down_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its successor serves, its numbers are missing: nobody may take them for an empty queue."""
    monkeypatch.setattr(workers, "RESTART_PAUSE_S", 0.3)
    gateways, _ = make_workers(tmp_path)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(gateways.run())
        await gateways.wait_started()
        assert (await gateways.snapshot()).silent == ()
        pid = gateways.pids["gateway-0"]
        os.kill(pid, signal.SIGKILL)
        while not (await gateways.snapshot()).silent:
            await asyncio.sleep(0.01)
        await _until_other_than(gateways, pid)
        while (await gateways.snapshot()).silent:
            await asyncio.sleep(0.01)
        gateways.drain(at_once=True)
        await running


async def test_a_process_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, it answers nothing: it is killed, its successor serves who waited, and numbers come all the time,
    with the name of the process as long as they are old."""
    monkeypatch.setattr(workers, "SILENT_MAX_S", 0.5)
    monkeypatch.setattr(workers, "LOOK_S", 0.2)
    monkeypatch.setattr(workers, "NUMBERS_TIMEOUT_S", 0.1)
    gateways, port = make_workers(tmp_path)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group, httpx.AsyncClient() as client:
        running = group.create_task(gateways.run())
        await gateways.wait_started()
        pid = gateways.pids["gateway-0"]
        os.kill(pid, signal.SIGSTOP)
        asked = group.create_task(client.get(f"http://127.0.0.1:{port}/", timeout=20))
        assert (await gateways.snapshot()).silent == ("gateway-0",)
        await _until_other_than(gateways, pid)
        assert (await asked).status_code == 200
        assert (await gateways.snapshot()).silent == ()
        gateways.drain(at_once=True)
        await running


async def test_a_process_that_answers_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is looked at."""
    monkeypatch.setattr(workers, "LOOK_S", 0.01)
    gateways, _ = make_workers(tmp_path)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(gateways.run())
        await gateways.wait_started()
        pid = gateways.pids["gateway-0"]
        for _ in range(20):
            await gateways.snapshot()
            await asyncio.sleep(0.02)
        assert gateways.pids["gateway-0"] == pid
        gateways.drain(at_once=True)
        await running
