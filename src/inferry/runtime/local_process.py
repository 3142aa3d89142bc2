"""One engine process and its group: what it prints, and its end. Two threads, no polling, any event loop.

Threads, because they behave alike on Linux and macOS, on asyncio and uvloop, and because an engine that
prints must be heard even while the loop is busy or the disk is slow.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from inferry.core.replica import Endpoint
from inferry.runtime.base import EXIT_CODE_UNKNOWN, Exit, Vitals
from inferry.runtime.process_group import group_lives, signal_group
from inferry.runtime.replica_log import ReplicaLog
from inferry.runtime.vitals import GroupVitals

log = structlog.get_logger()

GROUP_END_S = 10.0
"""How long killed processes may take to vanish: freeing many GiB, on a GPU above all, takes seconds, and the
next engine needs them."""
OUTPUT_END_S = 0.5
"""For a pipe that a process outside the group still holds open."""


class LocalProcess:
    """A `Handle`. Made on the event loop's thread, right after the fork."""

    def __init__(
        self,
        replica_id: str,
        endpoint: Endpoint,
        process: subprocess.Popen[bytes],
        output_fd: int,
        log: ReplicaLog,
        on_reap: Callable[[int], None],
    ) -> None:
        """Takes over `process`, `output_fd` and `log`. `on_reap(pid)` is called from a thread, when the group
        has been killed and its number is about to become free."""
        self._replica_id = replica_id
        self._endpoint = endpoint
        self._process = process
        self._log = log
        self._vitals = GroupVitals(process.pid)
        self._on_reap = on_reap
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._gone: asyncio.Future[Exit] = self._loop.create_future()
        # Held while the group is signalled and while its leader is reaped: the number stays ours meanwhile.
        self._lock = threading.Lock()
        self._reaped = False
        self._wake_read_fd, self._wake_write_fd = os.pipe()
        self._reader = threading.Thread(
            target=self._read_output, args=(output_fd,), name=f"log-{replica_id}", daemon=True
        )
        self._reader.start()
        threading.Thread(target=self._see_it_end, name=f"wait-{replica_id}", daemon=True).start()

    @property
    def replica_id(self) -> str:
        return self._replica_id

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log_path(self) -> Path:
        return self._log.path

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left."""
        return self._gone.done()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._ended.result().code if self._ended.done() else None

    async def ended(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._gone)

    def log_tail(self) -> Sequence[str]:
        return self._log.tail()

    def vitals(self) -> Vitals | None:
        return None if self._ended.done() else self._vitals.read()

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if it is still there."""
        with self._lock:
            if not self._reaped:
                signal_group(self.pid, number)

    # --- the two threads ------------------------------------------------------------------------------

    def _read_output(self, output_fd: int) -> None:
        poller = select.poll()  # not select(): descriptors may be above 1023
        poller.register(output_fd, select.POLLIN)
        poller.register(self._wake_read_fd, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poller.poll()}
                if output_fd in ready:
                    chunk = os.read(output_fd, 65536)
                    if not chunk:
                        return
                    self._log.write(chunk)
                elif self._wake_read_fd in ready:
                    return  # nothing more to read, and the group is gone
        finally:
            os.close(output_fd)

    def _see_it_end(self) -> None:
        exit = Exit(EXIT_CODE_UNKNOWN)
        try:
            exit = self._await_exit()
            self._tell(self._ended, exit)
            self._clear_away()
        except Exception:
            # Whatever went wrong, those who wait must hear of the end.
            log.exception("process_watch_broke", replica=self._replica_id, pid=self.pid)
        finally:
            self._tell(self._ended, exit)
            self._tell(self._gone, exit)

    def _await_exit(self) -> Exit:
        """Blocks until the leader has ended. It is not reaped yet, where that can be had."""
        pid = self.pid
        if hasattr(os, "waitid"):
            # Look without reaping: as long as the leader is a zombie, the group's number can't be reused, so
            # that the signals below and the guard's can't hit a stranger.
            try:
                info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                # It has ended, and was reaped by somebody else.
                log.warning("exit_code_lost", replica=self._replica_id, pid=pid)
                return Exit(EXIT_CODE_UNKNOWN)
            assert info is not None
            killed = info.si_code != os.CLD_EXITED
            return Exit(-info.si_status if killed else info.si_status)
        return Exit(self._process.wait())  # macOS before Python 3.13

    def _clear_away(self) -> None:
        """Kill what is left of the group, reap the leader, and read its output to the end."""
        with self._lock:
            signal_group(self.pid, signal.SIGKILL)
            self._on_reap(self.pid)
            self._process.wait()
            self._reaped = True
        self._await_group_end()
        self._reader.join(timeout=OUTPUT_END_S)
        os.write(self._wake_write_fd, b"x")
        self._reader.join()
        os.close(self._wake_read_fd)
        os.close(self._wake_write_fd)
        self._log.close()

    def _await_group_end(self) -> None:
        pause = threading.Event()
        waited_s, wait_s = 0.0, 0.002
        while waited_s < GROUP_END_S and group_lives(self.pid):
            pause.wait(wait_s)
            waited_s += wait_s
            wait_s = min(2 * wait_s, 0.1)

    def _tell(self, future: asyncio.Future[Exit], exit: Exit) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, future, exit)
        except RuntimeError:
            return  # the loop is closed: nobody listens any more


def _resolve(future: asyncio.Future[Exit], exit: Exit) -> None:
    if not future.done():
        future.set_result(exit)
