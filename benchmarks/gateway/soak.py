"""Whether the gateway's memory stays flat: many requests in batches, then many streams at once.

Resident memory is what the process once needed, less what its allocators could give back: after many streams at once it
follows how many really were at once. Whether something has stayed is judged by what is in use.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from benchmarks.gateway.contenders import Running
from benchmarks.gateway.figures import slope
from benchmarks.gateway.measure import Bench
from benchmarks.gateway.processes import memory
from benchmarks.gateway.tools import Load, finish_load, run_load, start_load
from benchmarks.memory_probe.sitecustomize import RESULT_VARIABLE

FLAT_BYTES_PER_REQUEST = 8.0
"""Below this, 200,000 requests leave less than 1.6 MB, and nothing of a request can have stayed: one request's
body alone has more than 300 bytes."""
FLAT_BYTES_PER_STREAM = 256.0
"""Below this, nothing of a stream stayed: its connection and exchange take kilobytes."""


ANSWER_LIMIT_S = 60.0
PROBE = Path(__file__).parent.parent / "memory_probe"


@contextmanager
def probed(result: Path) -> Iterator[None]:
    """Gateway processes that are started inside can be asked what they use."""
    path = os.environ.get("PYTHONPATH")
    ours = {
        "PYTHONPATH": os.pathsep.join([str(PROBE), *([path] if path else [])]),
        RESULT_VARIABLE: str(result),
    }
    with patch.dict(os.environ, ours):
        yield


def in_use(pids: Sequence[int], result: Path) -> int:
    """Bytes that objects of the processes have, as their allocators count."""
    total = 0
    for pid in pids:
        answer = Path(f"{result}.{pid}")
        answer.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while not answer.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"gateway process {pid} did not say how much memory it uses")
            time.sleep(0.05)
        total += int(answer.read_text())
    return total


@dataclass(frozen=True, slots=True)
class SoakSizes:
    requests: int = 200_000
    batches: int = 20
    streams: int = 2000
    stream_tokens: int = 100
    interval_us: int = 200_000
    """2,000 streams with 5 tokens/s each: 10,000 tokens/s, well below what one worker can do."""
    stream_rounds: int = 5


@dataclass(frozen=True, slots=True)
class Soaked:
    """Bytes of the serving processes, resident if nothing else is said: after each batch, and after each round of
    streams."""

    start_bytes: int
    after_batch_bytes: list[int]
    peak_in_streams_bytes: list[int]
    after_streams_bytes: list[int]
    in_use_bytes: list[int]
    """After each round of streams."""
    requests: int
    streams: int
    failed: int

    @property
    def bytes_per_request(self) -> float:
        """Slope over the second half of the batches: the first fills pools and caches."""
        half = self.after_batch_bytes[len(self.after_batch_bytes) // 2 :]
        batch = self.requests / len(self.after_batch_bytes)
        return slope([at * batch for at in range(len(half))], half)

    @property
    def bytes_per_stream(self) -> float:
        """What stays in use, from the first round of streams to the last, per stream; the first fills pools."""
        rounds = self.in_use_bytes
        return slope([at * self.streams for at in range(len(rounds))], rounds)

    @property
    def flat(self) -> bool:
        return (
            self.failed == 0
            and self.bytes_per_request <= FLAT_BYTES_PER_REQUEST
            and self.bytes_per_stream <= FLAT_BYTES_PER_STREAM
        )

    def lines(self) -> Iterator[str]:
        yield f"start: {_mb(self.start_bytes)}"
        shown = ", ".join(_mb(size) for size in self.after_batch_bytes)
        yield f"after each {self.requests // len(self.after_batch_bytes):,} requests: {shown}"
        yield f"slope over the second half: {self.bytes_per_request:.2f} bytes per request"
        for peak, after, used in zip(
            self.peak_in_streams_bytes, self.after_streams_bytes, self.in_use_bytes, strict=True
        ):
            yield f"{self.streams:,} streams at once: {_mb(peak)} at most, {_mb(after)} after, {_mb(used)} of it in use"
        yield f"slope of what is in use, from the first round of streams on: {self.bytes_per_stream:.1f} bytes per stream"
        yield f"answers that were not whole: {self.failed}"
        limits = (
            f"at most {FLAT_BYTES_PER_REQUEST:g} bytes per request and {FLAT_BYTES_PER_STREAM:g} per stream"
        )
        yield f"memory is {'flat' if self.flat else 'NOT FLAT'} ({limits})"


def soak(bench: Bench, running: Running, sizes: SoakSizes, result: Path) -> Soaked:
    """Run it all; minutes. `running` was started inside `probed(result)`."""
    serving = running.serving_pids()
    start = memory(serving).rss_bytes
    batches, peaks, rests, used, failed = [], [], [], [], 0
    for number in range(sizes.batches):
        load = Load(64, sizes.requests // sizes.batches)
        failed += run_load(bench.tools, bench.cores, running.port, running.headers, load).failed
        batches.append(memory(serving).rss_bytes)
        sys.stderr.write(f"batch {number + 1} of {sizes.batches}: {_mb(batches[-1])}\n")
    bench.upstream.set_interval_us(sizes.interval_us)
    for number in range(sizes.stream_rounds):
        load = Load(sizes.streams, sizes.streams, sizes.stream_tokens)
        client = start_load(bench.tools, bench.cores, running.port, running.headers, load)
        peak = 0
        while client.poll() is None:
            peak = max(peak, memory(serving).rss_bytes)
            time.sleep(0.2)
        failed += finish_load(client).failed
        time.sleep(1.0)
        peaks.append(peak)
        rests.append(memory(serving).rss_bytes)
        used.append(in_use(serving, result))
        sys.stderr.write(
            f"streams {number + 1} of {sizes.stream_rounds}: {_mb(peak)}, then {_mb(rests[-1])}, {_mb(used[-1])} in use\n"
        )
    return Soaked(start, batches, peaks, rests, used, sizes.requests, sizes.streams, failed)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
