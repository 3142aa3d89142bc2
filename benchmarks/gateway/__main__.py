"""Inferry beside nginx, two Rust routers and LiteLLM, on one load, in one run.

    python -m benchmarks.gateway [--only inferry,nginx] [--rounds 8] [--quick] [--json FILE] [--markdown]
    python -m benchmarks.gateway --workers 2       requests/s of two gateway workers against one
    python -m benchmarks.gateway --soak            memory over 200,000 requests and 2,000 concurrent streams

How to read the figures: docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.gateway.contenders import (
    NotStarted,
    Plan,
    Start,
    end_in_order,
    run,
    start_litellm,
    start_nginx,
    start_sglang_router,
    start_smg,
    start_vllm_router,
)
from benchmarks.gateway.cores import Cores, share_out
from benchmarks.gateway.figures import summarize
from benchmarks.gateway.inferry import start_inferry
from benchmarks.gateway.installs import NotInstalled
from benchmarks.gateway.machine import describe
from benchmarks.gateway.measure import QUICK, SLOW, Bench, Lane, Sizes, open_lane
from benchmarks.gateway.processes import memory
from benchmarks.gateway.report import Report, Row
from benchmarks.gateway.scaling import measure_scaling
from benchmarks.gateway.soak import SoakSizes, probed, soak
from benchmarks.gateway.tools import Tools, build_tools, run_upstream

CONTENDERS: dict[str, Start] = {
    "inferry": start_inferry,
    "nginx": start_nginx,
    "sglang-router": start_sglang_router,
    "vllm-router": start_vllm_router,
    "smg": start_smg,
    "litellm": start_litellm,
}

QUIET_BUSY = 0.85
"""Share of its core that a saturated proxy has on a quiet machine, at least."""


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def parse(words: list[str] | None) -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferry-benchmarks"
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, with commas between")
    parser.add_argument(
        "--rounds", type=int, default=8, help="that count; one more before them is thrown away"
    )
    parser.add_argument("--quick", action="store_true", help="smaller phases: to try it out, not to quote")
    parser.add_argument("--cache", type=Path, default=cache, help="where contenders are installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--workers", type=int, metavar="N", help="compare N gateway workers with one instead")
    parser.add_argument("--soak", action="store_true", help="watch Inferry's memory instead")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(CONTENDERS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. There are: {', '.join(CONTENDERS)}")
    if options.rounds < 1 or (options.workers is not None and options.workers < 2):
        parser.error("--rounds must be at least 1, and --workers at least 2")
    return options


def sizes_for(name: str, quick: bool) -> Sizes:
    if name == "litellm":
        return replace(SLOW, requests=100, long_tokens=60, latency_s=0.5) if quick else SLOW
    return QUICK if quick else Sizes()


@contextlib.contextmanager
def open_lanes(names: list[str], plan: Plan, quick: bool, report: Report) -> Iterator[dict[str, Lane]]:
    """All contenders that start, warmed up; why the others don't goes into the report."""
    lanes: dict[str, Lane] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            say(f"starting {name}")
            try:
                running = stack.enter_context(
                    run(name, CONTENDERS[name], replace(plan, folder=plan.folder / name))
                )
            except (NotStarted, NotInstalled) as error:
                report.left_out[name] = str(error)
                continue
            lanes[name] = open_lane(running, sizes_for(name, quick))
        yield lanes


def compare(options: argparse.Namespace, tools: Tools, folder: Path, report: Report) -> None:
    cores = share_out()
    if not cores.apart:
        report.remarks.append("Too few cores: the proxies share theirs with the upstream and the client.")
    with run_upstream(tools, cores) as upstream:
        bench = Bench(tools, cores, upstream)
        plan = Plan(upstream.ports, options.cache, folder, cores)
        with open_lanes(options.only, plan, options.quick, report) as lanes:
            take_turns(bench, lanes, options.rounds)
            for name, lane in lanes.items():
                if lane.samples:
                    report.rows.append(row(lane))
                if lane.failures:
                    report.left_out[name] = f"in {len(lane.failures)} phases: {lane.failures[0]}"
    report.rows = [row for row in report.rows if row.name not in report.left_out]
    report.remarks += [remark] if (remark := disturbed(report.rows)) else []


def take_turns(bench: Bench, lanes: dict[str, Lane], rounds: int) -> None:
    for name, lane in lanes.items():
        say(f"warming up {name}")
        bench.warm_up(lane)
    order = list(lanes)
    for number in range(rounds):
        for name in order:
            say(f"round {number + 1} of {rounds}: {name}")
            bench.round(lanes[name])
        order.append(order.pop(0))  # nobody always comes after the same one


def disturbed(rows: list[Row]) -> str | None:
    """A warning if something else used the proxies' core: a saturated Inferry would have filled it."""
    for each in rows:
        if each.name == "inferry" and each.figures.median.busy < QUIET_BUSY:
            return (
                f"Other programs ran on the proxies' core: while saturated, Inferry had {each.figures.median.busy:.0%} "
                "of it. Latencies and requests/s say little, and the costs are too high, for all."
            )
    return None


def row(lane: Lane) -> Row:
    running = lane.running
    return Row(
        running.name, running.version, summarize(lane.samples), lane.before, memory(lane.serving),
        lane.before_control, memory(lane.control), len(lane.serving), running.notes,
    )  # fmt: skip


def soak_inferry(options: argparse.Namespace, tools: Tools, cores: Cores, folder: Path) -> bool:
    sizes = SoakSizes(requests=20_000, streams=200, stream_tokens=20) if options.quick else SoakSizes()
    result = folder / "in-use"
    with (
        run_upstream(tools, cores) as upstream,
        probed(result),
        run(
            "inferry", start_inferry, Plan(upstream.ports, options.cache, folder / "inferry", cores)
        ) as running,
    ):
        found = soak(Bench(tools, cores, upstream), running, sizes, result)
        print("\n".join([", ".join(running.notes), *found.lines()]))
    if options.json:
        options.json.write_text(json.dumps({**asdict(found), "flat": found.flat}, indent=2) + "\n")
    return found.flat


def main(words: list[str] | None = None) -> int:
    """The exit status: 0 once it has run, whatever it found; 1 if Inferry itself could not be measured."""
    options = parse(words)
    options.cache = options.cache.resolve()
    tools = build_tools(options.cache)
    about = {
        **describe(),
        "upstream and client": tools.language,
        "command": shlex.join(
            ["python", "-m", "benchmarks.gateway", *(sys.argv[1:] if words is None else words)]
        ),
    }
    with tempfile.TemporaryDirectory(prefix="inferry-bench-") as name:
        folder = Path(name)
        if options.soak:
            return 0 if soak_inferry(options, tools, share_out(), folder) else 1
        if options.workers is not None:
            requests = 5000 if options.quick else 40000
            found = measure_scaling(tools, options.cache, folder, options.workers, options.rounds, requests)
            print("\n".join(found.lines()))
            return 0
        report = Report(about)
        compare(options, tools, folder, report)
    print(report.as_markdown() if options.markdown else report.as_text(), end="")
    if options.json:
        options.json.write_text(report.as_json())
    return 1 if "inferry" in report.left_out else 0


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
