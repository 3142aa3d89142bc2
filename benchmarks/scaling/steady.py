"""Does it hold still in steady load? Twelve hours at one rate, with bursts."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.scaling.policies import ours
from benchmarks.scaling.scenes import scenes
from benchmarks.scaling.trials import trial

LOADS = ((200.0, 1.0), (200.0, 5.0), (20.0, 1.0), (20.0, 5.0))
"""Requests a second, and the variance of each second's count over its mean: 1 is Poisson."""
SECONDS = 12 * 3600


def steady_loads() -> dict[str, Any]:
    scene = scenes()[0]
    found: dict[str, Any] = {}
    for rate, dispersion in LOADS:
        generator = np.random.default_rng(1)
        drawn = (
            generator.poisson(rate, SECONDS)
            if dispersion == 1
            else generator.negative_binomial(rate / (dispersion - 1), 1 / dispersion, SECONDS)
        )
        result = trial(scene, [float(each) for each in drawn], ours(scene))
        name = f"{rate:g} requests/s, dispersion {dispersion:g}"
        found[name] = {
            "attainment": result.attainment,
            "over_need": result.mean_replicas * scene.per_s / rate,
            "turns_per_hour": result.turns_per_hour,
        }
        print(name, found[name], flush=True)
    return found
