"""Our side of the guard (runtime/guard.py): starts it, tells it which groups to watch, replaces it if it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import structlog

log = structlog.get_logger()

_SCRIPT = Path(__file__).with_name("guard.py")
RESTART_WAIT_MAX_S = 2.0


class OrphanGuard:
    """One guard process and the pipe to it. Thread-safe; the lock is held for one short write or one fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._write_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def pid(self) -> int | None:
        """The guard's process id, while there is one."""
        process = self._process
        return None if process is None else process.pid

    def watch(self, group: int) -> None:
        """Have `group` killed if this process dies. Starts the guard if need be.

        Raises OSError when no guard can be started: then no engine may be either.
        """
        with self._lock:
            self._groups.add(group)
            if self._process is None:
                self._start()
            else:
                self._tell(b"+%d\n" % group)

    def forget(self, group: int) -> None:
        """`group` has ended; its number may soon belong to a stranger."""
        with self._lock:
            self._groups.discard(group)
            self._tell(b"-%d\n" % group)

    def close(self) -> None:
        """Let the guard go: it kills whatever is still registered, and ends. Blocks up to a few seconds."""
        self._closing.set()
        with self._lock:
            if self._write_fd is not None:
                os.close(self._write_fd)
                self._write_fd = None
            watcher = self._watcher
        if watcher is not None:
            watcher.join(timeout=5.0)

    def _start(self) -> None:
        # Both ends are non-inheritable (PEP 446): engines must not keep the pipe open after our death.
        read_fd, write_fd = os.pipe()
        # Told before it is born: a guard that exists knows all there is to guard. (A pipe holds 64 KiB, a
        # few thousand groups.)
        os.write(write_fd, b"".join(b"+%d\n" % group for group in self._groups))
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SCRIPT)],
                stdin=read_fd,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(write_fd)
            raise
        finally:
            os.close(read_fd)
        self._process = process
        self._write_fd = write_fd
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._keep, name="inferry-guard", daemon=True)
            self._watcher.start()

    def _tell(self, line: bytes) -> None:
        if self._write_fd is not None:
            try:
                os.write(self._write_fd, line)  # a line is far below PIPE_BUF: all of it or none
            except BrokenPipeError:
                # It has just died: _keep starts another one, and tells it everything.
                return

    def _keep(self) -> None:
        """The watcher thread: a guard that dies is replaced at once, and then ever more slowly."""
        restarts = 0
        while True:
            process = self._process
            assert process is not None
            process.wait()
            if self._closing.is_set():
                return
            restarts += 1
            log.warning("guard_died", pid=process.pid, code=process.returncode, restarts=restarts)
            if self._closing.wait(min(0.1 * (restarts - 1), RESTART_WAIT_MAX_S)):
                return
            while not self._replace():
                # Not under the lock: starting and ending engines must not wait for this.
                if self._closing.wait(RESTART_WAIT_MAX_S):
                    return
            if self._closing.is_set():
                return

    def _replace(self) -> bool:
        with self._lock:
            if self._closing.is_set():
                return True
            if self._write_fd is not None:
                os.close(self._write_fd)
                self._write_fd = None
            try:
                self._start()
            except OSError as error:
                log.error("guard_not_started", error=str(error))
                return False
            return True
