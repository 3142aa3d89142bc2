"""What a running Inferry keeps for its dashboard, and the routes by which the pages ask for it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any

import httpx
from fastapi import APIRouter

from inferry.admin.dashboard.api import make_dashboard_router
from inferry.admin.dashboard.events import FleetEvents
from inferry.admin.dashboard.live_feed import LiveFeed, Parts
from inferry.admin.dashboard.pages import make_pages_router
from inferry.admin.dashboard.passage import make_passage_router
from inferry.admin.dashboard.traffic import FIELDS, TrafficHistory
from inferry.admin.run_record import run_folder
from inferry.admin.status import Status
from inferry.cli.bookkeeping import Bookkeeping
from inferry.cli.place import Place
from inferry.core.clock import Clock
from inferry.core.replica import ReplicaLoad, ReplicaView
from inferry.gateway.snapshot import Snapshot

GATEWAY_TIMEOUT_S = 600.0
"""Of the playground: as long as a long answer takes to begin."""


class DashboardSide:
    """Costs a look a second for the history of traffic; for all else, only while a page is open."""

    def __init__(
        self,
        status: Callable[[], Status],
        readings: Callable[[], Iterable[tuple[ReplicaView, ReplicaLoad | None]]],
        books: Bookkeeping,
        clock: Clock,
        place: Place,
    ) -> None:
        """`status()` from the numbers that are known anyway: no gateway process is asked for it."""
        self._status = status
        self._readings = readings
        self._books = books
        self._clock = clock
        self._place = place
        self._traffic = TrafficHistory()
        self._events = FleetEvents()
        self._client: httpx.AsyncClient | None = None
        self._feed = LiveFeed(self._look)

    def on_numbers(self, snapshot: Snapshot) -> None:
        """The gateways' numbers, once a second."""
        self._traffic.note(self._clock.wall_s(), snapshot)

    def on_view(self, view: ReplicaView) -> None:
        """A replica has changed."""
        self._events.note(view, self._clock.wall_s())

    def on_gone(self, replica_id: str) -> None:
        """A replica is gone for good."""
        self._events.forget(replica_id)

    def routers(self) -> tuple[APIRouter, ...]:
        """For the control API."""
        # It connects to this very process's own listener, whose certificate may be for another name than the address.
        trusts_itself = ssl.create_default_context()
        trusts_itself.check_hostname = False
        trusts_itself.verify_mode = ssl.CERT_NONE
        self._client = httpx.AsyncClient(timeout=GATEWAY_TIMEOUT_S, verify=trusts_itself, trust_env=False)
        return (
            make_pages_router(),
            make_passage_router(self._client, self._place.url),
            make_dashboard_router(
                feed=self._feed,
                traffic=self._traffic,
                events=self._events,
                log_folder=run_folder(self._place.home, self._place.port) / "logs",
                usage=self._books.usage,
                currency=lambda: self._books.settings.currency,
            ),
        )

    def end_pages(self) -> None:
        """Before the servers end: they wait for streams that are open."""
        self._feed.close()

    async def close(self) -> None:
        """Let go of connections to the gateway."""
        if self._client is not None:
            await self._client.aclose()

    async def _look(self) -> Parts:
        return live_parts(self._status().model_dump(mode="json"), self._readings(), self._traffic)


def live_parts(
    status: dict[str, Any],
    readings: Iterable[tuple[ReplicaView, ReplicaLoad | None]],
    traffic: TrafficHistory,
) -> Parts:
    """The answer of GET /status, in rows that change one by one, with what engines and gateways tell beside it."""
    replicas: dict[str, dict[str, Any]] = {}
    deployments: dict[str, dict[str, Any]] = {}
    for deployment in status.pop("deployments"):
        for replica in deployment.pop("replicas"):
            replicas[replica["id"]] = {**replica, "deployment": deployment["name"]}
        deployments[deployment["name"]] = deployment
    for view, load in readings:
        if load is not None and view.id in replicas:
            replicas[view.id] |= {
                "kv_cache_use": load.kv_cache_use,
                "gpu_use": load.gpu_use,
                "gpu_memory_use": load.gpu_memory_use,
                "engine_running": load.running,
                "engine_waiting": load.waiting,
            }
    names = status.pop("names")
    return {
        "about": {"status": status},
        "deployments": deployments,
        "replicas": replicas,
        "names": {each["name"]: each for each in names},
        "traffic": {name: dict(zip(FIELDS, point, strict=True)) for name, point in traffic.last().items()},
    }
