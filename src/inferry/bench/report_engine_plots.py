"""What the engines' own metrics said during a run, on the clock of its other plots: why it got slow where it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from inferry.bench.plot_scales import Unit, axis_for, share_axis, time_axis
from inferry.bench.plot_svg import STYLES, Line, Plot, Rule
from inferry.bench.records import EngineSample, RunRecord
from inferry.bench.report_series import SINCE_START, Pairs, ended_s

REPLICAS_MAX = STYLES
"""Whose lines can be told apart."""


Read = Callable[[EngineSample], float | None]


def engines_view(record: RunRecord, events: tuple[Rule, ...] = ()) -> list[Plot]:
    """Plots of what the engines said; none for what they did not say. `events`: marked in each of them."""
    names = sorted({sample.replica for sample in record.samples})
    by_name = {name: [each for each in record.samples if each.replica == name] for name in names}
    x = time_axis(ended_s(record))

    def plot(title: str, meaning: str, unit: Unit, named: dict[str, Pairs], note: str = "") -> Plot | None:
        said = {name: pairs for name, pairs in named.items() if pairs}
        if not said:
            return None
        values = [y for pairs in said.values() for _, y in pairs if y is not None]
        return Plot(
            title=title,
            meaning=meaning,
            x_name=SINCE_START,
            x=x,
            y=share_axis() if unit == "share" else axis_for(values, unit, log=False),
            lines=tuple(
                Line(name=name, points=pairs, style=style, stepped=unit == "number")
                for style, (name, pairs) in enumerate(said.items())
            ),
            rules=events,
            note=note,
        )

    def per_replica(
        title: str, meaning: str, unit: Unit, read: Callable[[list[EngineSample]], Pairs]
    ) -> Plot | None:
        note = f"The first {REPLICAS_MAX} of {len(names)} replicas." if len(names) > REPLICAS_MAX else ""
        return plot(title, meaning, unit, {name: read(by_name[name]) for name in names[:REPLICAS_MAX]}, note)

    shown = [
        plot(
            "Engine: running and waiting",
            "Requests that engines compute, and those they hold back; all replicas together.",
            "number",
            {
                "running": _summed(record.samples, lambda each: each.running),
                "waiting": _summed(record.samples, lambda each: each.waiting),
            },
        ),
        per_replica(
            "Engine: KV cache",
            "How much of it is in use. When it is full, requests wait or are preempted.",
            "share",
            lambda samples: _readings(samples, lambda each: each.kv_cache_use),
        ),
        per_replica(
            "Engine: preemptions",
            "Requests that lost their place in the KV cache and were computed again, since the run's start.",
            "number",
            lambda samples: _since_start(samples, lambda each: each.preemptions),
        ),
        per_replica(
            "Engine: prefix cache hits",
            "Share of prompt tokens that were already in the cache, between one look and the next.",
            "share",
            _hit_share,
        ),
        per_replica(
            "Engine: power",
            "Drawn by the GPUs that a replica computes on; one that several share is in each one's line.",
            "W",
            lambda samples: _readings(samples, lambda each: each.power_w),
        ),
    ]
    return [each for each in shown if each is not None]


def _summed(samples: Sequence[EngineSample], read: Read) -> Pairs:
    """At each look at any replica, the sum of what each of them said last."""
    latest: dict[str, float] = {}
    pairs: list[tuple[float, float | None]] = []
    for each in sorted(samples, key=lambda each: each.at_s):
        value = read(each)
        if value is not None:
            latest[each.replica] = value
            pairs.append((max(each.at_s, 0.0), sum(latest.values())))
    return tuple(pairs)


def _readings(samples: list[EngineSample], read: Read) -> Pairs:
    pairs = tuple((max(each.at_s, 0.0), read(each)) for each in samples)
    return pairs if any(value is not None for _, value in pairs) else ()


def _since_start(samples: list[EngineSample], read: Read) -> Pairs:
    pairs = _readings(samples, read)
    start = next((value for _, value in pairs if value is not None), 0)
    # A count that falls is one of an engine that was started again.
    return tuple((at_s, None if value is None else max(value - start, 0)) for at_s, value in pairs)


def _hit_share(samples: list[EngineSample]) -> Pairs:
    pairs: list[tuple[float, float | None]] = []
    for before, after in pairwise(samples):
        asked = (after.prefix_query_tokens or 0) - (before.prefix_query_tokens or 0)
        hit = (after.prefix_hit_tokens or 0) - (before.prefix_hit_tokens or 0)
        pairs.append((max(after.at_s, 0.0), hit / asked if asked > 0 and 0 <= hit <= asked else None))
    return tuple(pairs) if any(value is not None for _, value in pairs) else ()
