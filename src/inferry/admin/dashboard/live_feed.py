"""What open pages are told each second, by server-sent events: everything once, then what changed.

However many look, it is put together once; while nobody looks, not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

PAUSE_S = 1.0
BEHIND_MAX = 5
"""Updates that wait for a slow page; then it gets everything anew instead."""

Parts = Mapping[str, Mapping[str, Any]]
"""Sections of rows by their ids: deployments, replicas, ... Rows are plain data."""


class LiveFeed:
    """Owned by one event loop."""

    def __init__(self, look: Callable[[], Awaitable[Parts]], pause_s: float = PAUSE_S) -> None:
        """`look()` puts together how everything is now."""
        self._look = look
        self._pause_s = pause_s
        self._now: Parts = {}
        self._viewers: set[_Viewer] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """How many pages are open."""
        return len(self._viewers)

    async def events(self) -> AsyncIterator[bytes]:
        """For one page, until it is left: `event: all`, then an `event: change` each second."""
        viewer = _Viewer()
        self._viewers.add(viewer)
        try:
            if self._looking is None or self._looking.done():
                self._now = await self._look()
                self._looking = asyncio.create_task(self._look_forever())
            viewer.start_anew(self._now)
            while update := await viewer.updates.get():
                yield update
        finally:
            self._viewers.discard(viewer)
            if not self._viewers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def close(self) -> None:
        """End all pages' streams: a server that is about to end waits for them."""
        for viewer in self._viewers:
            viewer.updates.put_nowait(b"")

    async def _look_forever(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._pause_s)
                before, self._now = self._now, await self._look()
                update = _event("change", changes(before, self._now))
                for viewer in self._viewers:
                    viewer.tell(update, self._now)
        except Exception:
            self.close()  # a page that is told nothing more must not go on saying "live": it asks anew
            raise


class _Viewer:
    def __init__(self) -> None:
        self.updates: asyncio.Queue[bytes] = asyncio.Queue()

    def start_anew(self, now: Parts) -> None:
        while not self.updates.empty():
            self.updates.get_nowait()
        self.updates.put_nowait(_event("all", now))

    def tell(self, update: bytes, now: Parts) -> None:
        if self.updates.qsize() >= BEHIND_MAX:
            self.start_anew(now)
        else:
            self.updates.put_nowait(update)


def changes(before: Parts, now: Parts) -> dict[str, dict[str, Any]]:
    """By section, the rows that are new or others than before; None for those that are gone."""
    changed: dict[str, dict[str, Any]] = {}
    for section, rows in now.items():
        old = before.get(section, {})
        different = {name: row for name, row in rows.items() if old.get(name) != row}
        different |= {name: None for name in old if name not in rows}
        if different:
            changed[section] = different
    return changed


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
