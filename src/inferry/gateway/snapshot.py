"""The numbers of one gateway process at one moment, and their sum over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from inferry.gateway.demand import Demand
from inferry.gateway.metrics import GatewayMetrics


@dataclass(slots=True)
class Snapshot:
    """Counters since the process started, and what it holds now. By replica id, where nothing else is said."""

    metrics: GatewayMetrics = field(default_factory=lambda: GatewayMetrics())
    in_flight: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    """Requests ever sent there."""
    failed: dict[str, int] = field(default_factory=dict)
    """Of those, attempts that failed, whatever became of the request."""
    waiting: dict[str, int] = field(default_factory=dict)
    """By deployment: requests that wait for a turn."""
    stranded: dict[str, int] = field(default_factory=dict)
    """By deployment: requests that have lost their replica, or found none, and wait for one."""
    demand: dict[str, Demand] = field(default_factory=dict)
    """By deployment."""
    barred: dict[str, int] = field(default_factory=dict)
    """1 for a replica that it has set aside; over several processes, how many have."""
    journal_waiting: int = 0
    """Lines that the disk did not take yet."""
    silent: tuple[str, ...] = ()
    """Gateway processes that did not answer: of them, these are the numbers that they told last."""

    def counters_only(self) -> Snapshot:
        """Of a process that has ended: what it counted stays, what it held is gone."""
        return Snapshot(metrics=self.metrics, demand=self.demand, sent=self.sent, failed=self.failed)


def add_up(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot over all."""
    total = Snapshot()
    for each in snapshots:
        total.journal_waiting += each.journal_waiting
        total.metrics.add(each.metrics)
        for into, more in (
            (total.in_flight, each.in_flight),
            (total.sent, each.sent),
            (total.failed, each.failed),
            (total.waiting, each.waiting),
            (total.stranded, each.stranded),
            (total.barred, each.barred),
        ):
            for name, count in more.items():
                into[name] = into.get(name, 0) + count
        for name, demand in each.demand.items():
            total.demand.setdefault(name, Demand()).add(demand)
    return total
