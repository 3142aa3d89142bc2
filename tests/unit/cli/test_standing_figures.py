"""What the ledger has of tenants is asked now and then, and never holds a scrape up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inferry.cli.standing_figures import EVERY_S, OLD_S, StandingFigures
from inferry.core.config_file import parse_text
from inferry.core.errors import LedgerUnavailable
from inferry.core.leases import Kind
from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView
from inferry.ledger.usage import Spent
from inferry.testing.manual_clock import ManualClock

CONFIG = parse_text(
    "tenants: {search: {limits: {cost_per_month: 20}}}\ndeployments: {chat: {engine: simulated}}",
    Path("inferry.yaml"),
    {},
).config
VIEW = ReplicaView(
    id="chat-0", deployment="chat", engine="vllm", simulated=False, state=ReplicaState.READY, endpoint=None,
    since_wall_s=0.0, restarts=0,
)  # fmt: skip


class _Ledger:
    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    async def spent(self, kind: Kind, period: int) -> Mapping[tuple[str, str], Spent]:
        self.asked += 1
        if self.away:
            raise LedgerUnavailable("gone")
        tokens = 7 if kind is Kind.DAY else 70
        return {("tenant", "search"): Spent(tokens, tokens * 10**9), ("key", "key_1"): Spent(1, 1)}


async def _page(figures: StandingFigures) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in await figures.families()
        for sample in family.samples
    }


async def test_tenants_come_from_the_ledger_at_most_twice_a_minute() -> None:
    """While it is away, they are missing: old sums may be yesterday's."""
    ledger, clock = _Ledger(), ManualClock()
    figures = StandingFigures(lambda: CONFIG, ledger.spent, lambda: 1.5, list, clock)
    page = await _page(figures)
    assert page[("inferry_tenant_spent_cost", "search", "month")] == 70.0
    assert page[("inferry_tenant_spent_tokens", "search", "day")] == 7
    assert page[("inferry_tenant_budget_cost", "search", "month")] == 20
    assert page[("inferry_ledger_behind_seconds",)] == 1.5
    await _page(figures)
    assert ledger.asked == 2  # day and month, once
    ledger.away = True
    clock.advance(EVERY_S)
    assert not [key for key in await _page(figures) if "tenant" in key[0]]


async def test_what_an_engine_told_long_ago_is_not_shown() -> None:
    """A replica that hangs would look as busy as it was."""
    clock = ManualClock()
    load = ReplicaLoad("chat-0", clock.now_s(), kv_cache_use=0.5)
    figures = StandingFigures(lambda: CONFIG, _Ledger().spent, lambda: 0.0, lambda: [(VIEW, load)], clock)
    assert (await _page(figures))[("inferry_engine_kv_cache_use", "chat", "chat-0")] == 0.5
    clock.advance(OLD_S + 1)
    assert "inferry_engine_kv_cache_use" not in {key[0] for key in await _page(figures)}
