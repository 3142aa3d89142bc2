"""Keeps a process's keys as the store has them: a key revoked by any process or host is dead here within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from inferry.core.api_key import ApiKey
from inferry.core.errors import InferryError

POLL_S = 0.3
"""A change is seen after 0.3 s at most, which leaves time to read 10,000 keys and hand them to the gateways."""


class KeySource(Protocol):
    """What a KeyStore has; both may block."""

    def version(self) -> int: ...

    def all(self) -> list[ApiKey]: ...


async def watch_keys(
    source: KeySource, on_keys: Callable[[list[ApiKey]], None], *, poll_s: float = POLL_S
) -> None:
    """Calls `on_keys` on the event loop with all keys: at the start, and after each change. Runs until cancelled.

    While the store is away, the last keys stay in force, and it is asked again at the same pace.
    """
    log = structlog.get_logger()
    seen: int | None = None
    away = False
    while True:
        try:
            version = await asyncio.to_thread(source.version)
            if version != seen:
                # The version is older than the keys or as old, never newer: a change in between is seen next time.
                on_keys(await asyncio.to_thread(source.all))
                seen = version
        except InferryError as error:
            if not away:
                away = True
                log.warning("key_store_away", error=error.message, code=error.code)
        else:
            if away:
                away = False
                log.info("key_store_back", version=version)
        await asyncio.sleep(poll_s)
