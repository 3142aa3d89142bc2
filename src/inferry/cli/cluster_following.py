"""Has the fleet as many replicas as a cluster's Deployment objects want, while somebody else decides that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from inferry.core.deployment import DeploymentFile
from inferry.fleet.fleet import Fleet
from inferry.fleet.member import Member
from inferry.runtime.base import Runtime
from inferry.runtime.kubernetes.pod_runtime import KubernetesRuntime

log = structlog.get_logger()

AGAIN_S = 2.0
"""After a number that could not be taken over yet: something else is under way there."""
SETTLE_S = 1.0
"""Before fewer are kept: by then it is known which pods are on their way out."""


async def follow_cluster(runtime: Runtime, fleet: Fleet, config: DeploymentFile) -> None:
    """Until cancelled; returns at once where the runtime is none of a cluster. `config`: as at the start."""
    if not isinstance(runtime, KubernetesRuntime):
        return
    wanted: dict[str, int] = {}
    news = asyncio.Event()

    def on_wanted(name: str, number: int) -> None:
        wanted[name] = number
        news.set()

    def least_to_lose(members: Sequence[Member]) -> Sequence[Member]:
        return sorted(members, key=lambda each: (not runtime.is_leaving(each.id), each.is_ready))

    async def take_over() -> None:
        while True:
            await news.wait()
            news.clear()
            await asyncio.sleep(SETTLE_S)
            for name, number in list(wanted.items()):
                was = fleet.resizing.wanted(name)
                if was == number or not runtime.follows:
                    wanted.pop(name, None)
                    continue
                because = f"the cluster wants {number} replicas"
                done = await fleet.resizing.resize(
                    name, was, number, because, config.gateway.drain_s, least_to_lose
                )
                if done.why_not:
                    log.info("cluster_not_followed", deployment=name, wanted=number, because=done.why_not)
                elif wanted.get(name) == number:
                    wanted.pop(name)
            if wanted:
                await asyncio.sleep(AGAIN_S)
                news.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(runtime.follow(list(config.deployments), on_wanted))
        group.create_task(take_over())
