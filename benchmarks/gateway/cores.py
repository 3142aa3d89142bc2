"""Which core a proxy may use, and which are for the upstream and the client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """Processes started inside `proxy()` or `others()` stay on those cores, and so do their threads."""

    for_proxy: frozenset[int]
    for_others: frozenset[int]

    @property
    def apart(self) -> bool:
        """Whether the proxy has its cores to itself, as far as this benchmark goes."""
        return not self.for_proxy & self.for_others

    @contextlib.contextmanager
    def proxy(self) -> Iterator[None]:
        with _only(self.for_proxy):
            yield

    @contextlib.contextmanager
    def others(self) -> Iterator[None]:
        with _only(self.for_others):
            yield


def share_out(proxy_cores: int = 1) -> Cores:
    """The last `proxy_cores` cores for the proxy and the rest for the others; all for both if too few."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= proxy_cores:
        return Cores(frozenset(cores), frozenset(cores))
    return Cores(frozenset(cores[-proxy_cores:]), frozenset(cores[:-proxy_cores]))


@contextlib.contextmanager
def _only(cores: frozenset[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
