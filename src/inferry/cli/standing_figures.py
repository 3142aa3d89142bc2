"""Collects, in the control process and for each scrape, what gateway/standing_families.py turns into metrics.

The ledger is asked at most twice a minute, and only for so long: a scrape that waits for it would be a gap in all
other figures too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client.core import Metric

from inferry.core.clock import Clock
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import InferryError
from inferry.core.leases import Kind, period_of
from inferry.core.replica import ReplicaLoad, ReplicaView
from inferry.gateway.certificate_dates import not_after_wall_s
from inferry.gateway.standing_families import (
    Spending,
    backup_families,
    certificate_families,
    ledger_families,
    load_families,
    tenant_families,
)
from inferry.ledger.archive_names import newest_wall_s
from inferry.ledger.usage import Spent

EVERY_S = 30.0
ANSWER_S = 2.0
OLD_S = 60.0
"""What an engine told longer ago says nothing about now."""

Sums = Mapping[tuple[str, str], Spent]


class StandingFigures:
    """`families` for each scrape. For one event loop."""

    def __init__(
        self,
        config: Callable[[], DeploymentFile],
        spent: Callable[[Kind, int], Awaitable[Sums]],
        behind_s: Callable[[], float],
        readings: Callable[[], Iterable[tuple[ReplicaView, ReplicaLoad | None]]],
        clock: Clock,
    ) -> None:
        """`spent`: what the ledger has of a day or month. `behind_s`: since journals were loaded."""
        self._config = config
        self._spent = spent
        self._behind_s = behind_s
        self._readings = readings
        self._clock = clock
        self._known: Mapping[str, Spending] | None = None
        self._asked_s = float("-inf")
        self._asking = asyncio.Lock()

    async def families(self) -> list[Metric]:
        """Tenants are missing while the ledger does not answer: old sums may be of another day."""
        config, now_s = self._config(), self._clock.now_s()
        tls = config.gateway.tls
        ends = None if tls is None else await asyncio.to_thread(_ends, tls.certificate)
        readings = [
            (view, load if load is not None and now_s - load.read_s <= OLD_S else None)
            for view, load in self._readings()
        ]
        found = [*certificate_families(ends), *ledger_families(self._behind_s()), *load_families(readings)]
        if config.backup is not None:
            made_wall_s = await asyncio.to_thread(_latest, config.backup.folder)
            found += backup_families(made_wall_s, config.backup.every_hours * 3600)
        spending = await self._spending()
        if spending is not None:
            limits = {name: tenant.limits for name, tenant in config.tenants.items()}
            found += tenant_families(spending, limits)
        return found

    async def _spending(self) -> Mapping[str, Spending] | None:
        async with self._asking:
            if self._clock.now_s() - self._asked_s >= EVERY_S:
                self._known = await self._ask()
                self._asked_s = self._clock.now_s()
            return self._known

    async def _ask(self) -> Mapping[str, Spending] | None:
        wall_s = self._clock.wall_s()
        try:
            async with asyncio.timeout(ANSWER_S):
                day = await self._spent(Kind.DAY, period_of(Kind.DAY, wall_s))
                month = await self._spent(Kind.MONTH, period_of(Kind.MONTH, wall_s))
        except (InferryError, TimeoutError):
            return None  # the look-up logs it
        tenants = {name for scope, name in month if scope == "tenant"}
        return {
            name: Spending(
                day.get(("tenant", name), Spent()).tokens,
                month[("tenant", name)].tokens,
                day.get(("tenant", name), Spent()).cost_nano / 1e9,
                month[("tenant", name)].cost_nano / 1e9,
            )
            for name in sorted(tenants)
        }


def _latest(folder: str) -> float | None:
    try:
        return newest_wall_s(Path(folder))
    except OSError:
        return None


def _ends(path: str) -> float | None:
    try:
        return not_after_wall_s(Path(path).read_text(encoding="latin-1"))
    except OSError:
        return None
