"""How many CPU threads each embedded engine gets: more than there are cores only makes all of them slower."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from inferry.core.local_engines import LlamaCppDeployment
from inferry.fleet.plan import DeploymentPlan

CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def cores_available(cpu_max: Path = CGROUP_CPU_MAX) -> int:
    """Cores that this process may use: by its affinity, and by the CPU quota of its container. At least 1."""
    if sys.version_info >= (3, 13):
        cores = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        # `200000 100000`: 200 ms of CPU per 100 ms, so 2 cores; `max 100000`: no limit.
        quota, period = cpu_max.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no such file, or `max`
    return max(cores, 1)


def share_threads(plans: Sequence[DeploymentPlan], cores: int) -> dict[str, int]:
    """Threads per replica, by deployment: the cores evenly over all CPU replicas that the file gives no number.

    8 cores, one deployment of 2 replicas and one of 1: 2 threads each. Replicas with a number of their own
    take that many cores first. Replicas on a GPU need few threads and are not counted.
    """
    shared = 0
    left = cores
    for plan in plans:
        deployment = plan.deployment
        if isinstance(deployment, LlamaCppDeployment) and not deployment.gpu_layers:
            if deployment.threads is None:
                shared += deployment.replicas
            else:
                left -= deployment.threads * deployment.replicas
    even = max(left // shared, 1) if shared else 1
    threads: dict[str, int] = {}
    for plan in plans:
        deployment = plan.deployment
        if isinstance(deployment, LlamaCppDeployment):
            share = max(min(cores, 4), 1) if deployment.gpu_layers else even
            threads[plan.name] = share if deployment.threads is None else deployment.threads
        else:
            threads[plan.name] = 1
    return threads
