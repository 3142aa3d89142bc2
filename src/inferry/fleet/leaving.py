"""A replica's way out: it gets no new requests, and is ended when it holds none.

draining ── holds nothing ─────────────────────────────────────► may end
    └─ drain_s over, and another one is ready ► handing over ──► may end
          └─ some stay: nobody can take them ── drain_max_s ───► may end, and they break off
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from inferry.fleet.gateway_side import GatewaySide

log = structlog.get_logger()

DRAIN_LOOK_S = 0.05
IDLE_LOOKS = 2
"""So often in a row a draining replica must be found idle: a gateway process may hear of the draining a moment
later than others, and send it a last request."""
HAND_OVER_AGAIN_S = 1.0
"""Whoever could not go on elsewhere may be able to now."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """What replicas need on their way out."""

    gateway: GatewaySide
    drain_s: float
    """How long they finish what they have before it is handed over."""

    def with_drain(self, drain_s: float) -> Leaving:
        return replace(self, drain_s=drain_s)

    async def until_idle(
        self, replica_id: str, *, others_ready: Callable[[], bool], drain_max_s: float, because: str
    ) -> None:
        """Returns when the replica, which drains, holds nothing, or when `drain_max_s` are over (or `drain_s`, if
        that is longer)."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        asked_s = -math.inf
        idle_looks = 0
        while idle_looks < IDLE_LOOKS:
            await asyncio.sleep(DRAIN_LOOK_S)
            held = self.gateway.in_flight(replica_id)
            idle_looks = 0 if held else idle_looks + 1
            waited_s = loop.time() - began_s
            if not held or waited_s < self.drain_s:
                continue
            if waited_s >= drain_max_s:
                log.warning("drain_cut", replica=replica_id, in_flight=held, after_s=round(waited_s, 1))
                return
            if loop.time() - asked_s >= HAND_OVER_AGAIN_S and others_ready():
                asked_s = loop.time()
                log.info("hand_over", replica=replica_id, in_flight=held, because=because)
                self.gateway.hand_over(replica_id, because)
