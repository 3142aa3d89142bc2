"""What the client adds to each figure by itself, and how much it can send: measured against a server that does nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from inferry.bench.plan import (
    Closed,
    Constant,
    FromFile,
    FromTrace,
    Lengths,
    RunPlan,
    Sessions,
    Synthetic,
    Target,
)
from inferry.bench.records import Calibration, RunRecord, Verdict
from inferry.bench.runner import run
from inferry.bench.split import highest_rate
from inferry.bench.statistics import Sample
from inferry.bench.tokens import Wording
from inferry.core.errors import BenchClientFailed

SECONDS = 2.0
"""Of each of the two measurements."""
RATE_OF_UNKNOWN = 50.0
"""Of closed loops and traces: requests per second at which the overhead is measured."""
USERS_PER_PROCESS = 32
"""Enough to keep a client busy whose server answers at once."""
STARTS_WITHIN_S = 10.0
OUTPUT_TOKENS = 100.0
"""Where the workload's own are known only by reading it."""
INPUT_TOKENS = 100.0


async def calibrate(
    plan: RunPlan, *, wording: Wording | None = None, seconds: float = SECONDS
) -> Calibration:
    """Takes twice `seconds`, and some for starting. Raises BenchClientFailed."""
    async with null_server(plan.processes) as port:
        calm = _shaped(plan, port, seconds)
        by_rate = await run(calm, wording=wording)
        _go_on(by_rate)
        users = Closed(concurrency=USERS_PER_PROCESS * plan.processes)
        at_most = await run(replace(calm, arrivals=users), wording=wording)
        _go_on(at_most)
    good = _good(by_rate)
    if not good or not _good(at_most):
        first = next(iter(by_rate.requests), None)
        why = f": {first.verdict} {first.reason}" if first is not None else ""
        raise BenchClientFailed(f"The calibration's own server gave no good answer{why}")
    overhead = Sample(good)
    lengths = _lengths(plan)[1]
    return Calibration(
        overhead_ms_p50=overhead.percentile(0.5) or 0.0,
        overhead_ms_p99=overhead.percentile(0.99) or 0.0,
        requests_per_s=len(good) / by_rate.duration_s,
        requests_per_s_max=len(_good(at_most)) / at_most.duration_s,
        tokens_per_s_max=sum(request.output_tokens for request in at_most.requests) / at_most.duration_s,
        output_tokens=round(lengths.mean),
        processes=plan.processes,
    )


def _go_on(record: RunRecord) -> None:
    """Ctrl-C means all of it, not only this part."""
    if record.stopped_early:
        raise KeyboardInterrupt


def _good(record: RunRecord) -> list[float]:
    """From sending to the first bytes of the answer, ms."""
    return [
        (request.first_byte_s - request.sent_s) * 1000
        for request in record.requests
        if request.verdict is Verdict.OK and request.first_byte_s is not None and request.sent_s is not None
    ]


def _shaped(plan: RunPlan, port: int, seconds: float) -> RunPlan:
    """The same API, rate and lengths; evenly spaced, against the null server."""
    inputs, outputs = _lengths(plan)
    root = "" if plan.target.api == "tgi" else "/v1"
    return RunPlan(
        target=Target(
            base_url=f"http://127.0.0.1:{port}{root}",
            model=plan.target.model,
            api=plan.target.api,
            stream=plan.target.stream,
        ),
        arrivals=Constant(rate=highest_rate(plan.arrivals) or RATE_OF_UNKNOWN),
        workload=Synthetic(input_tokens=inputs, output_tokens=outputs),
        duration_s=seconds,
        timeout_s=STARTS_WITHIN_S,
        seed=plan.seed,
        processes=plan.processes,
    )


def _lengths(plan: RunPlan) -> tuple[Lengths, Lengths]:
    """Of prompts and answers: their means."""
    match plan.workload:
        case Synthetic(input_tokens=inputs, output_tokens=outputs, prefix_tokens=prefix):
            return Lengths(mean=inputs.mean + prefix), Lengths(mean=outputs.mean)
        case Sessions(first_tokens=inputs, output_tokens=outputs, prefix_tokens=prefix):
            return Lengths(mean=inputs.mean + prefix), Lengths(mean=outputs.mean)
        case FromFile(output_tokens=Lengths(mean=mean)):
            return Lengths(mean=INPUT_TOKENS), Lengths(mean=mean)
        case FromFile() | FromTrace():
            return Lengths(mean=INPUT_TOKENS), Lengths(mean=OUTPUT_TOKENS)


@asynccontextmanager
async def null_server(processes: int) -> AsyncIterator[int]:
    """One that runs, of so many processes; gives its port on the loopback. Raises BenchClientFailed."""
    started: list[asyncio.subprocess.Process] = []
    port = 0
    try:
        for _ in range(processes):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "inferry.bench.null_server", str(port)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            started.append(process)
            port = await _port_of(process)
        yield port
    finally:
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
        for process in started:
            await process.wait()


async def _port_of(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(STARTS_WITHIN_S):
            return int(await process.stdout.readline())
    except (TimeoutError, ValueError):
        raise BenchClientFailed("The calibration's own server did not start") from None
