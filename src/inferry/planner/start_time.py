"""How long a start takes, by starts that were seen: a rate of bytes of weights per second, of each engine."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .learning import Launch


@dataclass(frozen=True, slots=True)
class StartRate:
    """Of an engine on a device. What takes the same time whatever the model's size is in it too: a rate of other models
    is a guess."""

    bytes_per_s: float
    launches: int
    models: int
    own: bool
    """Whether they were of that very model."""

    def start_s(self, loaded_bytes: float) -> float:
        return loaded_bytes / self.bytes_per_s


def start_rate(launches: Iterable[Launch], engine: str, device: str, model: str) -> StartRate | None:
    """The median of that model's starts; of others', where it was never started there. None: no start was seen."""
    seen = [
        (each.model, loaded / start_s)
        for each in launches
        if (each.engine, each.device) == (engine, device)
        and (start_s := each.measured.get("start_s", 0.0)) > 0
        and (loaded := each.predicted.get("loaded_bytes", 0.0)) > 0
    ]
    own = [(name, rate) for name, rate in seen if name == model]
    heard = own or seen
    if not heard:
        return None
    rate = statistics.median(rate for _, rate in heard)
    return StartRate(rate, len(heard), len({name for name, _ in heard}), bool(own))
