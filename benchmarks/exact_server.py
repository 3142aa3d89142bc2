"""Builds and starts `exact_server.c`, and reads from its log what a client should have measured."""

from __future__ import annotations

import signal
import struct
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.tools import compiler

SOURCE = Path(__file__).with_suffix(".c")
_RECORD = struct.Struct("=IIqq")


@dataclass
class Truth:
    """What the server did, in ms: from having read a request to writing its tokens."""

    ttft_ms: list[float] = field(default_factory=list)
    itl_ms: list[float] = field(default_factory=list)
    e2e_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    """By how much each token was written later than its seed says: the server's own share of a busy machine."""


class ExactServer:
    """One that runs. `truth` after `stop`."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)

    def truth(self) -> Truth:
        """Of all requests that were answered to their end; those under way when it stopped are left out."""
        return read_log(self._log)


@contextmanager
def running_exact_server(
    folder: Path | None = None, *, seed: int = 1, ttft_ms: float = 50.0, itl_ms: float = 10.0
) -> Iterator[ExactServer]:
    """On a free port of the loopback. Raises RuntimeError without a C compiler."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        program, log = Path(name, "exact_server"), Path(name, "log")
        cc = compiler()
        if cc is None:
            raise RuntimeError("no C compiler (cc, gcc, clang)")
        subprocess.run([cc, "-O2", "-o", str(program), str(SOURCE), "-lm"], check=True)
        process = subprocess.Popen(
            [str(program), "0", str(seed), str(ttft_ms), str(itl_ms), str(log)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().split()[-1])
            yield ExactServer(process, port, log)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def read_log(log: Path) -> Truth:
    times_ns: dict[int, list[int]] = defaultdict(list)
    truth = Truth()
    for request, kind, due_ns, done_ns in _RECORD.iter_unpack(log.read_bytes()):
        times_ns[request].append(done_ns)
        if kind:
            truth.late_ms.append((done_ns - due_ns) / 1e6)
    for read_ns, first_ns, *others_ns in times_ns.values():
        truth.ttft_ms.append((first_ns - read_ns) / 1e6)
        truth.e2e_ms.append(((others_ns or [first_ns])[-1] - read_ns) / 1e6)
        before_ns = first_ns
        for at_ns in others_ns:
            truth.itl_ms.append((at_ns - before_ns) / 1e6)
            before_ns = at_ns
    return truth
