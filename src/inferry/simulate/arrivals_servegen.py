"""Arrivals as ServeGen has them (github.com/alibaba/ServeGen, data/): per client and window of 600 s a rate, and how
bursty; lengths by client and time, where a file says. A client of theirs is a tenant here.

A client is a renewal process: gaps are Gamma's with the window's coefficient of variation, and time runs as fast as
the window's rate. Where the file says Weibull, gaps are Weibull's. Of `thin`, a share of all requests drawn with the seed:
the k-th request after the last one that was kept comes after a sum of k gaps, which of Gamma's is Gamma's (of Weibull's
it is taken for Gamma's of the same mean and coefficient of variation).
"""

from __future__ import annotations

import csv
import gzip
import heapq
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import accumulate, pairwise
from math import ceil, gamma, inf, log
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import TextIO

from inferry.core.load_traces import TraceError
from inferry.simulate.arrivals import Arrival
from inferry.simulate.arrivals_drawn import Draw

WINDOW_S = 600.0
CV_MAX = 1000.0
SHAPE_MIN, SHAPE_MAX = 0.1, 1000.0
"""Of gaps. ServeGen's own go from 0.005 to 797, and from 0.16 to 7.9; far beyond, next to all requests come at once."""
_COLUMNS = ("client", "window_start_s", "rate_rps", "cv", "interarrival_dist", "param1", "param2")
_PAIR = re.compile(r"(\d+): ([0-9.e+-]+)")


@dataclass(frozen=True, slots=True)
class ClientWindow:
    """What a client does from `begin_s` on, for WINDOW_S."""

    begin_s: float
    rate: float
    cv: float
    weibull_shape: float | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """By client and window: token counts of prompts and answers, each with its cumulative share."""

    tables: Mapping[str, Sequence[tuple[float, _Table, _Table]]]
    """In order of when each begins."""

    def at(self, client: str, at_s: float) -> tuple[_Table, _Table] | None:
        """Those of the client's window; of its nearest one that is known, where it has gaps."""
        windows = self.tables.get(client)
        if not windows:
            return None
        _, prompts, answers = windows[max(bisect_right(windows, at_s, key=itemgetter(0)) - 1, 0)]
        return prompts, answers


_Table = tuple[Sequence[int], Sequence[float]]


def read_rates(path: Path) -> dict[str, list[ClientWindow]]:
    """By client, in order of time, without windows in which nothing comes. Raises TraceError, OSError."""
    clients: dict[str, list[ClientWindow]] = {}
    with _opened(path) as lines:
        reader = csv.reader(lines)
        head = next(reader, [])
        if missing := [name for name in _COLUMNS if name not in head]:
            raise TraceError(f"{path}, line 1: rates of ServeGen's clients have a column '{missing[0]}'")
        places = [head.index(name) for name in _COLUMNS]
        for number, row in enumerate(reader, 2):
            try:
                client, begin, rate, cv, law, shape, _ = (row[place] for place in places)
                rate_per_s = _between("rate_rps", rate, 0, 1e9)
                if rate_per_s > 0:
                    weibull = _between("param1", shape, SHAPE_MIN, SHAPE_MAX) if law == "Weibull" else None
                    begin_s = _between("window_start_s", begin, 0, 1e12)
                    window = ClientWindow(begin_s, rate_per_s, _between("cv", cv, 0, CV_MAX), weibull)
                    clients.setdefault(client, []).append(window)
            except (ValueError, IndexError) as error:
                raise TraceError(f"{path}, line {number}: no window of a client: {error}") from None
    for client, windows in clients.items():
        if any(after.begin_s < before.begin_s for before, after in pairwise(windows)):
            raise TraceError(f"{path}: the windows of client {client} are not in order of window_start_s")
    if not clients:
        raise TraceError(f"{path}: no client has a window with a rate above 0")
    return clients


def _between(name: str, text: str, least: float, most: float) -> float:
    value = float(text)
    if not least <= value <= most:  # nor is nan
        raise ValueError(f"{name} is {text}, not from {least:g} to {most:g}")
    return value


