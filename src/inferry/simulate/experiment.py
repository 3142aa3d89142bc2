"""Simulations of whole services: arrivals go through real gateways' classes to simulated replicas, and are counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.gateway_settings import Tenant
from inferry.core.limits import Limits
from inferry.policy.lease_bank import LeaseBank
from inferry.simulate.arrivals import Arrival
from inferry.simulate.failures import Failure
from inferry.simulate.result import Result
from inferry.simulate.service import Service
from inferry.simulate.service_budget import HostBudget, SharedBudget
from inferry.simulate.service_counts import Heard
from inferry.simulate.service_failing import plan_failures
from inferry.simulate.service_gateway import SimulatedGateway
from inferry.simulate.service_limits import ServiceLimits, TimelineClock
from inferry.simulate.service_running import RunningService
from inferry.simulate.timeline import Timeline

TAIL_S = 86_400.0
"""After the last arrival, the rest may take so long."""
_STEP_S = 1.0
_NO_TENANTS: Mapping[str, Tenant] = {}
_NO_LIMITS = Limits()
_NO_BUDGET = HostBudget()


def run(
    services: Sequence[Service],
    arrivals: Iterable[Arrival],
    *,
    seed: int = 0,
    gateways: int = 1,
    failures: Iterable[Failure] = (),
    until_s: float | None = None,
    lasts_s: float = 0.0,
    interval_s: float = 60.0,
    tenants: Mapping[str, Tenant] = _NO_TENANTS,
    settings: GatewaySettings | None = None,
    begin_wall_s: float = 0.0,
    budget: HostBudget = _NO_BUDGET,
    heard: Heard | None = None,
) -> Result:
    """Let `arrivals`, in order of time, come to `services`; returns what came of it.

    `gateways`: processes; requests come to any of them. `until_s`: it ends then, whatever is under way; left out, with
    the last request, and not before `lasts_s`: a load may end with hours in which nobody asks. `settings`: of the gateways, for their timeouts and attempts. `begin_wall_s`: what people's clocks
    show at the begin, for schedules and budgets of a day. `budget`: of all services together. `heard`: of each outcome, as it ends.

    The same arguments give the same bytes. Raises KeyError for an arrival at a deployment that is not there.
    """
    timeline = Timeline()
    settings = GatewaySettings() if settings is None else settings
    has_limits = any(service.limits != _NO_LIMITS for service in services) or any(
        tenant.limits != _NO_LIMITS for tenant in tenants.values()
    )
    bank, clock = LeaseBank(), TimelineClock(timeline, begin_wall_s)
    processes = [
        SimulatedGateway(
            timeline,
            tenants,
            ServiceLimits(f"gateway-{number}", bank, tenants, clock) if has_limits else None,
            workers=gateways,
            attempts_max=settings.attempts_max,
            first_byte_timeout_s=settings.first_byte_timeout_s,
        )
        for number in range(gateways)
    ]
    shared = SharedBudget(budget)
    running = {
        service.name: RunningService(
            service,
            processes,
            timeline,
            seed=seed,
            interval_s=interval_s,
            drain_s=settings.drain_s,
            has_limits=has_limits,
            begin_wall_s=begin_wall_s,
            heard=heard,
            budget=shared,
        )
        for service in services
    }
    first = services[0].name
    plan_failures(failures, running, first, timeline, seed)
    end_s = _let_come(arrivals, running, first, timeline, inf if until_s is None else until_s, lasts_s)
    return Result(seed, gateways, interval_s, [each.result(end_s) for each in running.values()])


def _let_come(
    arrivals: Iterable[Arrival],
    running: Mapping[str, RunningService],
    first: str,
    timeline: Timeline,
    until_s: float,
    lasts_s: float,
) -> float:
    """Returns when it ended."""
    last_s = 0.0
    run_to = timeline.run
    for arrival in arrivals:
        at_s = arrival.at_s
        assert at_s >= last_s, f"an arrival at {at_s} s comes after one at {last_s} s"
        if at_s >= until_s:
            break
        run_to(at_s)
        timeline.now_s = last_s = at_s
        running[arrival.deployment or first].arrive(arrival)
    if until_s < inf:
        run_to(until_s)
        return until_s
    if lasts_s > last_s:
        run_to(lasts_s)
        timeline.now_s = last_s = lasts_s
    counts = [each.counts for each in running.values()]
    while timeline.now_s < last_s + TAIL_S and any(each.over_count < each.requests for each in counts):
        step_s = timeline.now_s + _STEP_S
        run_to(step_s)
        timeline.now_s = step_s
    return max(lasts_s, *(each.last_s for each in counts))
