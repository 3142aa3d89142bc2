"""A control API that says what a test tells it to, on a real control socket."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from fastapi import APIRouter

from inferry.admin.api import ReloadAnswer, make_control_app
from inferry.admin.run_record import RunRecord, new_socket_path
from inferry.admin.status import Status
from inferry.gateway.server import EmbeddedServer


@dataclass
class Control:
    """A control API in a thread, and how it was asked to shut down."""

    record: RunRecord
    shutdowns: list[bool] = field(default_factory=list)


async def no_reload() -> ReloadAnswer:
    return ReloadAnswer(generation=1, changes=[])


@contextmanager
def running_control(
    status: Status,
    *,
    port: int = 8000,
    url: str = "http://127.0.0.1:8000",
    lifecycle: APIRouter | None = None,
) -> Iterator[Control]:
    path = new_socket_path()
    state = Control(RunRecord(port, os.getpid(), url, status.file, str(path), 0.0))
    server: EmbeddedServer

    def shut_down(at_once: bool) -> None:
        state.shutdowns.append(at_once)
        server.should_exit = True

    async def get_status() -> Status:
        return status

    app = make_control_app(
        status=get_status, shut_down=shut_down, reload=no_reload, pid=status.pid, lifecycle=lifecycle
    )
    server = EmbeddedServer(uvicorn.Config(app, loop="none", ws="none", lifespan="off", log_config=None))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield state
        finally:
            server.should_exit = True
            thread.join()
    path.unlink(missing_ok=True)
    path.parent.rmdir()
