"""What this gateway process sees of its replicas: requests under way, and when anything last came from them.

It is told to the control process twice a second, and only while there is something under way: a live stream is
the best witness of its engine's health, and costs nothing that was not there anyway. Nothing is done per chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferry.core.replica import ReplicaProgress
from inferry.gateway.back_pressure import BackPressure


def progress_of(
    active: Iterable[object], heard_s: Mapping[str, float], now_s: float
) -> dict[str, ReplicaProgress]:
    """By replica, of those that are waited for. `heard_s`: when a request there last ended with an answer."""
    waiting: dict[str, int] = {}
    streams: dict[str, int] = {}
    heard = dict(heard_s)
    for each in active:
        if not isinstance(each, BackPressure) or each.replica_id is None:
            continue
        name = each.replica_id
        if each.has_heard:
            heard[name] = max(heard.get(name, 0.0), each.activity_s)
        if each.waits_for_engine:
            waiting[name] = waiting.get(name, 0) + 1
            begun = each.has_heard and each.answer is not None and each.answer.is_stream
            streams[name] = streams.get(name, 0) + begun
    return {
        name: ReplicaProgress(count, streams[name], max(now_s - heard[name], 0.0) if name in heard else None)
        for name, count in waiting.items()
    }
