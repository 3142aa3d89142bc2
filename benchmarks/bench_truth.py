"""How near `inferry bench` comes to the truth: a server of seeded timing writes down when it sent each token.

    python -m benchmarks.bench_truth                       # 500 requests/s of 100 tokens, 20 s
    python -m benchmarks.bench_truth --rate 200 --seconds 10 --processes 1
    python -m benchmarks.bench_truth --vllm ENV/bin/vllm --guidellm ENV/bin/guidellm --tokenizer FOLDER

All run on this machine, one after the other, each against a server of its own with the same seed; client and server
read one clock. The goal: median and 99th percentile of time to the first token, of gaps between tokens, and from end to
end, within 2 % or 1 ms of the server's own. Exit code 1: ours did not reach it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import pairwise

import uvloop

from benchmarks.bench_truth_others import Figures, Load, guidellm, vllm
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
    reached = _measure("inferry bench", lambda load: ours(load, wanted.processes), wanted)
    for name, tool, program in (
        ("vllm bench serve", vllm, wanted.vllm),
        ("guidellm", guidellm, wanted.guidellm),
    ):
        if program:
            _measure(name, lambda load, tool=tool, program=program: tool(program, load), wanted)  # type: ignore[misc]
    return int(not reached)


def _measure(name: str, tool: Callable[[Load], Figures], wanted: argparse.Namespace) -> bool:
    """Have one tool measure a fresh server, and print how near it came."""
    print(f"\n{name}")
    with running_exact_server(seed=wanted.seed, ttft_ms=wanted.ttft_ms, itl_ms=wanted.itl_ms) as server:
        load = Load(
            base_url=server.base_url,
            rate=wanted.rate,
            seconds=wanted.seconds,
            input_tokens=wanted.input_tokens,
            output_tokens=wanted.output_tokens,
            tokenizer=wanted.tokenizer or "",
            seed=wanted.seed,
        )
        try:
            figures = tool(load)
        except RuntimeError as error:
            print(f"no result: {error}")
            return False
        server.stop()
        return compare(figures, server.truth())


def ours(load: Load, processes: int | None) -> Figures:
    """`inferry bench`'s client, with its audit printed."""
    arrivals = Poisson(rate=load.rate)
    plan = RunPlan(
        target=Target(base_url=load.base_url, model="exact"),
        arrivals=arrivals,
        workload=Synthetic(
            input_tokens=Lengths(mean=load.input_tokens), output_tokens=Lengths(mean=load.output_tokens)
        ),
        duration_s=load.seconds,
        seed=load.seed,
        processes=processes or processes_for(arrivals),
    )
    record = uvloop.run(run(plan))
    good = sum(request.verdict is Verdict.OK for request in record.requests)
    print(f"{len(record.requests)} requests sent, {good} good; {plan.processes} processes")
    for audit in record.audits:
        print(
            f"process {audit.process}: {audit.cpu_s / audit.wall_s:.0%} of a core; loop lag p50 {audit.lag_ms_p50:.3f}, "
            f"p99 {audit.lag_ms_p99:.3f} ms; slip p50 {audit.slip_ms_p50:.3f}, p99 {audit.slip_ms_p99:.3f} ms"
        )
    return {
        (name, share): sample.percentile(share) or 0.0
        for name, sample in measured(record).items()
        for share in SHARES
    }


def measured(record: RunRecord) -> dict[str, Sample]:
    """What was seen of good requests, from when each was sent; in ms."""
    ttft, itl, e2e = list[float](), list[float](), list[float]()
    for request in record.requests:
        sent_s, chunk_s = request.sent_s, request.chunk_s
        if request.verdict is not Verdict.OK or sent_s is None:
            continue
        ttft.append((chunk_s[0] - sent_s) * 1000)
        e2e.append((chunk_s[-1] - sent_s) * 1000)
        itl += [(at_s - before_s) * 1000 for before_s, at_s in pairwise(chunk_s)]
    return {"ttft": Sample(ttft), "itl": Sample(itl), "e2e": Sample(e2e)}


def true(truth: Truth) -> dict[str, Sample]:
    return {"ttft": Sample(truth.ttft_ms), "itl": Sample(truth.itl_ms), "e2e": Sample(truth.e2e_ms)}


def compare(figures: Figures, truth: Truth) -> bool:
    """Print them side by side. True: the goal is reached."""
    late = Sample(truth.late_ms)
    print(
        f"server: {len(truth.ttft_ms)} requests, {len(truth.late_ms)} tokens; later than its seed by "
        f"p50 {late.percentile(0.5):.3f} ms, p99 {late.percentile(0.99):.3f} ms"
    )
    samples, reached = true(truth), True
    for (name, share), found in figures.items():
        fact = samples[name].percentile(share) or 0.0
        off = found - fact
        near = abs(off) <= max(NEAR_MS, NEAR_SHARE * fact)
        reached = reached and near
        print(
            f"{name:5} p{share * 100:<3g} measured {found:9.3f} ms, true {fact:9.3f} ms: "
            f"{off:+9.3f} ms, {off / fact:+8.2%}{'' if near else '  TOO FAR'}"
        )
    return reached


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rate", type=float, default=500.0, help="requests per second (default: %(default)s)")
    add("--seconds", type=float, default=20.0, help="default: %(default)s")
    add("--processes", type=int, help="of our client; default: as the bench chooses")
    add("--input-tokens", type=int, default=50)
    add("--output-tokens", type=int, default=100)
    add("--ttft-ms", type=float, default=50.0, help="mean of the server's (default: %(default)s)")
    add("--itl-ms", type=float, default=10.0, help="mean of the server's (default: %(default)s)")
    add("--seed", type=int, default=1)
    add("--vllm", help="the program vllm")
    add("--guidellm", help="the program guidellm")
    add("--tokenizer", help="a folder with a tokenizer, that the other tools make prompts with")
    return parser


if __name__ == "__main__":
    sys.exit(main())
