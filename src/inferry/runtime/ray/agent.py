"""What runs on a node: an actor that supervises one replica's process there, by the same means as on one machine.

It imports nothing of Ray: what is asked of it and what it tells are plain values, and it can be tested without a cluster.
The actor's process is the engine's parent: if it dies, with its node or its job, the guard of its LocalRuntime kills the
engine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from inferry import __version__
from inferry.core.errors import StartFailed
from inferry.core.launch import LaunchSpec, Seat
from inferry.runtime.local import LocalRuntime
from inferry.runtime.local_process import LocalProcess
from inferry.runtime.ray.relayed_log import RelayedLog


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself, before anything is started there."""

    version: str
    """Inferry's."""
    host_name: str
    python: str


@dataclass(frozen=True, slots=True)
class News:
    """What happened at a replica since the last time."""

    output: bytes
    code: int | None
    """Its exit code, as soon as its process has ended."""
    gone: bool
    """Nothing of it is left, and all it printed has been told."""
    cpu_s: float | None
    """As `Vitals`; None: nobody can tell."""
    stopped: bool


class ReplicaAgent:
    """One actor, for one replica and one life of its engine."""

    def __init__(self, replica_id: str, host: str) -> None:
        """`host`: this node's address, as others reach it."""
        self._replica_id = replica_id
        self._loop = asyncio.get_event_loop()
        self._news = asyncio.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="inferry-"))
        self._log: RelayedLog | None = None
        self._runtime = LocalRuntime(self._folder, dict(os.environ), host=host, make_log=self._make_log)
        self._process: LocalProcess | None = None
        self._telling: list[asyncio.Task[None]] = []

    async def facts(self) -> NodeFacts:
        """Asked first: the rest is only understood by the same version."""
        return NodeFacts(__version__, socket.gethostname(), sys.executable)

    async def seat(self) -> Seat:
        """Where an engine can listen on this node now."""
        return self._runtime.seat(self._replica_id)

    async def lacks(self, model_path: str) -> bool:
        """Whether there is no such file or folder here."""
        return not await asyncio.to_thread(os.path.exists, model_path)

    async def start(self, spec: LaunchSpec, python: str) -> str:
        """Why it can't be started here; empty: it runs. `python`: the interpreter of whoever made `spec`, in whose place
        this node's own is used."""
        if spec.argv[0] == python:
            spec = replace(spec, argv=(sys.executable, *spec.argv[1:]))
        try:
            self._process = await self._runtime.run(spec)
        except StartFailed as error:
            return error.message
        self._telling = [
            self._loop.create_task(self._tell_end(self._process)),
            self._loop.create_task(self._tell_gone(self._process)),
        ]
        return ""

    async def news(self, wait_s: float) -> News:
        """As soon as there are any, and after `wait_s` in any case: that they come says that the node is there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        self._news.clear()
        process, log = self._process, self._log
        assert process is not None
        assert log is not None
        gone = process.gone  # before the output is taken: it was complete then
        output, has_more = log.take()
        if has_more:
            self._news.set()
        vitals = process.vitals()
        return News(
            output,
            process.exit_code,
            gone and not has_more,
            None if vitals is None else vitals.cpu_s,
            vitals is not None and vitals.stopped,
        )

    async def stop(self, grace_s: float) -> None:
        """As `Runtime.stop`."""
        if self._process is not None:
            await self._runtime.stop(self._process, grace_s)

    async def kill_now(self) -> None:
        """No grace for anything any more."""
        self._runtime.kill_now()

    async def clear(self) -> None:
        """Nothing stays on this node."""
        await self._runtime.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    def _make_log(self, path: Path) -> RelayedLog:
        self._log = RelayedLog(path, self._on_output)
        return self._log

    def _on_output(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody asks any more
            self._loop.call_soon_threadsafe(self._news.set)

    async def _tell_end(self, process: LocalProcess) -> None:
        await process.ended()
        self._news.set()

    async def _tell_gone(self, process: LocalProcess) -> None:
        await process.wait()
        self._news.set()
