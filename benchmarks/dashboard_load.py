"""What the dashboard costs with many replicas: the control process, and the browser.

    python -m benchmarks.dashboard_load [--replicas 1000] [--rate 5000] [--updates 20]

The figures are made up, the code that carries them is the product's: status board, traffic history, live feed, server,
pages in headless Chromium. Every replica changes in every update, which is the worst case. Needs the `dev` extra and
Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import statistics
import threading
import time
from typing import Any

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import sync_playwright

from inferry.admin.auth import Gate
from inferry.admin.dashboard.api import make_dashboard_router
from inferry.admin.dashboard.events import FleetEvents
from inferry.admin.dashboard.live_feed import LiveFeed, Parts
from inferry.admin.dashboard.pages import make_pages_router
from inferry.admin.dashboard.traffic import TrafficHistory
from inferry.admin.status import StatusBoard
from inferry.admin.visitors import TokenDoor
from inferry.cli.dashboard_side import live_parts
from inferry.core.clock import SystemClock
from inferry.core.home import inferry_home
from inferry.core.outcome import Ending
from inferry.core.replica import Endpoint, ReplicaLoad, ReplicaState, ReplicaView
from inferry.core.routing_settings import Routing
from inferry.gateway.demand import Demand
from inferry.gateway.served import ServedSpec
from inferry.gateway.server import EmbeddedServer
from inferry.gateway.snapshot import Snapshot
from inferry.ledger.usage import UsageAnswer, UsageQuestion

DEPLOYMENTS = 10
SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class MadeUp:
    """A fleet whose every number changes each second."""

    def __init__(self, replicas: int, rate: int) -> None:
        self._rate = rate
        self._second = 0
        self._clock = SystemClock()
        self._names = [f"model-{number}" for number in range(DEPLOYMENTS)]
        self._specs = [
            ServedSpec(name, (), "vllm", True, name, frozenset(), False, Routing()) for name in self._names
        ]
        self._views = [
            ReplicaView(
                id=f"{self._names[number % DEPLOYMENTS]}-{number // DEPLOYMENTS}",
                deployment=self._names[number % DEPLOYMENTS],
                engine="vllm",
                simulated=True,
                state=ReplicaState.READY,
                endpoint=Endpoint("10.0.0.1", 8000 + number),
                since_wall_s=self._clock.wall_s(),
                restarts=0,
                pid=number,
            )
            for number in range(replicas)
        ]
        self._board = StatusBoard(
            self._clock,
            about={
                "version": "0",
                "pid": 1,
                "file": "made-up.yaml",
                "url": "http://127.0.0.1:1",
                "started": 0.0,
            },
        )
        self.traffic = TrafficHistory()
        self.cpu_ms: list[float] = []
        self.note_ms: list[float] = []

    async def look(self) -> Parts:
        """As cli/dashboard_side.py does, with the CPU time that it takes."""
        self._second += 1
        snapshot = self._snapshot()
        began_s = time.thread_time()
        self._board.sample(self._views, snapshot)
        self.traffic.note(self._clock.wall_s(), snapshot)
        self.note_ms.append((time.thread_time() - began_s) * 1000)
        began_s = time.thread_time()
        status = self._board.status(
            self._views,
            snapshot,
            self._specs,
            dict.fromkeys(self._names, "made-up"),
            settled=True,
            generation=1,
        )
        parts = live_parts(status.model_dump(mode="json"), self._readings(), self.traffic)
        self.cpu_ms.append((time.thread_time() - began_s) * 1000)
        return parts

    def _snapshot(self) -> Snapshot:
        made, second = Snapshot(), self._second
        each = self._rate * second // len(self._views)
        for number, view in enumerate(self._views):
            made.sent[view.id] = each + number % 7
            made.in_flight[view.id] = (number + second) % 9
            made.metrics.replica_tokens[view.id] = each * 200
        for name in self._names:
            made.metrics.requests[name, "chat_completions", Ending.COMPLETED, 200] = (
                self._rate * second // DEPLOYMENTS
            )
            made.metrics.tokens[name, "completion"] = self._rate * second * 20
            demand = made.demand[name] = Demand()
            for number in range(60):
                demand.ttft.counts[number] = second * (number + 1)
        return made

    def _readings(self) -> list[tuple[ReplicaView, ReplicaLoad | None]]:
        use = self._second % 10 / 10
        return [(view, ReplicaLoad(view.id, 0.0, kv_cache_use=use, gpu_use=1 - use)) for view in self._views]


def serve(fleet: MadeUp, ready: threading.Event, port: list[int]) -> None:
    """The pages and the feed, behind their gate."""

    async def usage(question: UsageQuestion) -> UsageAnswer:
        raise NotImplementedError(question)

    app = FastAPI()
    app.include_router(make_pages_router())
    app.include_router(
        make_dashboard_router(
            feed=LiveFeed(fleet.look),
            traffic=fleet.traffic,
            events=FleetEvents(),
            log_folder=inferry_home({}),
            usage=usage,
            currency=lambda: "USD",
        )
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port.append(listener.getsockname()[1])
    server = EmbeddedServer(
        uvicorn.Config(
            Gate(app, TokenDoor("x"), SystemClock()), loop="none", ws="none", lifespan="off", log_config=None
        )
    )
    ready.set()
    asyncio.run(server.serve(sockets=[listener]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=5000, help="requests per second, over all")
    parser.add_argument("--updates", type=int, default=20)
    asked = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("There is no Chromium here.")
    fleet, ready, port = MadeUp(asked.replicas, asked.rate), threading.Event(), list[int]()
    threading.Thread(target=serve, args=(fleet, ready, port), daemon=True).start()
    ready.wait()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=SWITCHES)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(f"http://127.0.0.1:{port[0]}/#token=x")
        page.wait_for_selector("tr[data-replica='model-0-5']", state="attached")
        page.wait_for_timeout(3000)
        metrics = page.context.new_cdp_session(page)
        metrics.send("Performance.enable")
        page.evaluate(
            """() => { window.longest = 0; new PerformanceObserver((list) => { for (const each of list.getEntries())
            window.longest = Math.max(window.longest, each.duration); }).observe({type: "longtask"}); }"""
        )
        fleet.cpu_ms.clear()
        fleet.note_ms.clear()

        def taken_s() -> float:
            told: dict[str, Any] = metrics.send("Performance.getMetrics")
            return float({each["name"]: each["value"] for each in told["metrics"]}["TaskDuration"])

        began_s, wall_s = taken_s(), time.monotonic()
        while len(fleet.cpu_ms) < asked.updates:
            page.wait_for_timeout(200)
        updates, wall_s = len(fleet.cpu_ms), time.monotonic() - wall_s
        took_ms = (taken_s() - began_s) * 1000 / updates
        longest_ms = page.evaluate("window.longest")
        browser.close()
    print(f"{asked.replicas} replicas, {asked.rate} requests/s, {updates} updates in {wall_s:.1f} s")
    print(
        f"browser, per update: {took_ms:.1f} ms in all, longest task {longest_ms:.0f} ms (0: none over 50 ms)"
    )
    print(
        f"control process, page open: {statistics.mean(fleet.cpu_ms):.1f} ms of CPU per update to put it together"
    )
    print(
        f"control process, always: {statistics.mean(fleet.note_ms):.2f} ms of CPU per second for the history"
    )


if __name__ == "__main__":
    main()
