"""What the GPUs drew in the steady window, and how much energy that is for each token.

Power is a GPU's, not a replica's: each GPU counts once, however many replicas compute on it. Where the power of all
that serves, and of nothing else, can't be told, there is no figure, and the reason is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

from msgspec import Struct

from inferry.bench.records import EngineSample, GpuSample
from inferry.bench.steady import Steadiness

GAP_S = 5.0
"""Without a reading for longer, nobody knows what a GPU drew. They come about once a second."""


class Energy(Struct, frozen=True, kw_only=True):
    """Of the window."""

    gpus: int
    """Different ones that replicas named."""
    power_w: float | None = None
    """On average, all of them together."""
    j_per_output_token: float | None = None
    """Power by output tokens per second: 700 W at 1,000 tokens/s are 0.7 J. None also: there were none."""
    why_not: str = ""
    """Why there is no power; empty: there is."""


def energy(
    samples: Sequence[EngineSample], window: Steadiness | None, output_tokens_per_s: float | None
) -> Energy | None:
    """None: nobody named a GPU."""
    if window is None:
        return None
    seen = [each for each in samples if window.from_s <= each.at_s <= window.to_s]
    looks: dict[int, list[tuple[float, GpuSample]]] = {}
    replicas: dict[int, set[str]] = {}
    for sample in seen:
        for gpu in sample.gpus:
            looks.setdefault(gpu.gpu, []).append((sample.at_s, gpu))
            replicas.setdefault(gpu.gpu, set()).add(sample.replica)
    if not looks:
        return None
    silent = sorted({each.replica for each in seen} - set().union(*replicas.values()))
    if silent:
        return Energy(gpus=len(looks), why_not=f"nobody knows on which GPUs {silent[0]} computes")
    why_not = _problem(looks, replicas, window)
    if why_not:
        return Energy(gpus=len(looks), why_not=why_not)
    power_w = sum(fmean(watts for _, watts in _watts(of_one)) for of_one in looks.values())
    per_token = power_w / output_tokens_per_s if output_tokens_per_s else None
    return Energy(gpus=len(looks), power_w=power_w, j_per_output_token=per_token)


def _problem(
    looks: Mapping[int, Sequence[tuple[float, GpuSample]]],
    replicas: Mapping[int, set[str]],
    window: Steadiness,
) -> str:
    """Why the sum over GPUs would not be the power of all that serves; empty: it is."""
    for gpu, of_one in sorted(looks.items()):
        if max(look.users for _, look in of_one) > len(replicas[gpu]):
            return f"GPU {gpu} computes for others too"
        times = [at_s for at_s, _ in _watts(of_one)]
        if not times:
            return f"GPU {gpu} does not tell what it draws"
        gap_s = max(later - earlier for earlier, later in pairwise([window.from_s, *times, window.to_s]))
        if gap_s > GAP_S:
            return f"GPU {gpu} told nothing for {gap_s:.1f} s of the window"
    return ""


def _watts(of_one: Sequence[tuple[float, GpuSample]]) -> list[tuple[float, float]]:
    return sorted((at_s, look.power_w) for at_s, look in of_one if look.power_w is not None)
