"""The usual table of scaling rules, on real processes and in simulation: the same decisions at the same moments.

The table: GPU above 80 % for 5 min: 1 more; below 30 % for 10 min: 1 fewer; more than 50 in the queue: 2 more; P95
latency above 2 s: 1 more; errors above 5 %: an alert; at least 2 replicas, at most 10. Every length of time in it is
divided by 62.5: 5 min are 4.8 s, so that none is a whole number of looks, one a second; what would be decided "now or
at the next look" by the milliseconds that a real clock is late would show nothing. What is measured is not scaled:
shares, queue depth and latencies are as they would be. The GPU is the simulated engine's: the share of the last second
in which it computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferry.core.config_file import load_file
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.scaling_settings import Scaling
from inferry.fleet.scaler_event import EventKind
from inferry.simulate.arrivals import Arrival
from inferry.simulate.experiment import run
from inferry.simulate.service import Service
from inferry.simulate.timing_of_simulated import timing_of_simulated

from .inferry_process import Inferry, Up

FILE = """\
deployments:
  chat:
    engine: simulated
    parallel: 1
    ttft_ms: 20
    itl_ms: 20
    start_s: 1
    queue: {waiting_max: 80}
    routing: {policy: least_connections}
    health: {interval_s: 1}
    scaling:
      min: 2
      max: 10
      every_s: 1
      rules:
        - {metric: gpu_use, above: 0.8, for_s: 4.8, add: 1}
        - {metric: gpu_use, below: 0.3, for_s: 9.6, remove: 1}
        - {metric: queue_depth, above: 50, add: 2}
        - {metric: e2e_ms, percentile: 95, above: 2000, over_s: 5, add: 1}
        - {metric: error_rate, above: 0.05, over_s: 6, alert: true}
      up: {cooldown_s: 9.6}
      down: {stabilize_s: 4.8, cooldown_s: 4.8}
