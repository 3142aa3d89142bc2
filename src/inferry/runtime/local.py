"""Replicas as processes on this machine: each leads a group of its own, and none outlives us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from inferry.core.errors import StartFailed
from inferry.core.launch import LaunchOrder, LaunchSpec, Seat
from inferry.runtime.base import Exit, Handle
from inferry.runtime.free_port import PortPicker
from inferry.runtime.local_process import LocalProcess
from inferry.runtime.orphan_guard import OrphanGuard
from inferry.runtime.replica_log import ReplicaLog

log = structlog.get_logger()

_LAUNCHER = Path(__file__).with_name("launch.py")
LOOPBACK = "127.0.0.1"
EXEC_TIMEOUT_S = 30.0
"""For the launcher, a bare interpreter (10 ms): so long only on a machine that is drowning."""
KILLED_END_S = 15.0
"""For a killed process to vanish; one that hangs in the kernel (a dead disk, a GPU driver) may take longer."""


class LocalRuntime:
    """A `Runtime`. Use it from one event loop; `close` it on that loop.

    How no engine is ever left behind: `close` and `stop` kill groups; if this process dies without them, the
    guard sees its pipe close and kills them (runtime/guard.py); and no engine runs before the guard knows its
    group (runtime/launch.py).
    """

    def __init__(
        self,
        log_dir: Path,
        environ: Mapping[str, str] | None = None,
        *,
        host: str = LOOPBACK,
        make_log: Callable[[Path], ReplicaLog] = ReplicaLog,
    ) -> None:
        """Logs go to `log_dir/REPLICA_ID.log`. Engines get `environ` (None: ours) and what their spec adds to it, and
        are told to listen at `host`, an address of this machine."""
        self._log_dir = log_dir
        self._environ = dict(os.environ if environ is None else environ)
        self._host = host
        self._make_log = make_log
        self._ports = PortPicker(host)
        self._guard = OrphanGuard()
        self._processes: list[LocalProcess] = []
        self._no_grace = False
        self._closed = False

    @property
    def guard_pid(self) -> int | None:
        """The guard's process id; None before the first start."""
        return self._guard.pid

    def seat(self, replica_id: str) -> Seat:
        """With a port that nobody listens on now, and that was not given out here recently."""
        return Seat(self._host, self._ports.pick(), self._folder(replica_id))

    async def start(self, order: LaunchOrder) -> LocalProcess:
        return await self.run(order.spec_at(self.seat(order.replica_id)))

    async def run(self, spec: LaunchSpec) -> LocalProcess:
        """The same, where the seat was chosen before."""
        assert not self._closed, "start after close"
        try:
            self._write_files(spec)
        except OSError as error:
            raise StartFailed(f"can't write what {spec.replica_id} needs: {error}") from error
        status_read_fd, status_write_fd = os.pipe()
        try:
            process = self._fork(spec, status_write_fd)
            os.close(status_write_fd)
            status_write_fd = -1
            try:
                refusal = await _read_to_end(status_read_fd)
            except BaseException:
                # Cancelled, or stuck: whatever it is by now, it must not live on.
                process.signal_group(signal.SIGKILL)
                raise
        except TimeoutError:
            raise StartFailed(f"{spec.replica_id}: no process came up within {EXEC_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise StartFailed(f"can't start a process for {spec.replica_id}: {error}") from error
        finally:
            os.close(status_read_fd)
            if status_write_fd >= 0:
                os.close(status_write_fd)
        if refusal:
            await process.wait()
            self._forget_gone()
            raise StartFailed(f"can't run {spec.argv[0]}: {refusal}")
        log.info("process_started", replica=spec.replica_id, pid=process.pid)
        return process

    async def stop(self, handle: Handle, grace_s: float) -> Exit:
        process = self._mine(handle)
        try:
            # Without grace it is killed at once: a polite word would have it break its answers off in its own way.
            if not process.gone and grace_s > 0:
                process.signal_group(signal.SIGTERM)
                # A process that is stopped (SIGSTOP) hears SIGTERM only when it goes on.
                process.signal_group(signal.SIGCONT)
                try:
                    async with asyncio.timeout(0 if self._no_grace else grace_s):
                        await process.ended()
                except TimeoutError:
                    log.warning(
                        "process_killed", replica=process.replica_id, pid=process.pid, grace_s=grace_s
                    )
            return await self._kill(process)
        except asyncio.CancelledError:
            process.signal_group(signal.SIGKILL)
            raise

    def kill_now(self) -> None:
        self._no_grace = True
        for process in self._processes:
            process.signal_group(signal.SIGKILL)

    def let_go(self) -> None:
        """Nothing stays here: processes of ours never outlive us."""

    def running(self) -> Sequence[Handle]:
        self._forget_gone()
        return list(self._processes)

    async def close(self) -> None:
        self._closed = True
        self._forget_gone()
        for process in self._processes:
            process.signal_group(signal.SIGKILL)
        for process in list(self._processes):
            await self._kill(process)
        await asyncio.to_thread(self._guard.close)

    def _folder(self, replica_id: str) -> Path:
        return self._log_dir / f"{replica_id}.files"

    def _write_files(self, spec: LaunchSpec) -> None:
        if spec.files:
            self._folder(spec.replica_id).mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, text in spec.files.items():
            # A new file each time: the old one may be open, or readable by others.
            path.unlink(missing_ok=True)
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(text, encoding="utf-8")

    def _fork(self, spec: LaunchSpec, status_fd: int) -> LocalProcess:
        """Fork the launcher, have the guard watch its group, and give it leave to become the engine."""
        go_read_fd, go_write_fd = os.pipe()
        output_read_fd, output_write_fd = os.pipe()
        argv = [sys.executable, "-I", "-S", str(_LAUNCHER), str(go_read_fd), str(status_fd), *spec.argv]
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output_write_fd,
                stderr=output_write_fd,
                env={**self._environ, **spec.env},
                pass_fds=(go_read_fd, status_fd),
                start_new_session=True,
            )
        except BaseException:
            for fd in (go_write_fd, output_read_fd):
                os.close(fd)
            raise
        finally:
            os.close(go_read_fd)
            os.close(output_write_fd)
        try:
            replica_log = self._make_log(self._log_dir / f"{spec.replica_id}.log")
            process = LocalProcess(
                spec.replica_id, spec.endpoint, child, output_read_fd, replica_log, on_reap=self._guard.forget
            )
            self._processes.append(process)
            self._guard.watch(child.pid)
            os.write(go_write_fd, b"g")
        except BrokenPipeError:
            pass  # the launcher is dead already; its end is reported like any engine's
        finally:
            # Without the byte, this makes the launcher end.
            os.close(go_write_fd)
        return process

    async def _kill(self, process: LocalProcess) -> Exit:
        """Kill what is left of its group, and wait until nothing is."""
        process.signal_group(signal.SIGKILL)
        try:
            async with asyncio.timeout(KILLED_END_S):
                exit = await process.wait()
        except TimeoutError:
            log.error("process_does_not_die", replica=process.replica_id, pid=process.pid)
            exit = Exit(-signal.SIGKILL)
        self._forget_gone()
        return exit

    def _forget_gone(self) -> None:
        self._processes = [process for process in self._processes if not process.gone]

    def _mine(self, handle: Handle) -> LocalProcess:
        assert isinstance(handle, LocalProcess)
        return handle


async def _read_to_end(fd: int) -> str:
    """All that comes through a pipe until it closes."""
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    done = loop.create_future()

    def on_readable() -> None:
        chunk = os.read(fd, 4096)
        if chunk:
            chunks.append(chunk)
        elif not done.done():
            done.set_result(None)

    os.set_blocking(fd, False)
    loop.add_reader(fd, on_readable)
    try:
        async with asyncio.timeout(EXEC_TIMEOUT_S):
            await done
    finally:
        loop.remove_reader(fd)
    return b"".join(chunks).decode(errors="replace")
