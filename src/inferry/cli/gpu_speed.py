"""Measures each GPU's memory bandwidth and FLOP/s with torch, and prints them as JSON: {name: {rate: [value, ...]}}.

Run as a file by any Python that has torch, the one of an engine's environment too: it imports nothing of Inferry's.
Times are CUDA's own, between events on the GPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

REPEATS = 20
COPY_BYTES = 1 << 30
MATRIX = 8192


def main(torch: Any) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for index in range(torch.cuda.device_count()):
        with torch.cuda.device(index):
            name = torch.cuda.get_device_name(index)
            if name not in found:
                found[name] = rates(torch)
    return found


def rates(torch: Any) -> dict[str, list[float]]:
    measured = {"bandwidth": copies(torch)}
    for name, kind in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        measured[name] = products(torch, kind)
    return measured


def copies(torch: Any) -> list[float]:
    """Bytes per second; a copy reads and writes each byte."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return [2 * COPY_BYTES / each for each in seconds(torch, lambda: target.copy_(source))]


def products(torch: Any, kind: Any) -> list[float]:
    """FLOP/s of a square product."""
    left = torch.randn(MATRIX, MATRIX, device="cuda").to(kind)
    return [2 * MATRIX**3 / each for each in seconds(torch, lambda: left @ left)]


def seconds(torch: Any, work: Callable[[], Any]) -> list[float]:
    for _ in range(3):
        work()
    spent = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        spent.append(begin.elapsed_time(end) / 1e3)
    return spent


if __name__ == "__main__":
    import torch  # type: ignore[import-not-found,unused-ignore]

    json.dump(main(torch), sys.stdout)
