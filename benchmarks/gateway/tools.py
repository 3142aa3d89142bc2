"""The upstream and the client: C programs, compiled when first needed; in Python where there is no compiler."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.gateway.cores import Cores

HERE = Path(__file__).parent
LOAD_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Tools:
    """Command lines of both programs, and in which language they are."""

    upstream: list[str]
    load: list[str]
    language: str


def compiler() -> str | None:
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build_tools(cache: Path) -> Tools:
    """Both programs, compiled into `cache` unless that has been done."""
    cc = compiler()
    if cc is None or sys.platform != "linux":
        python = [sys.executable, str(HERE / "fallback.py")]
        return Tools([*python, "upstream"], [*python, "load"], "Python (no C compiler for Linux here)")
    commands = []
    for name in ("upstream", "load"):
        source = HERE / f"{name}.c"
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
        program = cache / f"{name}-{digest}"
        if not program.exists():
            cache.mkdir(parents=True, exist_ok=True)
            fresh = program.with_suffix(f".{os.getpid()}")
            subprocess.run([cc, "-O2", "-o", str(fresh), str(source)], check=True)
            fresh.rename(program)
        commands.append([str(program)])
    version = subprocess.run([cc, "--version"], capture_output=True, text=True, check=True).stdout
    return Tools(commands[0], commands[1], f"C ({version.splitlines()[0]})")


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running upstream: two endpoints."""

    ports: tuple[int, int]
    pid: int

    def set_interval_us(self, interval_us: int) -> None:
        """Time between two events of a stream, for streams that begin from now on."""
        self._ask(f"/bench/interval/{interval_us}")

    def requests(self) -> tuple[int, int]:
        """Chat requests so far, per endpoint."""
        first, second = json.loads(self._ask("/bench/counts"))["requests"]
        return first, second

    def _ask(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self.ports[0]}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body


@contextlib.contextmanager
def run_upstream(tools: Tools, cores: Cores) -> Iterator[Upstream]:
    """The upstream, on the cores that are not the proxies'."""
    with cores.others():
        process = subprocess.Popen(tools.upstream, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        first, second = process.stdout.readline().split()
        yield Upstream((int(first), int(second)), process.pid)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def chat_request(headers: dict[str, str], stream_tokens: int | None = None) -> bytes:
    """One request as it goes over the wire; `stream_tokens`: a stream of so many."""
    body: dict[str, Any] = {"model": "bench", "messages": [{"role": "user", "content": "hello " * 50}]}
    if stream_tokens is not None:
        body |= {"stream": True, "max_tokens": stream_tokens}
    text = json.dumps(body, separators=(",", ":")).encode()
    lines = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "content-length": str(len(text)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + head.encode() + b"\r\n" + text


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one run of the client saw. Latencies are of answers that were whole."""

    requests: int
    failed: int
    first_failure: str
    reconnects: int
    tokens: int
    wall_s: float
    cpu_s: float
    p50_us: float
    p99_us: float
    max_us: float
    first_p50_us: float
    first_p99_us: float


@dataclass(frozen=True, slots=True)
class Load:
    """One run of the client. `rate_per_s` None: each connection sends when it has its answer."""

    connections: int
    requests: int
    stream_tokens: int | None = None
    rate_per_s: float | None = None


def start_load(
    tools: Tools, cores: Cores, port: int, headers: dict[str, str], load: Load
) -> subprocess.Popen[bytes]:
    """The client, running; `finish_load` waits for what it saw."""
    words = [
        str(port), str(load.connections), str(load.requests), str(load.stream_tokens or 1),
        "0" if load.stream_tokens is None else "1", f"{load.rate_per_s or 0:.3f}",
    ]  # fmt: skip
    with cores.others():
        process = subprocess.Popen([*tools.load, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(chat_request(headers, load.stream_tokens))
    process.stdin.close()
    process.stdin = None  # or communicate() would flush it again
    atexit.register(process.kill)  # nobody may come to wait for it
    return process


def finish_load(process: subprocess.Popen[bytes]) -> LoadResult:
    try:
        out, _ = process.communicate(timeout=LOAD_LIMIT_S)
    finally:
        process.kill()
        process.wait()
        atexit.unregister(process.kill)
    if process.returncode != 0:
        raise RuntimeError(f"the client ended with {process.returncode}")
    return LoadResult(**json.loads(out))


def run_load(tools: Tools, cores: Cores, port: int, headers: dict[str, str], load: Load) -> LoadResult:
    """One run of the client, to its end."""
    return finish_load(start_load(tools, cores, port, headers, load))
