"""Simulations for programs: the same run gives the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec

from inferry import __version__
from inferry.cli.simulate_run import Simulated

FORMAT, VERSION = "inferry.simulation", 1
"""The version counts up when a field goes or changes its meaning."""


def to_json(found: Sequence[Simulated], load: str, seed: int) -> str:
    """`variants` in their order; each with its settings, what its timing rests on, and its result."""
    tree = {
        "format": FORMAT,
        "version": VERSION,
        "simulated": True,
        "made_by": f"inferry {__version__}",
        "load": load,
        "seed": seed,
        "variants": [_variant(each) for each in found],
    }
    return msgspec.json.format(msgspec.json.encode(tree), indent=2).decode()


def _variant(found: Simulated) -> dict[str, Any]:
    known = found.timing
    return {
        "name": found.variant.name,
        "file": str(found.variant.path),
        "set": [str(each) for each in found.variant.settings],
        "deployment": found.deployment,
        "engine": found.engine,
        "model": found.model,
        "slo": {"ttft_ms": found.slo.ttft_ms, "itl_ms": found.slo.itl_ms, "from": found.slo_from},
        "timing": {
            "source": known.source,
            "says": known.says,
            "doubts": list(known.doubts),
            "gpus_per_replica": known.gpus,
            "figures": dataclasses.asdict(known.timing),
        },
        "price": {
            "per_replica_hour": found.price_per_hour,
            "currency": found.currency,
            "from": found.price_says,
        },
        "gateways": found.gateways,
        "interval_s": found.interval_s,
        "result": found.result,
    }
