"""Counts of a simulated deployment as it runs: a few per request, and a line per interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from inferry.core.latency_counts import LatencyCounts
from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.core.scaling_settings import ScalingSlo
from inferry.gateway.demand import Demand
from inferry.simulate.fine_counts import FineCounts
from inferry.simulate.result import Interval, Percentiles
from inferry.simulate.service_request import ServedRequest

Heard = Callable[[ServedRequest, Outcome], None]
UNDER_WAY_LEAST = 1024
"""Requests that are kept before those that are over are sorted out."""


class _Open(msgspec.Struct):
    """An interval whose requests may not all be over."""

    arrivals: int = 0
    in_slo: int = 0
    line: Interval | None = None


class ServiceCounts:
    """Hears of each request once when it comes, and once when it is over."""

    def __init__(self, slo: ScalingSlo | None, interval_s: float, heard: Heard | None) -> None:
        """`heard`: of each outcome, too."""
        self.requests = self.over_count = self.completed = self.in_slo = 0
        self.prompt_tokens = self.answer_tokens = 0
        self.retries = self.resumes = 0
        self.failed: dict[str, int] = {}
        self.rejected: dict[str, dict[str, int]] = {}
        self.by_tenant: dict[str, int] = {}
        self.ttft, self.itl, self.e2e, self.queue = (FineCounts() for _ in range(4))
        self.last_s = 0.0
        """When the last one came, or was over."""
        self.intervals: list[_Open] = []
        self._ttft_s = float("inf")
        self._itl_s = float("inf")
        self.has_slo = slo is not None
        if slo is not None:
            self._ttft_s = self._ttft_s if slo.ttft_ms is None else slo.ttft_ms / 1000
            self._itl_s = self._itl_s if slo.itl_ms is None else slo.itl_ms / 1000
        self._interval_s = interval_s
        self._heard = heard
        self._now = _Open()
        self._under_way: list[ServedRequest] = []
        """And some that are over."""
        self._under_way_max = UNDER_WAY_LEAST
        self._before = (0, 0, 0)
        self._ttft_before = LatencyCounts()

    def arrived(self, request: ServedRequest) -> None:
        self.requests += 1
        self._now.arrivals += 1
        self.last_s = request.arrival_s
        self._under_way.append(request)
        if len(self._under_way) > self._under_way_max:
            self._under_way = [each for each in self._under_way if not each.is_over]
            self._under_way_max = 2 * len(self._under_way) + UNDER_WAY_LEAST
        request.door.gateway.opened()

    def over(
        self, request: ServedRequest, ending: Ending, code: str | None, status: int, answer_tokens: int
    ) -> None:
        ended_s = request.ended_s
        assert ended_s is not None
        arrival_s, first_s = request.arrival_s, request.first_byte_s
        self.over_count += 1
        self.last_s = ended_s
        if request.attempts > 1:
            self.resumes += request.resumes
            self.retries += request.attempts - 1 - request.resumes
        duration_s = ended_s - arrival_s
        ttft_s = None if first_s is None else first_s - arrival_s
        prompt_tokens = request.whole_prompt_tokens
        if ending is Ending.COMPLETED:
            self._completed(request, prompt_tokens, answer_tokens, duration_s, ttft_s or 0.0)
        else:
            assert code is not None
            counts = self.failed
            if ending is Ending.REJECTED:
                counts = self.rejected.setdefault(request.tenant, {})
            counts[code] = counts.get(code, 0) + 1
        entered_s = request.entered_s
        if entered_s is not None:
            self.queue.observe(entered_s - arrival_s)
        if ttft_s is not None:
            self.ttft.observe(ttft_s)
            if answer_tokens > 1:
                self.itl.observe((duration_s - ttft_s) / (answer_tokens - 1))
        outcome = Outcome(
            id="",
            request_id="",
            route="",
            ending=ending,
            status=status,
            received_wall_s=arrival_s,
            duration_s=duration_s,
            replica_id=request.replica,
            tenant=request.tenant,
            stream=True,
            queue_s=0.0 if entered_s is None else entered_s - arrival_s,
            ttft_s=ttft_s,
            attempts=request.attempts,
            resumes=request.resumes,
            prompt_tokens=prompt_tokens if ttft_s is not None else None,
            cached_tokens=request.first_cached_tokens,
            completion_tokens=answer_tokens if ttft_s is not None else None,
            usage_from=UsageFrom.ENGINE,
            error_code=code,
        )
        if request.is_let_in:
            request.door.served.demand.observe(outcome)
        if self._heard is not None:
            self._heard(request, outcome)
        request.door.gateway.closed()

    def _completed(
        self,
        request: ServedRequest,
        prompt_tokens: int,
        answer_tokens: int,
        duration_s: float,
        ttft_s: float,
    ) -> None:
        self.completed += 1
        self.e2e.observe(duration_s)
        self.prompt_tokens += prompt_tokens
        self.answer_tokens += answer_tokens
        by_tenant = self.by_tenant
        by_tenant[request.tenant] = by_tenant.get(request.tenant, 0) + answer_tokens
        if ttft_s > self._ttft_s:
            return
        if answer_tokens > 1 and duration_s - ttft_s > self._itl_s * (answer_tokens - 1):
            return
        self.in_slo += 1
        number = int(request.arrival_s / self._interval_s)
        intervals = self.intervals
        (intervals[number] if number < len(intervals) else self._now).in_slo += 1

    def close_interval(
        self, demand: Demand, *, in_flight: int, waiting: int, serving: int, coming: int, wanted: int
    ) -> None:
        """It is over. `demand`: of all gateways."""
        failed = sum(self.failed.values())
        rejected = sum(count for each in self.rejected.values() for count in each.values())
        before = self._before
        p90_s = demand.ttft.since(self._ttft_before).quantile_s(0.9)
        self._now.line = Interval(
            begin_s=len(self.intervals) * self._interval_s,
            arrivals=self._now.arrivals,
            completed=self.completed - before[0],
            failed=failed - before[1],
            rejected=rejected - before[2],
            in_flight=in_flight,
            waiting=waiting,
            serving=serving,
            coming=coming,
            wanted=wanted,
            ttft_p90_ms=_ms(p90_s),
            attainment=None,
        )
        self._before = (self.completed, failed, rejected)
        self._ttft_before = demand.ttft.copy()
        self.intervals.append(self._now)
        self._now = _Open()

    def late(self, now_s: float) -> int:
        """Requests under way that can't be within the objectives any more, whatever happens to them."""
        if not self.has_slo:
            return 0
        return sum(self._is_late(each, now_s) for each in self._under_way if not each.is_over)

    def _is_late(self, request: ServedRequest, now_s: float) -> bool:
        first_s = request.first_byte_s
        if first_s is None:
            return now_s - request.arrival_s > self._ttft_s
        if first_s - request.arrival_s > self._ttft_s:
            return True
        others = request.delivered + request.answer_tokens - 1
        return others > 0 and now_s - first_s > self._itl_s * others

    def attainment(self, now_s: float) -> float | None:
        """Of those whose case is clear by now. Who waits counts too, once it has waited too long: else a run that ends with
        a queue would be the better the longer the queue is."""
        clear = self.over_count + self.late(now_s)
        return self.in_slo / clear if self.has_slo and clear else None

    def timeline(self) -> list[Interval]:
        lines = []
        for each in self.intervals:
            if each.line is not None:
                share = each.in_slo / each.arrivals if self.has_slo and each.arrivals else None
                lines.append(msgspec.structs.replace(each.line, attainment=share))
        return lines


def percentiles(counts: FineCounts) -> Percentiles:
    p50_s, p90_s, p95_s, p99_s = counts.quantiles_s((0.5, 0.9, 0.95, 0.99))
    return Percentiles(_ms(p50_s), _ms(p90_s), _ms(p95_s), _ms(p99_s), _ms(counts.mean_s()))


def demand_of(demands: Sequence[Demand]) -> Demand:
    """Of all gateways together."""
    total = Demand()
    for each in demands:
        total.add(each)
    return total


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
