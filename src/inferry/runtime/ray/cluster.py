"""The cluster as a replica needs it: places on nodes, and agents there. The only file that calls Ray.

Ray's own calls block, so that each runs in a thread; only answers of actors are awaited as they are.

A place is a placement group of one bundle, made anew for each replica. One group for all replicas of a deployment would
have its number of bundles fixed when it is made, and replicas come and go; a group of one reserves room just as well,
and label selectors say on which nodes it must, or must not, be.
(https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html,
https://docs.ray.io/en/latest/ray-core/scheduling/labels.html)
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from inferry.core.errors import StartFailed
from inferry.core.ray_settings import RaySettings
from inferry.runtime.ray.agent import NodeFacts, ReplicaAgent
from inferry.runtime.ray.lost import AgentAway, AgentDied

NODE_LABEL = "ray.io/node-id"
"""Which each of Ray's nodes has by itself."""
LOCAL_STORE_BYTES = 100 * 2**20
"""Of the object store of a cluster of our own, which holds next to nothing."""
KNOCK_S = 5.0
AGENT_UP_S = 120.0
"""For an actor's process on a node that has room: Python, Ray and Inferry are imported there."""


@dataclass(frozen=True, slots=True)
class Room:
    """Reserved for one replica on one node."""

    group: Any
    """Ray's PlacementGroup."""
    node_id: str
    address: str
    host_name: str


