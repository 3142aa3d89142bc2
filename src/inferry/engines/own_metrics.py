"""An engine's own metrics, of which a file's scaling rules name some: one figure each, of one replica."""

from __future__ import annotations

from collections.abc import Collection

from inferry.engines.prometheus_text import Sample, samples

TOTAL = "_total"
_ADDED = (TOTAL, "_sum", "_count")
"""Counters, and a histogram's parts: over label sets (models, GPUs, reasons), their sum is what there was."""


def own_metrics(page: str, names: Collection[str]) -> dict[str, float]:
    """Those of `names` that the page has. With several label sets: of counters the sum, of gauges the mean, since
    shares and temperatures can't be added. Found with or without `_total`, which engines add and drop at will."""
    wanted = {name.removesuffix(TOTAL): name for name in names}
    found: dict[str, list[Sample]] = {}
    for sample in samples(page):
        name = wanted.get(sample.name.removesuffix(TOTAL))
        if name is not None:
            found.setdefault(name, []).append(sample)
    return {name: _one(name, each) for name, each in found.items()}


def _one(name: str, found: list[Sample]) -> float:
    total = sum(sample.value for sample in found)
    is_added = name.endswith(_ADDED) or any(sample.name.endswith(TOTAL) for sample in found)
    return total if is_added else total / len(found)
