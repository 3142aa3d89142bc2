"""A `Runtime` on a Ray cluster: finds a node for each replica, has an agent start its engine there, and listens to it.

What is lost: an agent that has not answered for `runtime.lost_after_s`, or that Ray declares dead with its node. Its
handle ends then, and the fleet starts the replica anew, wherever there is room. Before that, the lost agent is killed as
far as it can be reached, so that no replica is there twice.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from inferry import __version__
from inferry.core.errors import StartFailed
from inferry.core.launch import LaunchOrder, Seat
from inferry.core.ray_settings import RaySettings
from inferry.core.replica import Endpoint
from inferry.runtime.base import EXIT_CODE_UNKNOWN, Exit, Handle
from inferry.runtime.ray.agent import News, NodeFacts
from inferry.runtime.ray.cluster import Agent, Cluster, Room
from inferry.runtime.ray.handle import RayHandle
from inferry.runtime.ray.lost import AgentAway, AgentDied
from inferry.runtime.ray.placement import Choice, choices

log = structlog.get_logger()

CHOICE_S = 2.0
"""How long the best nodes are waited for before any node will do."""
LOOK_S = 5.0
"""So often somebody who waits for room is told what for."""
STOPPED_S = 20.0
"""Beyond its grace, for an engine to be gone and its agent to have said so."""


class RayRuntime:
    """Use it from one event loop, and `close` it there."""

    def __init__(self, settings: RaySettings, log_dir: Path) -> None:
        """Nothing is asked yet: the first start connects. Logs of replicas come to `log_dir/REPLICA_ID.log`."""
        self._settings = settings
        self._log_dir = log_dir
        self._cluster = Cluster(settings)
        self._connecting = asyncio.Lock()
        self._connected = False
        self._placing: dict[str, asyncio.Lock] = {}
        self._agents: dict[RayHandle, Agent] = {}
        self._rooms: dict[RayHandle, Room] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._no_grace = False

    async def start(self, order: LaunchOrder) -> RayHandle:
        await self._connect()
        try:
            async with asyncio.timeout(self._settings.place_timeout_s):
                # One after the other: where the first one goes decides where the next one should.
                async with self._placing.setdefault(order.deployment, asyncio.Lock()):
                    room = await self._room_for(order)
                    handle = self._handle(order, room)
                    self._rooms[handle] = room
        except TimeoutError:
            words = await self._wants(order)
            return self._none(
                order,
                f"no room within {self._settings.place_timeout_s:g} s (runtime.place_timeout_s): {words}",
            )
        except AgentAway as error:
            return self._none(order, f"the cluster gives no room: {error}")
        agent: Agent | None = None
        try:
            order.say(f"its agent starts on {room.host_name}")
            agent, facts = await self._cluster.agent_in(room, order.replica_id, order.needs.gpus)
            await self._begin(order, handle, agent, facts)
        except (AgentAway, AgentDied) as error:
            await self._let_go_of(handle, agent)
            if "No module named 'inferry'" in str(error.__cause__):
                raise StartFailed(
                    f"node {room.host_name} has no Inferry: install inferry=={__version__} in the Python that runs Ray "
                    "there"
                ) from error
            handle.end(EXIT_CODE_UNKNOWN, f"node {room.host_name}: {error}")
            return handle
        except BaseException:
            handle.end(EXIT_CODE_UNKNOWN)
            self._do(self._let_go_of(handle, agent))
            raise
        return handle

    async def _begin(self, order: LaunchOrder, handle: RayHandle, agent: Agent, facts: NodeFacts) -> None:
        """Have the engine started, and listen from then on. Raises StartFailed where it can't run on that node."""
        node = handle.node = facts.host_name
        if facts.version != __version__:
            raise StartFailed(
                f"node {node} has Inferry {facts.version}, and this is {__version__}: install inferry=={__version__} there"
            )
        model = order.needs.model_path
        if model is not None and await agent.ask("lacks", str(model)):
            raise StartFailed(
                f"node {node} has no {model}: put the model there under the same path, on each node, or into a folder that "
                "all of them share"
            )
        seat: Seat = await agent.ask("seat")
        spec = order.spec_at(replace(seat, threads=self._cluster.threads, has_own_gpus=order.needs.gpus > 0))
        handle.endpoint = spec.endpoint
        if refusal := await agent.ask("start", spec, sys.executable):
            raise StartFailed(f"node {node}: {refusal}")
        self._agents[handle] = agent
        log.info("ray_replica_started", replica=order.replica_id, node=node, url=spec.endpoint.url)
        self._do(self._follow(handle, agent))

    async def stop(self, handle: Handle, grace_s: float) -> Exit:
        assert isinstance(handle, RayHandle)
        agent = self._agents.get(handle)
        if handle.gone or agent is None:
            return await handle.wait()
        grace_s = 0.0 if self._no_grace else grace_s
        try:
            asking = asyncio.ensure_future(agent.ask("stop", grace_s))
            asking.add_done_callback(_heard)
            async with asyncio.timeout(grace_s + STOPPED_S):
                return await handle.wait()
        except TimeoutError:
            handle.end(EXIT_CODE_UNKNOWN, f"node {handle.node} did not stop it")
            await self._let_go_of(handle, agent)
            return await handle.wait()
        except asyncio.CancelledError:
            agent.tell("kill_now")
            raise

    def kill_now(self) -> None:
        self._no_grace = True
        for agent in self._agents.values():
            agent.tell("kill_now")

    def let_go(self) -> None:
        """Nothing stays: agents end with the gateway that asked for them."""

    def running(self) -> Sequence[RayHandle]:
        return [handle for handle in self._agents if not handle.gone]

    async def close(self) -> None:
        self.kill_now()
        for handle in list(self._agents):
            await self.stop(handle, 0)
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        for handle in list(self._rooms):
            await self._let_go_of(handle, None)
        if self._connected:
            await self._cluster.leave()
            self._connected = False

    async def _connect(self) -> None:
        async with self._connecting:
            if not self._connected:
                await self._cluster.connect()
                self._connected = True

    async def _room_for(self, order: LaunchOrder) -> Room:
        """Waits for it. First on the nodes that the placement prefers, then on any that it allows."""
        told = False
        while True:
            here = Counter(
                room.node_id
                for each, room in self._rooms.items()
                if each.deployment == order.deployment and not each.gone
            )
            *better, last = choices(self._settings.placement, here)
            for choice in better:
                if (room := await self._reserve(order, choice, CHOICE_S)) is not None:
                    return room
            if (room := await self._reserve(order, last, LOOK_S)) is not None:
                return room
            words = await self._wants(order)
            order.say(f"waits for room: {words}")
            if not told:
                log.info("ray_no_room", replica=order.replica_id, because=words)
                told = True

    async def _reserve(self, order: LaunchOrder, choice: Choice, wait_s: float) -> Room | None:
        name = f"inferry-{order.replica_id}-{secrets.token_hex(4)}"  # the one of its last life may be there still
        return await self._cluster.reserve(name, order.needs.gpus, choice.only_on, choice.not_on, wait_s)

    async def _wants(self, order: LaunchOrder) -> str:
        """What it wants of a node, and what there is."""
        free = await self._cluster.free()
        demand = self._cluster.demand(order.needs.gpus)
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in demand.items())
        left = ", ".join(f"{free.get(name, 0.0):g} {name}" for name in demand)
        text = f"a node with {wanted} free is wanted; all {await self._cluster.node_count()} nodes together have {left}"
        if self._settings.placement == "strict_spread":
            text += ", and no node may have two replicas of a deployment (runtime.placement)"
        return text

    async def _follow(self, handle: RayHandle, agent: Agent) -> None:
        async def ask(wait_s: float) -> News:
            news: News = await agent.ask("news", wait_s)
            return news

        await handle.follow(ask)
        await self._let_go_of(handle, agent)

    async def _let_go_of(self, handle: RayHandle, agent: Agent | None) -> None:
        """Its agent ends, and its room is anybody's."""
        self._agents.pop(handle, None)
        if agent is not None:
            try:
                async with asyncio.timeout(self._settings.lost_after_s):
                    await agent.ask("clear")
            except (AgentAway, AgentDied, TimeoutError):
                pass
            await agent.kill()
        room = self._rooms.pop(handle, None)
        if room is not None:
            await self._cluster.give_back(room.group)

    def _handle(self, order: LaunchOrder, room: Room | None) -> RayHandle:
        return RayHandle(
            order.replica_id,
            order.deployment,
            "" if room is None else room.host_name,
            Endpoint("0.0.0.0" if room is None else room.address, 0),
            self._log_dir / f"{order.replica_id}.log",
            self._settings.lost_after_s,
        )

    def _none(self, order: LaunchOrder, because: str) -> RayHandle:
        """A start that came to nothing; another try may do better."""
        handle = self._handle(order, None)
        handle.end(EXIT_CODE_UNKNOWN, because)
        return handle

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("ray_task_broke", exc_info=error)


def _heard(asking: asyncio.Future[object]) -> None:
    """That it was not heard is seen by whoever follows it."""
    if not asking.cancelled():
        asking.exception()