class Agent:
    """An actor of ours, with Ray's errors told in our words."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def ask(self, method: str, *arguments: object) -> Any:
        """Raises AgentAway or AgentDied."""
        from ray.exceptions import ActorUnavailableError, RayActorError, RayError

        try:
            return await getattr(self._actor, method).remote(*arguments)
        except ActorUnavailableError as error:
            raise AgentAway(_first_line(error)) from error
        except RayActorError as error:
            raise AgentDied(_first_line(error)) from error
        except RayError as error:
            raise AgentAway(_first_line(error)) from error

    def tell(self, method: str) -> None:
        """Nobody waits for what comes of it."""
        getattr(self._actor, method).remote()

    async def kill(self) -> None:
        """Its process too, and by its guard the engine."""
        import ray

        with suppress(Exception):  # it is dead, or nobody can reach it
            await asyncio.to_thread(ray.kill, self._actor, no_restart=True)


class Cluster:
    """See the module. `connect` first, `leave` last."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings

    async def connect(self) -> None:
        """Raises StartFailed where there is no such cluster, or it does not take us."""
        on_sigterm = signal.getsignal(signal.SIGTERM)
        await asyncio.to_thread(self._connect)
        # Ray sets a handler of its own, which prints a stack before it calls ours. (Not from a thread: then nobody's
        # signals are ours.)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        import ray
        from ray.exceptions import AuthenticationError, RayError

        address = self._settings.address
        if address and ":" in address:
            _knock(address)
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES}
        try:
            ray.init(
                address=address or "local",
                namespace=self._settings.namespace,
                log_to_driver=False,
                configure_logging=True,
                logging_level=logging.ERROR,
                **({} if address else own),
            )
        except AuthenticationError as error:
            raise StartFailed(
                f"runtime.address: {address}: the cluster asks for its token: set RAY_AUTH_TOKEN, or "
                "RAY_AUTH_TOKEN_PATH to the file that has it ('ray get-auth-token' on its head)"
            ) from error
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"runtime.address: {address}" if address else "a Ray cluster of this machine"
            raise StartFailed(
                f"{where} can't be used: {_first_line(error)}. Is its head up ('ray status'), and is its Ray "
                f"{ray.__version__}, like the one here?"
            ) from error

    async def leave(self) -> None:
        """A cluster of our own ends, and in any case all that was started for us."""
        import ray

        await asyncio.to_thread(ray.shutdown)

    async def reserve(
        self, name: str, gpus: int, only_on: Collection[str], not_on: Collection[str], wait_s: float
    ) -> Room | None:
        """Room for one replica on a node of `only_on` (empty: any) that is none of `not_on`. None: there is none yet.

        Raises AgentAway where the cluster can't be asked now.
        """
        from ray.exceptions import RayError

        demand = self.demand(gpus)
        try:
            group = await asyncio.to_thread(partial(_make_group, name, demand, only_on, not_on))
        except RayError as error:
            raise AgentAway(_first_line(error)) from error
        try:
            room = await asyncio.to_thread(_wait_for, group, wait_s)
        except RayError as error:
            await self.give_back(group)
            raise AgentAway(_first_line(error)) from error
        except BaseException:
            # Cancelled: in a thread of its own, since nobody may wait here any more.
            threading.Thread(target=_remove, args=(group,), daemon=True).start()
            raise
        if room is None:
            await self.give_back(group)
        return room

    def demand(self, gpus: int) -> dict[str, float]:
        """What one replica takes, in Ray's words."""
        found: dict[str, float] = {"CPU": self._settings.cpus_per_replica, **self._settings.resources}
        return found | ({"GPU": float(gpus)} if gpus else {})

    async def free(self) -> Mapping[str, float]:
        """What is left in the whole cluster of each resource."""
        import ray

        return dict(await asyncio.to_thread(ray.available_resources))

    async def node_count(self) -> int:
        """Nodes that are alive."""
        import ray

        return sum(1 for node in await asyncio.to_thread(ray.nodes) if node["Alive"])

    async def agent_in(self, room: Room, replica_id: str, gpus: int) -> tuple[Agent, NodeFacts]:
        """Raises AgentDied or AgentAway where it does not come up."""
        actor = await asyncio.to_thread(partial(self._make_agent, room, replica_id, gpus))
        agent = Agent(actor)
        try:
            async with asyncio.timeout(AGENT_UP_S):
                return agent, await agent.ask("facts")
        except TimeoutError:
            await agent.kill()
            raise AgentAway(f"no process of ours came up there within {AGENT_UP_S:g} s") from None
        except BaseException:
            agent.tell("clear")
            raise

    def _make_agent(self, room: Room, replica_id: str, gpus: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        options = ray.remote(ReplicaAgent).options(
            num_cpus=self._settings.cpus_per_replica,
            num_gpus=gpus,
            resources=self._settings.resources,
            scheduling_strategy=PlacementGroupSchedulingStrategy(room.group, 0),
            max_restarts=0,  # the fleet decides when an engine is started again
            max_concurrency=64,
        )
        return options.remote(replica_id, room.address)

    async def give_back(self, group: Any) -> None:
        """The room is anybody's again."""
        await asyncio.to_thread(_remove, group)

    @property
    def threads(self) -> int:
        """Cores that are a replica's own."""
        return max(1, math.floor(self._settings.cpus_per_replica))


def _knock(address: str) -> None:
    """Ray itself tries for minutes before it says that nobody is there. Raises StartFailed."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), KNOCK_S):
            return
    except (OSError, ValueError) as error:
        raise StartFailed(
            f"runtime.address: nobody answers at {address} ({error}): is the cluster's head up ('ray status' there), and is "
            "this its address (HOST:PORT, the port 6379 unless its start said another one)?"
        ) from error


def _make_group(
    name: str, demand: Mapping[str, float], only_on: Collection[str], not_on: Collection[str]
) -> Any:
    from ray.util.placement_group import placement_group

    selector = {}
    if only_on:
        selector[NODE_LABEL] = f"in({','.join(sorted(only_on))})"
    elif not_on:
        selector[NODE_LABEL] = f"!in({','.join(sorted(not_on))})"
    return placement_group(
        [dict(demand)],
        strategy="PACK",  # of one bundle: where it goes is said by the selector
        name=name,
        bundle_label_selector=[selector] if selector else None,
    )


def _wait_for(group: Any, wait_s: float) -> Room | None:
    import ray
    from ray.util.placement_group import placement_group_table

    if not group.wait(wait_s):
        return None
    node_id = str(placement_group_table(group)["bundles_to_node_id"][0])
    node = next((each for each in ray.nodes() if each["NodeID"] == node_id), None)
    if node is None:
        return None
    return Room(group, node_id, str(node["NodeManagerAddress"]), str(node["NodeManagerHostname"]))


def _remove(group: Any) -> None:
    from ray.util.placement_group import remove_placement_group

    with suppress(Exception):  # it is gone with its cluster
        remove_placement_group(group)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
