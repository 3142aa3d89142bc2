"""Routing quality: prefix-cache hits, TTFT and balance, on a published trace before simulated engines.

    python -m benchmarks.routing_quality --traces FOLDER [--trace conversation] [--only simulation|http]

Two parts. `simulation`: the whole trace at several loads in the discrete-event simulator, all of Inferry's policies.
`http`: the first requests of the trace over HTTP at the load that is 80 % of round_robin's saturation, through
Inferry's gateway and through the cache-aware policies of vllm-router and sglang-router, each as it is shipped, in
front of simulated engines that are as many times smaller as `--http-scale` says. All engines are SIMULATED: the
figures compare routers with each other, and say nothing of how fast a model is.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, get_args

from benchmarks.gateway.contenders import NotStarted, free_port, stop, wait_ready
from benchmarks.gateway.installs import PINNED, NotInstalled, environment
from benchmarks.routing_quality_http import Figures, Scale, engines, replay_at
from inferry.core.load_traces import TracedRequest, read_mooncake
from inferry.policy.routing import Balancer, PolicyName
from inferry.simulate.replay import hit_ratio_bound, replay, saturation_speed
from inferry.simulate.timing import EngineTiming

REPLICAS = 8
LOADS = (0.4, 0.8, 1.0)
"""Of the load that saturates round_robin."""
HTTP_LOAD = 0.8
TIMING = EngineTiming()

DEPLOYMENT_FILE = """
gateway: {{listen: "127.0.0.1:{port}", auth: none, workers: 1}}
deployments:
  bench:
    engine: openai
    model: bench
    endpoints: [{endpoints}]
    routing: {{policy: {policy}}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a router is started."""

    urls: Sequence[str]
    folder: Path
    cache: Path
    port: int


Command = Callable[[Place], list[str]]


def inferry(policy: PolicyName) -> Command:
    def command(place: Place) -> list[str]:
        file = place.folder / "inferry.yaml"
        endpoints = ", ".join(f"{url}/v1" for url in place.urls)
        file.write_text(DEPLOYMENT_FILE.format(port=place.port, endpoints=endpoints, policy=policy))
        return [sys.executable, "-m", "inferry", "up", str(file)]

    return command


def _router_words(place: Place) -> list[str]:
    return [
        "--host", "127.0.0.1", "--port", str(place.port), "--worker-urls", *place.urls, "--policy", "cache_aware",
        "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
    ]  # fmt: skip


def vllm_router(place: Place) -> list[str]:
    return [str(environment("vllm-router", place.cache) / "vllm-router"), *_router_words(place)]


def sglang_router(place: Place) -> list[str]:
    python = environment("sglang-router", place.cache) / "python"
    return [str(python), "-m", "sglang_router.launch_router", *_router_words(place)]


ROUTERS: dict[str, Command] = {
    "inferry prefix_aware": inferry("prefix_aware"),
    "inferry least_connections": inferry("least_connections"),
    "inferry round_robin": inferry("round_robin"),
    f"vllm-router {PINNED['vllm-router'].partition('==')[2]} cache_aware": vllm_router,
    f"sglang-router {PINNED['sglang-router'].partition('==')[2]} cache_aware": sglang_router,
}


@contextlib.contextmanager
def running(command: Command, place: Place, log: IO[bytes]) -> Iterator[None]:
    """The router, answering; raises NotStarted, NotInstalled."""
    environ = {"INFERRY_HOME": str(place.folder / "home"), "PATH": "/usr/bin:/bin", "HOME": str(place.folder)}
    process = subprocess.Popen(
        command(place), cwd=place.folder, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_ready(process, place.port, {})
        yield
    finally:
        stop(process)


def over_http(
    name: str, command: Command, trace: Sequence[TracedRequest], speed: float, scale: Scale, cache: Path
) -> Figures:
    """One contender in front of fresh engines."""
    with tempfile.TemporaryDirectory(prefix="routing-quality-") as made:
        folder = Path(made)
        with (
            engines(REPLICAS, scale, TIMING, folder / "engines.log") as ports,
            (folder / "router.log").open("wb") as log,
        ):
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            place = Place(urls, folder, cache, free_port())
            with running(command, place, log):
                return replay_at(place.port, ports, trace, speed, scale, name)


def show_http(trace: Sequence[TracedRequest], scale: Scale, cache: Path, only: Sequence[str]) -> None:
    bound = hit_ratio_bound(trace)
    speed = HTTP_LOAD * saturation_speed(trace, Balancer("round_robin"), replicas=REPLICAS, timing=TIMING)
    rate = len(trace) / trace[-1].at_s * speed * scale.time
    print(
        f"\nOver HTTP: {len(trace)} requests at {rate:.1f}/s, {REPLICAS} simulated engines; one token stands for "
        f"{scale.tokens}, one second for {scale.time:g}; times below are stretched back. Bound of hits: {bound:.4f}.\n"
    )
    print(
        "| router | hit ratio | of the bound | max/mean load | TTFT p50 | p90 | p99 | failed | client late p99 |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, command in ROUTERS.items():
        if only and not any(word in name for word in only):
            continue
        try:
            figures = over_http(name, command, trace, speed, scale, cache)
        except (NotStarted, NotInstalled) as error:
            print(f"| {name} | not measured: {error} |", flush=True)
            continue
        print(
            f"| {name} | {figures.hit_ratio:.4f} | {figures.hit_ratio / bound:.3f} | {figures.imbalance:.3f} | "
            f"{figures.ttft_p50_s:.2f} s | {figures.ttft_p90_s:.2f} s | {figures.ttft_p99_s:.2f} s | "
            f"{figures.failed} | {1000 * figures.late_p99_s:.0f} ms |",
            flush=True,
        )


def show_simulation(trace: Sequence[TracedRequest]) -> None:
    bound = hit_ratio_bound(trace)
    saturation = saturation_speed(trace, Balancer("round_robin"), replicas=REPLICAS, timing=TIMING)
    print(
        f"\nSimulated: {len(trace)} requests, {REPLICAS} replicas with {TIMING.kv_tokens} cached tokens each; "
        f"round_robin saturates at {saturation:.2f} times the trace's speed. Bound of hits: {bound:.4f}.\n"
    )
    print("| load | policy | hit ratio | of the bound | max/mean load | TTFT p50 | p90 | p99 |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for load in LOADS:
        for policy in get_args(PolicyName):
            balancer = Balancer(policy, random.Random(1))
            found = replay(trace, balancer, replicas=REPLICAS, speed=load * saturation, timing=TIMING)
            print(
                f"| {load:.0%} | {policy} | {found.hit_ratio:.4f} | {found.hit_ratio / bound:.3f} | "
                f"{found.imbalance:.3f} | {found.ttft_p50_s:.2f} s | {found.ttft_p90_s:.2f} s | "
                f"{found.ttft_p99_s:.2f} s |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing_quality", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="folder with Mooncake's FAST'25 traces")
    parser.add_argument("--trace", choices=("conversation", "synthetic"), default="conversation")
    parser.add_argument("--only", choices=("simulation", "http"))
    parser.add_argument("--routers", nargs="*", default=[], help="words: contenders over HTTP that have one")
    parser.add_argument("--requests", type=int, default=2000, help="over HTTP (default: %(default)s)")
    parser.add_argument("--http-scale", type=int, default=8, help="tokens that one stands for (default: 8)")
    parser.add_argument(
        "--http-speed", type=float, default=5.0, help="seconds that one stands for (default: 5)"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/inferry-bench", help="environments of the routers"
    )
    wanted = parser.parse_args()
    trace = read_mooncake(wanted.traces / f"mooncake_fast25_{wanted.trace}_trace.jsonl.gz")
    if wanted.only != "http":
        show_simulation(trace)
    if wanted.only != "simulation":
        scale = Scale(wanted.http_scale, wanted.http_speed)
        show_http(trace[: wanted.requests], scale, wanted.cache, wanted.routers)


if __name__ == "__main__":
    main()
