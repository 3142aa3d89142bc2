"""One replica on a node of a Ray cluster, as the fleet holds it: kept up to date by what its agent tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from inferry.core.replica import Endpoint
from inferry.runtime.base import EXIT_CODE_UNKNOWN, Exit, Vitals
from inferry.runtime.ray.agent import News
from inferry.runtime.ray.lost import AgentAway, AgentDied
from inferry.runtime.replica_log import ReplicaLog

log = structlog.get_logger()

NEWS_S = 1.0
"""An agent that has nothing to tell says so after this."""
AGAIN_S = 0.2
"""Between two tries to reach an agent that can't be reached."""

AskNews = Callable[[float], Awaitable[News]]
"""Waits up to so many seconds for news. Raises AgentAway where the agent can't be reached now, AgentDied where it is
gone."""


class RayHandle:
    """See the module. `follow` it in a task."""

    def __init__(
        self,
        replica_id: str,
        deployment: str,
        node: str,
        endpoint: Endpoint,
        log_path: Path,
        lost_after_s: float,
    ) -> None:
        """`node`: its host's name, for people; empty: none was found."""
        self.replica_id = replica_id
        self.deployment = deployment
        self.node = node
        self.endpoint = endpoint
        self.pid: int | None = None
        """Its number on the node means nothing here."""
        self.log_path = log_path
        self._log = ReplicaLog(log_path)
        self._lost_after_s = lost_after_s
        self._vitals: Vitals | None = None
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = loop.create_future()
        self._gone: asyncio.Future[Exit] = loop.create_future()

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left, as far as anybody can tell."""
        return self._gone.done()

    async def ended(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._gone)

    def log_tail(self) -> Sequence[str]:
        return self._log.tail()

    def vitals(self) -> Vitals | None:
        """Of a second ago at most, while the node answers."""
        return None if self._ended.done() else self._vitals

    async def follow(self, ask: AskNews) -> bool:
        """Until the replica's end. Whether it was told by the agent; else the agent is lost, and nobody knows what it
        does."""
        loop = asyncio.get_running_loop()
        heard_s = loop.time()
        while True:
            try:
                async with asyncio.timeout(max(self._lost_after_s, 2 * NEWS_S)):
                    news = await ask(NEWS_S)
            except AgentDied as error:
                self.end(EXIT_CODE_UNKNOWN, f"node {self.node}: {error}")
                return False
            except (AgentAway, TimeoutError) as error:
                if loop.time() - heard_s >= self._lost_after_s:
                    said = f" ({error})" if str(error) else ""
                    self.end(
                        EXIT_CODE_UNKNOWN,
                        f"node {self.node} has not answered for {self._lost_after_s:g} s{said}",
                    )
                    return False
                await asyncio.sleep(AGAIN_S)
                continue
            heard_s = loop.time()
            if news.output:
                self._log.write(news.output)
            self._vitals = None if news.cpu_s is None else Vitals(news.cpu_s, news.stopped)
            if news.code is not None and not self._ended.done():
                self._ended.set_result(Exit(news.code))
            if news.gone:
                self.end(EXIT_CODE_UNKNOWN if news.code is None else news.code)
                return True

    def end(self, code: int, because: str = "") -> None:
        """It is over, for good. `because`: for the log, where its engine could not say it."""
        if self._gone.done():
            return
        if because:
            log.warning("ray_replica_lost", replica=self.replica_id, because=because)
            self._log.write(f"[ray] {because}\n".encode())
        if not self._ended.done():
            self._ended.set_result(Exit(code, because))
        self._gone.set_result(self._ended.result())
        self._log.close()
