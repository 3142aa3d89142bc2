"""How a load is split over worker processes, and how much of it each keeps ready."""

from __future__ import annotations

import math
import os

from inferry.bench.plan import Arrivals, Closed, Constant, Gamma, Poisson, Ramp, RunPlan, Sessions, Steps

STREAMS_PER_PROCESS = 300
"""Requests per second, of 100 tokens each. One process took 36 % of a core for them (AMD EPYC, family 26, 2 cores of a
virtual machine; benchmarks/bench_truth.py --rate 300): asleep for most of its time, so that little has to wait."""
USERS_PER_PROCESS = 300
WARM_MAX = 256
"""Connections opened before the run, per process."""
WARM_OF_UNKNOWN = 16
PREPARED_MAX = 4096
"""Requests made ahead of their time, per process."""
PREPARED_LEAST = 64
PREPARED_PER_USER = 4
TURNS_MAX = 65_536
"""Later turns of conversations that have not begun, per process, about 1 KB each: unwritten."""


def processes_for(arrivals: Arrivals, cores: int | None = None) -> int:
    """How many worker processes a load wants, at most one per core that this process may use."""
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(arrivals, Closed):
        wanted = math.ceil(arrivals.concurrency / USERS_PER_PROCESS)
    else:
        rate = highest_rate(arrivals)
        wanted = 2 if rate is None else math.ceil(rate / STREAMS_PER_PROCESS)
    return max(1, min(wanted, cores))


def highest_rate(arrivals: Arrivals) -> float | None:
    """Requests per second at the busiest time. None: neither a closed loop's nor a trace's is known before."""
    match arrivals:
        case Constant(rate=rate) | Poisson(rate=rate) | Gamma(rate=rate):
            return rate
        case Ramp(from_rate=first, to_rate=last):
            return max(first, last)
        case Steps(steps=steps):
            return max((rate for rate, _ in steps), default=0.0)
        case _:
            return None


def users_of(plan: RunPlan, process: int) -> int:
    """How many users of a closed loop a process has; 0 in an open loop."""
    if not isinstance(plan.arrivals, Closed):
        return 0
    each, more = divmod(plan.arrivals.concurrency, plan.processes)
    return each + (process < more)


def warm_connections(plan: RunPlan, process: int) -> int:
    """As many as will surely be used at once: the users of a closed loop, or what comes in a second."""
    if isinstance(plan.arrivals, Closed):
        return min(users_of(plan, process), WARM_MAX)
    rate = highest_rate(plan.arrivals)
    return WARM_OF_UNKNOWN if rate is None else min(math.ceil(rate / plan.processes), WARM_MAX)


def prepared_max(plan: RunPlan, process: int) -> int:
    """Requests that a process makes ahead; of a conversation, the first turn counts, since the others are made later.

    A closed loop's workload is endless, and needs no more than its users.
    """
    if isinstance(plan.arrivals, Closed):
        return min(PREPARED_MAX, PREPARED_LEAST + PREPARED_PER_USER * users_of(plan, process))
    if isinstance(plan.workload, Sessions):
        return max(PREPARED_LEAST, min(PREPARED_MAX, int(TURNS_MAX / plan.workload.turns.mean)))
    return PREPARED_MAX
