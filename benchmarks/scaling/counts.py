"""Requests in each second, drawn from ServeGen's rates of clients: a renewal process per client, its gaps Gamma or
Weibull with the rate and the coefficient of variation that its windows of 600 s give.

Each client's process runs on through the borders of its windows (in operational time, which a rate stretches to real
time), so that borders change the rate and bring no burst of their own.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from math import gamma, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 600
Seconds = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Window:
    number: int
    rate: float
    cv: float
    weibull: bool


def servegen(path: Path, *, seed: int = 0, keep: Path | None = None) -> Seconds:
    """Requests of each second of the trace; kept in the folder `keep` for the next time."""
    kept = keep / f"{path.name.removesuffix('.csv.gz')}-{seed}.npy" if keep is not None else None
    if kept is not None and kept.is_file():
        return np.asarray(np.load(kept), dtype=np.int64)
    seconds = np.zeros(0, dtype=np.int64)
    for client, windows in _clients(path):
        generator = np.random.default_rng((seed, client))
        end_s = (max(each.number for each in windows) + 1) * WINDOW_S
        if end_s > len(seconds):
            seconds = np.pad(seconds, (0, end_s - len(seconds)))
        for begin_s, times_s in _arrivals(windows, generator):
            within = np.clip(times_s.astype(np.int64), 0, WINDOW_S - 1)
            seconds[begin_s : begin_s + WINDOW_S] += np.bincount(within, minlength=WINDOW_S)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, seconds.astype(np.uint16))
    return seconds


def _clients(path: Path) -> Iterator[tuple[int, list[_Window]]]:
    """Rows of one client stand together."""
    client: int | None = None
    windows: list[_Window] = []
    with gzip.open(path, "rt") as lines:
        next(lines)
        for line in lines:
            name, begin_s, rate, cv, kind, *_ = line.rstrip("\n").split(",")
            if int(float(name)) != client and client is not None:
                yield client, windows
                windows = []
            client = int(float(name))
            windows.append(
                _Window(round(float(begin_s)) // WINDOW_S, float(rate), float(cv or 0), kind == "Weibull")
            )
    if client is not None:
        yield client, windows


def _arrivals(
    windows: list[_Window], generator: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Of each window with requests: where it begins, and the moments within it."""
    position = 0.0
    """In operational time (a mean gap is 1), where the next request is, from the begin of the window."""
    for window in windows:
        if window.rate <= 0:
            continue
        width = window.rate * WINDOW_S
        parts = []
        while position < width:
            count = int((width - position) * 1.05 + 4 * max(window.cv, 1) * sqrt(width) + 16)
            places = position + np.cumsum(_gaps(window, count, generator))
            parts.append(np.concatenate(([position], places[:-1])))
            position = float(places[-1])
        if parts:
            places = np.concatenate(parts)
            after = int(np.searchsorted(places, width))
            if after < len(places):
                position = float(places[after])
            yield window.number * WINDOW_S, places[:after] / window.rate
        position -= width


def _gaps(window: _Window, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Gaps with mean 1."""
    cv = min(max(window.cv, 0.05), 50.0)
    if window.weibull:
        shape = _weibull_shape(cv)
        return generator.weibull(shape, count) / gamma(1 + 1 / shape)
    return generator.gamma(1 / cv**2, cv**2, count)


def _weibull_shape(cv: float) -> float:
    """The shape whose coefficient of variation is `cv`, by bisection."""
    low, high = 0.12, 20.0
    for _ in range(60):
        middle = sqrt(low * high)
        first, second = gamma(1 + 1 / middle), gamma(1 + 2 / middle)
        if sqrt(max(second / first**2 - 1, 0)) > cv:
            low = middle
        else:
            high = middle
    return sqrt(low * high)
