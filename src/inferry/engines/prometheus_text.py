"""Reads the Prometheus exposition format, as engines print it: tolerant, and only as much as we need."""

from __future__ import annotations

import math


def sum_by_name(page: str) -> dict[str, float]:
    """Each metric's name and the sum over its label sets, without NaN and infinite samples.

    Comments, broken lines and timestamps are passed over: half a page is better than none. A histogram
    shows up as `NAME_sum` and `NAME_count`; its buckets are left out, since their sum means nothing.
    """
    sums: dict[str, float] = {}
    for line in page.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, rest = _split_sample(line)
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
            sums[name] = sums.get(name, 0.0) + value
    return sums


def whole(sums: dict[str, float], name: str) -> int | None:
    """The count under `name`; also found with or without `_total`, which engines add and drop at will."""
    other = name.removesuffix("_total") if name.endswith("_total") else f"{name}_total"
    value = sums.get(name, sums.get(other))
    return None if value is None else int(value)


def _split_sample(line: str) -> tuple[str, str]:
    """Name, and what follows the labels. Label values may hold braces, spaces and escaped quotes."""
    brace = line.find("{")
    space = line.find(" ")
    if brace < 0 or (0 <= space < brace):
        name, _, rest = line.partition(" ")
        return name, rest
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
            return line[:brace], line[at + 1 :]
    return "", ""