def read_lengths(path: Path) -> Lengths:
    """Raises TraceError, OSError."""
    tables: dict[str, list[tuple[float, _Table, _Table]]] = {}
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                known = []
                for begin, window in entry["windows"].items():
                    prompts, answers = _table(window["input_tokens"]), _table(window["output_tokens"])
                    if prompts[0] and answers[0]:
                        known.append((float(begin), prompts, answers))
                tables[str(entry["client"])] = sorted(known, key=itemgetter(0))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                why = f"it has no {error}" if isinstance(error, KeyError) else error
                raise TraceError(
                    f"{path}, line {number}: no lengths of a ServeGen client that are read here (windows with input_tokens "
                    f"and output_tokens): {why}. Without that file beside the rates, lengths are as you say: "
                    "--input-tokens, --output-tokens"
                ) from None
    return Lengths(tables)


def servegen(
    clients: Mapping[str, Sequence[ClientWindow]],
    *,
    prompt: Draw,
    answer: Draw,
    lengths: Lengths | None = None,
    thin: float = 1.0,
    begin_s: float = 0.0,
    end_s: float = inf,
    seed: int = 0,
    deployment: str = "",
) -> Iterator[Arrival]:
    """In order of time, from `begin_s` of the trace on, which is 0 then. `prompt`, `answer`: lengths of clients that
    `lengths` does not know. `thin`: this share of the requests."""
    assert 0 < thin <= 1
    sources = [
        _client_times(name, windows, thin, begin_s, end_s, Random(f"{seed} {name}"))
        for name, windows in clients.items()
    ]
    rng = Random(f"{seed} lengths")
    for at_s, name in heapq.merge(*sources):
        tables = None if lengths is None else lengths.at(name, at_s)
        if tables is None:
            sizes = prompt(rng), answer(rng)
        else:
            sizes = _drawn(tables[0], rng), _drawn(tables[1], rng)
        yield Arrival(at_s - begin_s, *sizes, (), name, deployment)


def _client_times(
    name: str, windows: Sequence[ClientWindow], thin: float, begin_s: float, end_s: float, rng: Random
) -> Iterator[tuple[float, str]]:
    left = -1.0
    """Expected requests until the next one that is kept; below 0: not drawn yet."""
    for window in windows:
        at_s, until_s = max(window.begin_s, begin_s), min(window.begin_s + WINDOW_S, end_s)
        if at_s >= until_s:
            continue
        if left < 0:
            left = _gap(window, thin, rng) * rng.random()  # the process has long begun
        while at_s + left / window.rate < until_s:
            at_s += left / window.rate
            yield at_s, name
            left = _gap(window, thin, rng)
        left -= (until_s - at_s) * window.rate


def _gap(window: ClientWindow, thin: float, rng: Random) -> float:
    """In expected requests, up to the next one that is kept."""
    gaps = 1 if thin >= 1 else max(ceil(log(1 - rng.random()) / log(1 - thin)), 1)
    shape = window.weibull_shape
    if gaps == 1 and shape is not None:
        return rng.weibullvariate(1 / gamma(1 + 1 / shape), shape)
    spread = max(window.cv, 0.01) ** 2
    return rng.gammavariate(gaps / spread, spread)


def _drawn(table: _Table, rng: Random) -> int:
    values, shares = table
    place = bisect_right(shares, rng.random() * shares[-1])
    return max(values[min(place, len(values) - 1)], 1)


def _table(text: str) -> _Table:
    """From `{9: 0.25, 12: 0.75}`."""
    pairs = [(int(value), float(share)) for value, share in _PAIR.findall(text)]
    return [value for value, _ in pairs], list(accumulate(share for _, share in pairs))


def _opened(path: Path) -> TextIO:
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    return TextIOWrapper(gzip.open(path), encoding="utf-8") if is_packed else path.open(encoding="utf-8")
