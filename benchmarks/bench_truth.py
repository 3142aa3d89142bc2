"""How near `inferry bench` comes to the truth: a server of seeded timing writes down when it sent each token.

    python -m benchmarks.bench_truth                       # 500 requests/s of 100 tokens, 20 s
    python -m benchmarks.bench_truth --rate 200 --seconds 10 --processes 1

Both run on this machine and read one clock. The goal: median and 99th percentile of time to the first token, of gaps
between tokens, and from end to end, within 2 % or 1 ms of the server's own. Exit code 1: not reached.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise

import uvloop

from benchmarks.exact_server import Truth, running_exact_server
from benchmarks.gateway.machine import describe
from inferry.bench.plan import Lengths, Poisson, RunPlan, Synthetic, Target
from inferry.bench.records import RunRecord, Verdict
from inferry.bench.runner import run
from inferry.bench.split import processes_for
from inferry.bench.statistics import Sample

SHARES = (0.5, 0.99)
NEAR_MS, NEAR_SHARE = 1.0, 0.02


def main() -> int:
    wanted = _parser().parse_args()
    for name, value in describe().items():
        print(f"{name}: {value}")
    arrivals = Poisson(rate=wanted.rate)
    processes = wanted.processes or processes_for(arrivals)
    with running_exact_server(seed=wanted.seed, ttft_ms=wanted.ttft_ms, itl_ms=wanted.itl_ms) as server:
        plan = RunPlan(
            target=Target(base_url=server.base_url, model="exact"),
            arrivals=arrivals,
            workload=Synthetic(
                input_tokens=Lengths(mean=wanted.input_tokens),
                output_tokens=Lengths(mean=wanted.output_tokens),
            ),
            duration_s=wanted.seconds,
            seed=wanted.seed,
            processes=processes,
        )
        record = uvloop.run(run(plan))
        server.stop()
        truth = server.truth()
    _print_run(record, truth, processes)
    near = [_compare(name, ours, theirs) for name, ours, theirs in pairs(record, truth)]
    return int(not all(near))


def pairs(record: RunRecord, truth: Truth) -> list[tuple[str, Sample, Sample]]:
    """Name, measured, true; in ms."""
    good = [request for request in record.requests if request.verdict is Verdict.OK]
    ttft, itl, e2e = [], [], []
    for request in good:
        sent_s, chunk_s = request.sent_s, request.chunk_s
        assert sent_s is not None
        ttft.append((chunk_s[0] - sent_s) * 1000)
        e2e.append((chunk_s[-1] - sent_s) * 1000)
        itl += [(at_s - before_s) * 1000 for before_s, at_s in pairwise(chunk_s)]
    return [
        ("ttft", Sample(ttft), Sample(truth.ttft_ms)),
        ("itl", Sample(itl), Sample(truth.itl_ms)),
        ("e2e", Sample(e2e), Sample(truth.e2e_ms)),
    ]


def _compare(name: str, ours: Sample, theirs: Sample) -> bool:
    near = True
    for share in SHARES:
        measured, true = ours.percentile(share) or 0.0, theirs.percentile(share) or 0.0
        off = measured - true
        good = abs(off) <= max(NEAR_MS, NEAR_SHARE * true)
        near = near and good
        print(
            f"{name:5} p{share * 100:<3g} measured {measured:9.3f} ms, true {true:9.3f} ms: "
            f"{off:+7.3f} ms, {off / true:+7.2%}{'' if good else '  TOO FAR'}"
        )
    return near


def _print_run(record: RunRecord, truth: Truth, processes: int) -> None:
    good = sum(request.verdict is Verdict.OK for request in record.requests)
    tokens = sum(request.output_tokens for request in record.requests)
    late = Sample(truth.late_ms)
    print(
        f"{len(record.requests)} requests sent, {good} good, {len(truth.ttft_ms)} seen by the server; "
        f"{tokens / record.duration_s:.0f} tokens/s over {record.duration_s:.1f} s; {processes} processes"
    )
    print(
        f"server later than its seed: p50 {late.percentile(0.5):.3f} ms, p99 {late.percentile(0.99):.3f} ms"
    )
    for audit in record.audits:
        print(
            f"process {audit.process}: {audit.cpu_s / audit.wall_s:.0%} of a core; loop lag p50 {audit.lag_ms_p50:.3f}, "
            f"p99 {audit.lag_ms_p99:.3f} ms; slip p50 {audit.slip_ms_p50:.3f}, p99 {audit.slip_ms_p99:.3f} ms"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_truth", description=__doc__)
    add = parser.add_argument
    add("--rate", type=float, default=500.0, help="requests per second (default: %(default)s)")
    add("--seconds", type=float, default=20.0, help="default: %(default)s")
    add("--processes", type=int, help="of the client; default: as the bench chooses")
    add("--input-tokens", type=float, default=50.0)
    add("--output-tokens", type=float, default=100.0)
    add("--ttft-ms", type=float, default=50.0, help="mean of the server's (default: %(default)s)")
    add("--itl-ms", type=float, default=10.0, help="mean of the server's (default: %(default)s)")
    add("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
