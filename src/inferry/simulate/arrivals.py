"""What comes to a simulated service, and when: read from traces, or drawn by a seed. All of it lazily.

Iterators in order of time. Those of several deployments are joined by `merged`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from operator import attrgetter
from pathlib import Path

import msgspec

from inferry.core.limits import Priority
from inferry.core.load_traces import (
    TracedRequest,
    TraceError,
    TraceFormat,
    read_azure,
    read_burstgpt,
    read_mooncake,
    trace_format,
)


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One request. Times are seconds since the begin of the run."""

    at_s: float
    prompt_tokens: int
    answer_tokens: int
    blocks: tuple[int, ...] = ()
    """Ids of the prompt's blocks: an equal one means an equal prompt up to the block's end."""
    tenant: str = ""
    deployment: str = ""
    """Empty: the first one."""
    session: str | None = None
    priority: Priority = "normal"


_READERS: dict[TraceFormat, Callable[[Path], list[TracedRequest]]] = {
    "mooncake": read_mooncake,
    "azure": read_azure,
    "burstgpt": read_burstgpt,
}


def read_trace(
    path: Path,
    *,
    speed: float = 1.0,
    repeat: int = 1,
    deployment: str = "",
    tenant: str = "",
) -> Iterator[Arrival]:
    """A published trace, `speed` times as fast, `repeat` times in a row; which one, its first line tells.

    Raises TraceError that names file and line, OSError; before the first arrival.
    """
    requests = _READERS[trace_format(path)](path)
    if not requests:
        raise TraceError(f"{path} has no requests")
    return traced(requests, speed=speed, repeat=repeat, deployment=deployment, tenant=tenant)


def traced(
    requests: Sequence[TracedRequest],
    *,
    speed: float = 1.0,
    repeat: int = 1,
    deployment: str = "",
    tenant: str = "",
) -> Iterator[Arrival]:
    """Requests of a trace, in order. Between two rounds there is one mean distance; an answer has one token or more."""
    assert speed > 0
    assert repeat >= 1
    last_s = requests[-1].at_s if requests else 0.0
    round_s = last_s * (1 + 1 / max(len(requests) - 1, 1)) / speed
    for round in range(repeat):
        begin_s = round * round_s
        for each in requests:
            yield Arrival(
                begin_s + each.at_s / speed,
                max(each.prompt_tokens, 1),
                max(each.answer_tokens, 1),
                each.blocks,
                tenant,
                deployment,
            )


def merged(sources: Iterable[Iterable[Arrival]]) -> Iterator[Arrival]:
    """All of them, in order of time; at one moment, the earlier source's first."""
    return heapq.merge(*sources, key=attrgetter("at_s"))


def until(arrivals: Iterable[Arrival], end_s: float = inf, begin_s: float = 0.0) -> Iterator[Arrival]:
    """Those of a time span; it begins at 0 then."""
    for each in arrivals:
        if each.at_s >= end_s:
            return
        if each.at_s >= begin_s:
            yield each if begin_s == 0 else msgspec.structs.replace(each, at_s=each.at_s - begin_s)
