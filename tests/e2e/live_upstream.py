"""An upstream whose every byte a test decides, in a thread of its own, for an `inferry up` in other processes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from .gateway_harness import Handler, Upstream, upstream


@contextlib.contextmanager
def live_upstream(handler: Handler) -> Iterator[Upstream]:
    """Serves until the block ends; `seen` may be read from outside meanwhile."""
    ready = threading.Event()
    made: list[tuple[Upstream, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with upstream(handler) as state:
            made.append((state, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="upstream")
    thread.start()
    assert ready.wait(10)
    [(state, loop, stop)] = made
    try:
        yield state
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
