"""Looks at large requests in threads: milliseconds per megabyte are nothing for one request, and too long a pause for
all the others.

Two threads, not more: what they compute takes turns with the event loop, 5 ms each (Python's switch interval).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from inferry.core.request import Route
from inferry.gateway.filters.external_check import Check
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.verdict import Blocked, Masked, Verdict, blocked

log = structlog.get_logger()

LARGE_BYTES = 64 * 1024
"""All detectors together take about half a millisecond for so much (docs/filters.md), a hundred times that if it is
made up to be slow."""
THREADS = 2
FAULT_RULE = "fault"
"""Stands in place of a rule's name when looking failed: what nobody has looked at does not go on."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The verdict of the rules that are applied here, and what is still to be asked of others."""

    verdict: Verdict
    checks: Sequence[Check] = ()


def look_at(filters: FilterSet, route: Route, body: bytes, tenant: str, key_id: str | None) -> Looked:
    """What a request's filters say. Safe in any thread: a FilterSet never changes."""
    verdict = filters.input(route, body, tenant, key_id)
    if isinstance(verdict, Blocked):
        return Looked(verdict)
    if isinstance(verdict, Masked):
        body = verdict.body
    return Looked(verdict, filters.pending_input(route, body, tenant, key_id))


class FilterThreads:
    """The threads of one gateway process; none is started before the first large request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="filters")

    def run(self, look: Callable[[], Looked], on_looked: Callable[[Looked], None]) -> asyncio.Future[Looked]:
        """Calls `on_looked` in the event loop's thread, unless the future is cancelled before."""

        def on_done(done: asyncio.Future[Looked]) -> None:
            if done.cancelled():
                return
            if (fault := done.exception()) is not None:
                log.error("filter_broke", exc_info=fault)
                on_looked(Looked(blocked(FAULT_RULE, "request", "it could not be looked at")))
            else:
                on_looked(done.result())

        future = self._loop.run_in_executor(self._executor, look)
        future.add_done_callback(on_done)
        return future

    def close(self) -> None:
        """At shutdown. One that is being looked at is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
