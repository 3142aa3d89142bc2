"""Measures this machine's memory bandwidth and FLOP/s with numpy, and prints them as JSON.

A program of its own (`python -m inferry.cli.machine_speed THREADS MEGABYTES REPEATS`): libraries for products take their
number of threads from the environment, once, when they are loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from inferry.core.clock import SystemClock
from inferry.planner.calibration import Rates, Reading

MATRIX = 1024
"""Columns of a product: 12 MiB in fp32, 2.1 GFLOP; larger ones were not faster."""
FLOPS_PER_PRODUCT = 2 * MATRIX**3


def main(threads: int, megabytes: int, repeats: int) -> Rates:
    return Rates(bandwidth(threads, megabytes, repeats), {"fp32": products(repeats)})


def bandwidth(threads: int, megabytes: int, repeats: int) -> Reading:
    """Bytes per second that all threads read together, each its own part."""
    import numpy as np

    # Random content: pages of zeros may all be one page.
    part = np.random.default_rng(0).random(megabytes * 10**6 // threads // 4, dtype=np.float32)
    parts = [part, *(part.copy() for _ in range(threads - 1))]
    with ThreadPoolExecutor(threads) as pool:
        # numpy lets go of the interpreter's lock: the threads read at the same time.
        seconds = timed(lambda: list(pool.map(lambda each: each.max(), parts)), repeats)
    return reading([part.nbytes * threads / each for each in seconds])


def products(repeats: int) -> Reading:
    """FLOP/s of a square product, by as many threads as the environment says."""
    import numpy as np

    left = np.random.default_rng(1).random((MATRIX, MATRIX), dtype=np.float32)
    return reading([FLOPS_PER_PRODUCT / each for each in timed(lambda: left @ left, repeats)])


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each repetition; the first call, which touches everything, is not counted."""
    clock = SystemClock()
    work()
    seconds = []
    for _ in range(repeats):
        began_s = clock.now_s()
        work()
        seconds.append(clock.now_s() - began_s)
    return seconds


def reading(values: Sequence[float]) -> Reading:
    """Median, and the width of the middle half relative to it."""
    ordered = sorted(values)
    count = len(ordered)
    middle = ordered[count // 2] if count % 2 else (ordered[count // 2 - 1] + ordered[count // 2]) / 2
    return Reading(middle, (ordered[(3 * count) // 4] - ordered[count // 4]) / middle, count)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(main(*map(int, sys.argv[1:4]))))