"""
EVERY_S = 1.0
PLATEAUS = (
    (4.0, 1.0, 10),
    (10.4, 13.5, 10),
    (60.0, 3.4, 10),
    (3.0, 8.1, 10),
    (1.6, 4.0, 110),
    (1.0, 16.0, 10),
)
"""Requests per second, for so long, each of so many tokens. Of 10 tokens, a replica gives 5 answers a second, one after
the other: 40 % of two replicas, 104 %, far too much for all and the queue, little; then answers that take 2.2 s by
themselves, and little again."""
END_S = sum(length_s for _, length_s, _ in PLATEAUS)
PHASE_S = 0.1
"""The load begins so long after a look, and steps nearly a second before one. A GPU's reading is that of a second, and up
to a second old: what a look sees is then after the step, or before it, whenever engines are asked."""


@dataclass(frozen=True)
class Decided:
    """A change, or the begin of an alert; seconds since the load began."""

    at_s: float
    what: str


def arrivals() -> Iterator[tuple[float, int]]:
    """In even distances on each plateau: when, and how many tokens."""
    begin_s = 0.0
    for per_s, length_s, tokens in PLATEAUS:
        yield from ((begin_s + (index + 0.5) / per_s, tokens) for index in range(round(per_s * length_s)))
        begin_s += length_s


def said(was: int, to: int, rule: str) -> str:
    return f"{was} -> {to} {rule}"


# --- live ---------------------------------------------------------------------------------------------


async def send_all(url: str, begin_s: float) -> list[int]:
    """Every request at its moment, whatever became of those before it; their statuses."""
    loop = asyncio.get_running_loop()
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)

    async def send(client: httpx.AsyncClient, at_s: float, tokens: int) -> int:
        await asyncio.sleep(begin_s + at_s - loop.time())
        answer = await client.post(
            f"{url}/v1/chat/completions", json={**body, "max_tokens": tokens, "min_tokens": tokens}
        )
        if answer.status_code == 200:
            assert answer.json()["usage"]["completion_tokens"] == tokens
        return answer.status_code

    async with httpx.AsyncClient(timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
        sending = [group.create_task(send(client, at_s, tokens)) for at_s, tokens in arrivals()]
    return [each.result() for each in sending]


async def live(up: Up) -> tuple[list[Decided], Sequence[int], float]:
    """What the running fleet decided, how the requests ended, and how long its replicas took to start."""
    url = up.wait_ready()
    loop = asyncio.get_running_loop()
    state = up.control("GET", "/deployments/chat/scaling").json()
    # The clock of the control process is this machine's monotonic one, and so is this loop's.
    begin_s = loop.time() + state["next_look_in_s"] + EVERY_S + PHASE_S
    begin_wall_s = (await asyncio.to_thread(wall_s)) + begin_s - loop.time()
    statuses = await send_all(url, begin_s)
    await asyncio.sleep(max(begin_s + END_S - loop.time(), 0.0))
    events = up.control("GET", "/scaling/history").json()["events"]
    state = up.control("GET", "/deployments/chat/scaling").json()
    return list(decided(events, begin_wall_s)), statuses, state["start_s"]


def wall_s() -> float:
    from inferry.core.clock import SystemClock

    return SystemClock().wall_s()


def decided(events: Sequence[dict[str, Any]], begin_wall_s: float) -> Iterator[Decided]:
    for event in events:
        at_s = event["at"] - begin_wall_s
        if at_s > END_S:
            return
        if event["kind"] == EventKind.CHANGE:
            yield Decided(at_s, said(event["was"], event["to"], event["rule"]))
        elif event["kind"] == EventKind.ALERT:
            yield Decided(at_s, f"alert {event['rule']}")
        else:
            assert event["kind"] == EventKind.ALERT_OVER, event


# --- simulated ----------------------------------------------------------------------------------------


def simulated(file: Path, start_s: float) -> tuple[list[Decided], int]:
    """What the simulator says of the same file and the same arrivals, and how many it refuses. `start_s`: as measured."""
    deployment = load_file(file, {}).config.deployments["chat"]
    assert isinstance(deployment, SimulatedDeployment)
    assert isinstance(deployment.scaling, Scaling)
    timing = timing_of_simulated(
        context_tokens=deployment.context_tokens,
        parallel=deployment.parallel,
        ttft_s=deployment.ttft_ms / 1000,
        itl_s=deployment.itl_ms / 1000,
        start_s=start_s,
    )
    service = Service(
        name="chat",
        timing=timing,
        replicas=deployment.replicas,
        routing=deployment.routing,
        queue=deployment.queue,
        slots=deployment.parallel,
        scaling=deployment.scaling,
    )
    # Looks are at whole seconds there.
    begin_s = 2 * EVERY_S + PHASE_S
    given = [Arrival(begin_s + at_s, 8, tokens) for at_s, tokens in arrivals()]
    result = run([service], given, until_s=begin_s + END_S, interval_s=1).only
    found, alerting = [], False
    for each in result.decisions:
        if each.alerts and not alerting:
            found.append(Decided(each.at_s - begin_s, f"alert {each.alerts[0].partition(':')[0]}"))
        alerting = bool(each.alerts)
        if each.to != each.was:
            found.append(Decided(each.at_s - begin_s, said(each.was, each.to, each.rule)))
    return found, sum(count for codes in result.rejected.values() for count in codes.values())


@pytest.mark.slow
async def test_the_usual_rules_decide_the_same_live_and_simulated(tmp_path: Path) -> None:
    """On a load that rises and falls, a running fleet of simulated engines and its simulation make the same changes by
    the same rules, each within one look of the other; every rule of the table has its say."""
    inferry = Inferry(tmp_path)
    file = inferry.write(FILE)
    with inferry.up() as up:
        was_live, statuses, start_s = await live(up)
    was_simulated, refused = simulated(file, start_s)
    report = [
        f"replicas start within {start_s:.2f} s; refused: {statuses.count(429)} live, {refused} simulated"
    ]
    for one, other in zip_longest(was_live, was_simulated):
        report.append(f"live {one}; simulated {other}")
    told = "\n".join(report)
    assert [each.what for each in was_live] == [each.what for each in was_simulated], told
    apart_s = [abs(one.at_s - other.at_s) for one, other in zip(was_live, was_simulated, strict=True)]
    assert max(apart_s) <= EVERY_S * 1.05, told
    assert all(f"rules[{number}]" in told for number in range(5)), told
    assert set(statuses) == {200, 429}
