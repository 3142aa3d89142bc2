"""Reads the Prometheus exposition format, as engines print it: tolerant, and only as much as we need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: str
    """As they were written, with their braces; empty if there are none."""
    value: float


def samples(page: str) -> Iterator[Sample]:
    """What a page says, without NaN and infinite values.

    Comments, broken lines and timestamps are passed over: half a page is better than none. A histogram
    shows up as `NAME_sum` and `NAME_count`; its buckets are left out, since their sum means nothing.
    """
    for line in page.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, labels, rest = _split_sample(line)
        if not name or name.endswith("_bucket"):
            continue
        fields = rest.split()
        if not fields:
            continue
        try:
            value = float(fields[0])
        except ValueError:
            continue
        if math.isfinite(value):
            yield Sample(name, labels, value)


def sum_by_name(page: str) -> dict[str, float]:
    """Each metric's name and the sum over its label sets."""
    sums: dict[str, float] = {}
    for sample in samples(page):
        sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def peak(page: str, *names: str) -> float | None:
    """The largest value of the first of `names` that the page has: of shares, where a sum means nothing."""
    found = list(samples(page))
    for name in names:
        values = [sample.value for sample in found if sample.name == name]
        if values:
            return max(values)
    return None


def whole(sums: dict[str, float], name: str) -> int | None:
    """The count under `name`; also found with or without `_total`, which engines add and drop at will."""
    other = name.removesuffix("_total") if name.endswith("_total") else f"{name}_total"
    value = sums.get(name, sums.get(other))
    return None if value is None else int(value)


def _split_sample(line: str) -> tuple[str, str, str]:
    """Name, labels, and what follows them. Label values may hold braces, spaces and escaped quotes."""
    brace = line.find("{")
    space = line.find(" ")
    if brace < 0 or (0 <= space < brace):
        name, _, rest = line.partition(" ")
        return name, "", rest
    quoted = False
    escaped = False
    for at in range(brace + 1, len(line)):
        char = line[at]
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = quoted
        elif char == '"':
            quoted = not quoted
        elif char == "}" and not quoted:
            return line[:brace], line[brace : at + 1], line[at + 1 :]
    return "", "", ""
