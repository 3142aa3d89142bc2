"""Gateway processes as the control process keeps them: one that hangs is found and replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from inferry.core.gateway_settings import Gateway
from inferry.gateway import workers
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


async def _until_other_than(gateways: GatewayWorkers, pid: int) -> None:
    while gateways.pids["gateway-0"] == pid:
        await asyncio.sleep(0.02)


async def test_a_process_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, it answers nothing: it is killed, its successor serves who waited, and numbers come all the time."""
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
        await gateways.snapshot()
        await _until_other_than(gateways, pid)
        assert (await asked).status_code == 200
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
