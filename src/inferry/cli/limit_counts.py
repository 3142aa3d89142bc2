"""Who counts the limits: this control process, or the Redis that several hosts share."""

from __future__ import annotations

import secrets
import socket

from inferry.core.clock import Clock
from inferry.core.gateway_settings import SharedLimits
from inferry.gateway.limit_bank import MemoryLimitBank
from inferry.gateway.period_starts import UsedBefore
from inferry.gateway.shared_limit_bank import SharedLimitBank
from inferry.ledger.redis_limits import RedisBank


def make_limit_bank(
    settings: SharedLimits, clock: Clock, used_before: UsedBefore
) -> MemoryLimitBank | SharedLimitBank:
    """`used_before`: what the ledger has of a calendar budget."""
    if settings.redis is None:
        return MemoryLimitBank(clock, used_before)
    host = f"{socket.gethostname()[:60]}-{secrets.token_hex(4)}"  # another one after each start
    redis = RedisBank(settings.redis, settings.namespace, host, clock=clock)
    return SharedLimitBank(redis, host, settings.when_gone, clock=clock, used_before=used_before)
