"""A replica's log on its node, of which everything is also handed on to the machine that asked for the replica."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from inferry.runtime.replica_log import ReplicaLog

WAITING_BYTES_MAX = 4 * 1024 * 1024
"""Not fetched yet. An engine that floods while its gateway is away loses the oldest there; its node has them."""
TAKE_BYTES_MAX = 256 * 1024


class RelayedLog(ReplicaLog):
    """Written by one thread, taken from by another."""

    def __init__(self, path: Path, on_news: Callable[[], None]) -> None:
        """`on_news` is called from the writing thread; must not block."""
        super().__init__(path)
        self._on_news = on_news
        self._waiting = bytearray()
        self._waiting_lock = threading.Lock()
        self._left_out = 0

    def write(self, chunk: bytes) -> None:
        super().write(chunk)
        with self._waiting_lock:
            self._waiting += chunk
            surplus = len(self._waiting) - WAITING_BYTES_MAX
            if surplus > 0:
                del self._waiting[:surplus]
                self._left_out += surplus
        self._on_news()

    def take(self) -> tuple[bytes, bool]:
        """What came since the last time, or the first part of it; and whether there is more."""
        with self._waiting_lock:
            chunk = bytes(self._waiting[:TAKE_BYTES_MAX])
            del self._waiting[: len(chunk)]
            if self._left_out:
                chunk = b"\n[inferry: %d bytes of output are on the node alone]\n" % self._left_out + chunk
                self._left_out = 0
            return chunk, bool(self._waiting)
