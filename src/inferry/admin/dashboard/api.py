"""What the dashboard's pages ask for, beside what the control API has for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from inferry.admin.dashboard.events import FleetEvent, FleetEvents
from inferry.admin.dashboard.live_feed import LiveFeed
from inferry.admin.dashboard.traffic import FIELDS, TrafficHistory
from inferry.core.errors import InvalidRequest, UnknownRoute
from inferry.core.suggest import did_you_mean

if TYPE_CHECKING:
    from inferry.ledger.usage import UsageAnswer, UsageQuestion, UsageSums

LINES_MAX = 5000
_TAIL_BYTES = 1 << 20


class TrafficView(BaseModel):
    """A table: rates per second, percentiles in milliseconds; null where nothing was observed."""

    fields: list[str]
    points: list[list[float | None]] = Field(description="Oldest first.")


class UsageSumsView(BaseModel):
    """What was used by one group, or by all."""

    group: list[str] = Field(description="As `by` says.")
    requests: int
    completed: int
    rejected: int
    failed: int
    cancelled: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: str = Field(description="As a decimal number: as a float it would not be exact.")


class UsageView(BaseModel):
    """The ledger's sums."""

    by: list[str]
    currency: str
    rows: list[UsageSumsView]
    total: UsageSumsView


class LogView(BaseModel):
    """The end of what a process printed."""

    name: str
    lines: list[str]


def make_dashboard_router(
    *,
    feed: LiveFeed,
    traffic: TrafficHistory,
    events: FleetEvents,
    log_folder: Path,
    usage: Callable[[UsageQuestion], Awaitable[UsageAnswer]],
    currency: Callable[[], str],
) -> APIRouter:
    """`/live`, `/traffic`, `/events`, `/logs`, `/usage`."""
    router = APIRouter(tags=["dashboard"])

    @router.get("/live")
    async def live() -> StreamingResponse:
        return StreamingResponse(
            feed.events(),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    @router.get("/traffic")
    async def get_traffic(
        deployment: str = "", span: Annotated[str, Query(pattern="^(minutes|day)$")] = "minutes"
    ) -> TrafficView:
        points = traffic.series(deployment, coarse=span == "day")
        return TrafficView(fields=list(FIELDS), points=[list(point) for point in points])

    @router.get("/events")
    async def get_events(after: int = 0) -> list[FleetEvent]:
        return events.since(after)

    @router.get("/logs")
    async def list_logs() -> list[str]:
        return sorted(await asyncio.to_thread(_logs_in, log_folder))

    @router.get("/logs/{name}")
    async def get_log(name: str, lines: Annotated[int, Query(ge=1, le=LINES_MAX)] = 200) -> LogView:
        known = await asyncio.to_thread(_logs_in, log_folder)
        if name not in known:
            raise UnknownRoute(f"There is no log of '{name}'.{did_you_mean(name, known)}")
        return LogView(name=name, lines=await asyncio.to_thread(_last_lines, known[name], lines))

    @router.get("/usage")
    async def get_usage(
        by: str = "tenant,deployment", since: float | None = None, until: float | None = None
    ) -> UsageView:
        from inferry.ledger.usage import Dimension, UsageQuestion

        known = get_args(Dimension)
        chosen = [name.strip() for name in by.split(",") if name.strip()]
        for name in chosen:
            if name not in known:
                raise InvalidRequest(
                    f"by: '{name}' can't be grouped by.{did_you_mean(name, known)}", param="by"
                )
        by_known = tuple(cast("list[Dimension]", chosen))
        answer = await usage(UsageQuestion(by=by_known, since_wall_s=since, until_wall_s=until))
        return view_usage(chosen, answer, currency())

    return router


def view_usage(by: list[str], answer: UsageAnswer, currency: str) -> UsageView:
    """The ledger's answer as the pages have it."""

    def view(group: tuple[str, ...], sums: UsageSums) -> UsageSumsView:
        names = UsageSumsView.model_fields.keys() - {"group", "cost"}
        figures = {name: getattr(sums, name) for name in names}
        cost = Decimal(sums.cost_nano).scaleb(-9)
        return UsageSumsView(group=list(group), cost=f"{cost:.9f}", **figures)

    return UsageView(
        by=by,
        currency=currency,
        rows=[view(row.group, row.sums) for row in answer.rows],
        total=view((), answer.total),
    )


def _logs_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.log")}


def _last_lines(path: Path, count: int) -> list[str]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL_BYTES, 0))
        text = file.read(_TAIL_BYTES).decode(errors="replace")
    return text.splitlines()[-count:]
