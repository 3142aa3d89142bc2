"""What holds up the gateway's event loop: its longest callbacks by CPU time, its waits, and Python's collections.

    python -m benchmarks.loop_stalls [--rate 3000] [--seconds 10] [--streams 1000] [--uvloop] [--json FILE]

Three phases in one run of `inferry up` (keys, limits, journal and metrics on), each with one scrape of /metrics a
second: plain requests at a rate; long streams; both together. The gateway process runs on asyncio's own loop, as
uvloop's callbacks can't be measured one by one; see `benchmarks/stall_probe/sitecustomize.py`. With --uvloop, only
collections are measured, on the loop that serves in earnest. CPU times are right on
a busy machine too, latencies are not, and none is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.request import urlopen

from benchmarks.gateway.contenders import Plan, end_in_order, run
from benchmarks.gateway.cores import Cores, share_out
from benchmarks.gateway.inferry import start_inferry
from benchmarks.gateway.tools import Load, Tools, build_tools, finish_load, run_load, run_upstream, start_load
from benchmarks.stall_probe.sitecustomize import KEEP_LOOP_VARIABLE, RESULT_VARIABLE

PROBE = Path(__file__).parent / "stall_probe"
STREAM_INTERVAL_US = 200_000
SHOWN = 25
CONNECTIONS = 64


def parse(words: list[str] | None) -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferry-benchmarks"
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loop_stalls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=3000, help="plain requests per second")
    parser.add_argument("--seconds", type=float, default=10, help="of each phase")
    parser.add_argument("--streams", type=int, default=1000, help="at once, 5 tokens per second each")
    parser.add_argument("--uvloop", action="store_true", help="collections only, on the loop of earnest")
    parser.add_argument("--cache", type=Path, default=cache, help="where the tools are compiled")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    return parser.parse_args(words)


@contextmanager
def probed(result: Path, keep_loop: bool) -> Iterator[None]:
    """Gateway processes that are started inside write what they found to `result` when they end."""
    path = os.environ.get("PYTHONPATH")
    ours = {
        "PYTHONPATH": os.pathsep.join([str(PROBE), *([path] if path else [])]),
        RESULT_VARIABLE: str(result),
        **({KEEP_LOOP_VARIABLE: "1"} if keep_loop else {}),
    }
    with patch.dict(os.environ, ours):
        yield


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """/metrics, once a second."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1.0):
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
                page.read()

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        yield
    finally:
        over.set()
        scraper.join()


def measure(options: argparse.Namespace, tools: Tools, cores: Cores, folder: Path) -> dict[str, Any]:
    """All phases; what the gateway process found."""
    result = folder / "stalls.json"
    plain = Load(CONNECTIONS, int(options.rate * options.seconds), rate_per_s=options.rate)
    tokens = int(options.seconds * 1e6 / STREAM_INTERVAL_US)
    streams = Load(options.streams, options.streams, stream_tokens=tokens)
    with run_upstream(tools, cores) as upstream, probed(result, options.uvloop):
        upstream.set_interval_us(STREAM_INTERVAL_US)
        plan = Plan(upstream.ports, options.cache, folder / "inferry", cores)
        with run("inferry", start_inferry, plan) as running, scraped(running.port):
            failed = run_load(tools, cores, running.port, running.headers, plain).failed
            failed += run_load(tools, cores, running.port, running.headers, streams).failed
            both = start_load(tools, cores, running.port, running.headers, streams)
            failed += run_load(tools, cores, running.port, running.headers, plain).failed
            failed += finish_load(both).failed
    found: dict[str, Any] = json.loads(result.read_text())
    return {"failed": failed, **found}


def lines(found: dict[str, Any]) -> Iterator[str]:
    rows = sorted(found["callbacks"].items(), key=lambda row: -int(row[1][2]))
    if rows:
        yield from _table(rows)
    for generation in range(3):
        took = [each[1] for each in found["collections"] if each[0] == generation]
        freed = sum(each[2] for each in found["collections"] if each[0] == generation)
        yield (
            f"collections of generation {generation}: {len(took)}, the longest {max(took, default=0) / 1e6:.2f} ms, "
            f"all {sum(took) / 1e6:.1f} ms; freed {freed} objects"
        )
    threads = ", ".join(f"{name}: {cpu_ns / 1e9:.2f} s" for name, cpu_ns in found["threads_ns"].items())
    yield f"CPU of the process' threads: {threads}"
    yield f"answers that were not whole: {found['failed']}"


def _table(rows: list[tuple[str, list[int]]]) -> Iterator[str]:
    yield f"{'count':>9} {'CPU s':>8} {'most ms':>8} {'>0.5 ms':>8} {'waits':>6} {'longest wait ms':>16}  callback"
    for name, (count, cpu_ns, most_ns, long, waits, _, wait_ns) in rows[:SHOWN]:
        yield (
            f"{count:>9} {cpu_ns / 1e9:>8.3f} {most_ns / 1e6:>8.2f} {long:>8} {waits:>6} {wait_ns / 1e6:>16.2f}  {name}"
        )
    total = [sum(row[at] for _, row in rows) for at in (0, 1, 3, 4)]
    yield f"{total[0]:>9} {total[1] / 1e9:>8.3f} {'':>8} {total[2]:>8} {total[3]:>6} {'':>16}  all"


def main(words: list[str] | None = None) -> int:
    options = parse(words)
    options.cache = options.cache.resolve()
    with tempfile.TemporaryDirectory(prefix="inferry-stalls-") as name:
        found = measure(options, build_tools(options.cache), share_out(), Path(name))
    print("\n".join(lines(found)))
    if options.json:
        options.json.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
