"""Keeps the gateway's processes running, from the control process: starts them, tells them, adds up their numbers.

Each has a socket of its own on the shared port. The control process keeps all of them open, so connections that
come in while a process is started anew wait in its socket's queue instead of being refused.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from inferry.core.errors import ConfigError, StartFailed
from inferry.core.replica import ReplicaProgress
from inferry.gateway.link import Link, LinkLost
from inferry.gateway.messages import (
    PREPARE_TIMEOUT_S,
    Commit,
    Configuration,
    Drain,
    LeasesWanted,
    LoadWanted,
    MetricsWanted,
    Prepare,
    Progress,
    ReplicaFailed,
    Setup,
    SnapshotWanted,
    Started,
)
from inferry.gateway.snapshot import Snapshot, add_up

log = structlog.get_logger()

REPLY_TIMEOUT_S = 5.0
NUMBERS_TIMEOUT_S = 2.0
"""For the numbers of one process; who waits for them gives up later than this."""
SILENT_MAX_S = 10.0
"""A process that answers nothing for so long hangs: it is killed, and another takes its place."""
LOOK_S = 1.0
"""Between two looks at whether it still answers; also how long it has to answer a last time."""
RESTART_PAUSE_S = 0.2
RESTART_PAUSE_MAX_S = 10.0
WELL_AFTER_S = 30.0
"""A process that ran this long before it ended is started again at once."""
END_GRACE_S = 5.0
"""Beyond the drain time, until a gateway process is killed."""
PROGRAM = "inferry.cli.gateway_worker"
NOT_ASKED = None
"""In place of grants: whoever counts the limits could not be asked."""


class _Worker:
    """One gateway process, or the next that takes its place."""

    def __init__(self, index: int, listener: socket.socket) -> None:
        self.index = index
        self.name = f"gateway-{index}"
        self.listener = listener
        self.link: Link | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.snapshot = Snapshot()
        """Of the process that runs now, as last heard."""
        self.ended = Snapshot()
        """What the processes before it counted."""
        self.started = asyncio.Event()
        """Set for good once one of them has served."""
        self.serves = False
        """Whether the one that runs now accepts connections."""
        self.is_silent = False
        """It did not answer the last question in time."""
        self.restarts = 0

    @property
    def is_down(self) -> bool:
        """It has served, and its next process does not yet."""
        return self.started.is_set() and not self.serves


class GatewayWorkers:
    """All gateway processes of one instance."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        *,
        setup: Callable[[str], Setup],
        environ: Mapping[str, str],
        log_folder: Path,
        on_replica_failure: Callable[[str, str], None],
        on_leases: Callable[[str, LeasesWanted], Awaitable[object]],
        on_worker_gone: Callable[[str], None],
        on_load_wanted: Callable[[str], None] = lambda deployment: None,
        on_progress: Callable[[str, Mapping[str, ReplicaProgress]], None] = lambda name, replicas: None,
        metrics_page: Callable[[], Awaitable[bytes]],
        drain_s: Callable[[], float],
    ) -> None:
        """`setup(name)`: what a process that starts now must know. `on_leases(name, wanted)` gives the grants."""
        self._workers = [_Worker(index, listener) for index, listener in enumerate(listeners)]
        self._make_setup = setup
        self._environ = environ
        self._log_folder = log_folder
        self._on_replica_failure = on_replica_failure
        self._on_leases = on_leases
        self._on_worker_gone = on_worker_gone
        self._on_load_wanted = on_load_wanted
        self._on_progress = on_progress
        self._metrics_page = metrics_page
        self._drain_s = drain_s
        self._stopping = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    # --- life -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep all processes running until `drain`; returns when the last one has ended.

        Raises StartFailed when a process ends before it ever served.
        """
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            for worker in self._workers:
                group.create_task(self._keep(worker))

    async def wait_started(self) -> None:
        """Returns when every process accepts connections."""
        for worker in self._workers:
            await worker.started.wait()

    def drain(self, *, at_once: bool = False) -> None:
        """Take no new connections; let running answers finish within the drain time, or cut them."""
        self._stopping.set()
        for worker in self._workers:
            worker.listener.close()
        self.tell(Drain(at_once))
        if at_once:
            return

    async def _keep(self, worker: _Worker) -> None:
        loop = asyncio.get_running_loop()
        pause_s = RESTART_PAUSE_S
        while not self._stopping.is_set():
            began_s = loop.time()
            code: int | None = None
            try:
                process, ours = await self._start(worker)
            except OSError as error:  # no memory, no more processes or files: perhaps soon again
                why = f"{worker.name} can't be started: {error.strerror or error}"
            else:
                code = await self._run_once(worker, process, ours)
                why = "" if worker.started.is_set() else self._why_no_start(worker, code)
            if self._stopping.is_set():
                return
            if not worker.started.is_set():
                raise StartFailed(why)
            if loop.time() - began_s >= WELL_AFTER_S:
                pause_s = RESTART_PAUSE_S
            if code is None:
                log.error("gateway_process_not_started", name=worker.name, error=why, again_in_s=pause_s)
            else:
                log.error("gateway_process_ended", name=worker.name, exit_code=code, restart_in_s=pause_s)
            worker.restarts += 1
            try:
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            except TimeoutError:
                pause_s = min(pause_s * 2, RESTART_PAUSE_MAX_S)

    async def _start(self, worker: _Worker) -> tuple[asyncio.subprocess.Process, socket.socket]:
        """A process, and our end of the line to it. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs, self._log_path(worker).open("ab") as errors:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", PROGRAM, str(theirs.fileno()), str(worker.listener.fileno()),
                    stdin=asyncio.subprocess.DEVNULL, stdout=errors, stderr=errors,
                    pass_fds=(theirs.fileno(), worker.listener.fileno()), env=dict(self._environ),
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        return process, ours

    async def _run_once(
        self, worker: _Worker, process: asyncio.subprocess.Process, ours: socket.socket
    ) -> int:
        worker.process = process
        link = Link(
            lambda message, number: self._on_message(worker, link, message, number),
            lambda: self._on_lost(worker),
        )
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            worker.link = link
            link.say(self._make_setup(worker.name))
            if self._stopping.is_set():
                link.say(Drain(at_once=True))
            return await self._wait_end(worker, link, process)
        finally:
            link.close()
            worker.link = None
            worker.serves = worker.is_silent = False
            worker.ended = add_up([worker.ended, worker.snapshot.counters_only()])
            worker.snapshot = Snapshot()
            if process.returncode is None:
                process.kill()
                await process.wait()
            self._on_worker_gone(worker.name)

    async def _wait_end(self, worker: _Worker, link: Link, process: asyncio.subprocess.Process) -> int:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._end_if_it_hangs(worker, link, process))
            ending = group.create_task(process.wait())
            stopping = group.create_task(self._stopping.wait())
            await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            if not ending.done():
                await asyncio.wait([ending], timeout=self._drain_s() + END_GRACE_S)
                if not ending.done():
                    process.kill()
            stopping.cancel()
        return ending.result()

    async def _end_if_it_hangs(
        self, worker: _Worker, link: Link, process: asyncio.subprocess.Process
    ) -> None:
        """Its connections are lost then; those that wait in its socket's queue are served by the next one."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not worker.serves or await self._answers(link, SILENT_MAX_S):
                continue
            # Once more: perhaps it was this process that stood still (Ctrl-Z, a laptop's lid), not that one.
            if not await self._answers(link, LOOK_S):
                log.error(
                    "gateway_process_hangs", name=worker.name, silent_s=SILENT_MAX_S, killed=process.pid
                )
                process.kill()
                return

    async def _answers(self, link: Link, timeout_s: float) -> bool:
        try:
            await link.ask(SnapshotWanted(), timeout_s)
        except TimeoutError:
            return False
        except LinkLost:
            return True  # it is ending by itself
        return True

    def _log_path(self, worker: _Worker) -> Path:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        return self._log_folder / f"{worker.name}.log"

    def _why_no_start(self, worker: _Worker, code: int) -> str:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        path = self._log_path(worker)
        tail = path.read_text(errors="replace").strip().splitlines()[-1:]
        said = f": {tail[0]}" if tail else ""
        return f"{worker.name} ended with {how} before it served{said} (see {path})"

    # --- the links ------------------------------------------------------------------------------------

    def tell(self, message: object) -> None:
        """Say it to every process that runs; one that starts later hears it in its setup."""
        for worker in self._workers:
            if worker.link is not None:
                worker.link.say(message)

    async def snapshot(self) -> Snapshot:
        """The numbers of all processes, now; of one that does not answer (`silent`), the last that it told.

        One that is started again is silent, too: who waits at its port is counted by nobody.
        """

        async def fetch(worker: _Worker, link: Link) -> None:
            try:
                found = await link.ask(
                    SnapshotWanted(), LOOK_S / 10 if worker.is_silent else NUMBERS_TIMEOUT_S
                )
            except LinkLost:
                return
            except TimeoutError:
                if not worker.is_silent:
                    worker.is_silent = True
                    log.warning("gateway_process_silent", name=worker.name)
                return
            worker.is_silent = False
            if worker.link is link:  # if not, its counts have been closed already, and must not come twice
                worker.snapshot = found

        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                if worker.link is not None and worker.serves:
                    group.create_task(fetch(worker, worker.link))
        total = add_up(each for worker in self._workers for each in (worker.ended, worker.snapshot))
        total.silent = tuple(worker.name for worker in self._workers if worker.is_silent or worker.is_down)
        return total

    async def configure(self, configuration: Configuration) -> None:
        """Have every process serve by `configuration`, all or none. Raises ConfigError with the reason."""
        prepared: list[Link] = []
        # Again, while there is one more: a process that starts meanwhile starts with what is in force now.
        while waiting := [
            worker.link for worker in self._workers if worker.link is not None and worker.link not in prepared
        ]:
            for link in waiting:
                prepared.append(link)
                try:
                    problem: str | None = await link.ask(Prepare(configuration), PREPARE_TIMEOUT_S)
                except TimeoutError:
                    problem = "A gateway process does not answer; nothing was changed. Try again."
                except LinkLost:
                    continue  # the next one in its place is another link
                if problem is not None:
                    raise ConfigError(problem)
        for link in prepared:
            link.call(Commit(configuration.generation), lambda _: None)

    def _on_message(self, worker: _Worker, link: Link, message: Any, number: int | None) -> None:
        match message:
            case Started():
                worker.started.set()
                worker.serves = True
            case ReplicaFailed():
                self._on_replica_failure(message.replica_id, message.reason)
            case Progress():
                self._on_progress(worker.name, message.replicas)
            case LeasesWanted():
                self._answer(link, number, self._on_leases(worker.name, message), NOT_ASKED)
            case LoadWanted():
                self._on_load_wanted(message.deployment)
            case MetricsWanted():
                self._answer(link, number, self._metrics_page(), b"")

    def _answer(self, link: Link, number: int | None, value: Awaitable[object], if_it_fails: object) -> None:
        assert number is not None
        assert self._tasks is not None

        async def answer() -> None:
            try:
                reply = await value
            except Exception:  # a fault of one answer; in the group, it would end all processes
                log.exception("gateway_process_not_answered")
                reply = if_it_fails
            link.reply(number, reply)

        self._tasks.create_task(answer())

    def _on_lost(self, worker: _Worker) -> None:
        worker.link = None

    # --- for people -----------------------------------------------------------------------------------

    @property
    def pids(self) -> dict[str, int]:
        return {worker.name: worker.process.pid for worker in self._workers if worker.process is not None}

    def kill_now(self) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                os.kill(worker.process.pid, signal.SIGKILL)
