"""What tokens cost: the price of the devices' time, shared out over what they do in it.

USD per million = USD per hour / (3600 s x tokens per s) x 1e6
8 devices at 2 USD/h and 5000 tokens/s: 16 / 1.8e7 x 1e6 = 0.89 USD per million tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from .answers import Interval, Performance
from .device import Device
from .load import Load


@dataclass(frozen=True, slots=True)
class Cost:
    """At the load that was planned for; a fuller deployment is cheaper per token."""

    usd_per_hour: float
    usd_per_mtok_all_on_output: Interval
    """Per million generated tokens, if prompts were free."""
    usd_per_mtok_input: float
    usd_per_mtok_output: float
    """These two together make up the price, by the share of each step that prompts take: an estimate."""


def cost_of(device: Device, devices: int, replicas: float, load: Load, at_load: Performance) -> Cost | None:
    """None where no price is known. `at_load` is of one replica, `replicas` how many put out as much as that one."""
    if device.price is None:
        return None
    usd_per_hour = devices * device.price.usd_per_hour
    requests_per_hour = 3600 * replicas * at_load.requests_per_s.value
    step_ms = sum(at_load.parts_ms.values())
    prefill_share = at_load.parts_ms.get("prefill", 0.0) / step_ms if step_ms else 0.0
    return Cost(
        usd_per_hour,
        _inverse(usd_per_hour / 3600 * 1e6 / replicas, at_load.output_tokens_per_s),
        1e6 * prefill_share * usd_per_hour / (requests_per_hour * load.input_tokens),
        1e6 * (1 - prefill_share) * usd_per_hour / (requests_per_hour * load.output_tokens),
    )


def energy_wh_per_mtok_most(device: Device, devices: int, output_tokens_per_s: float) -> float | None:
    """Watt-hours per million generated tokens if every device drew its limit all the time; None: no limit is known."""
    if device.power_w is None or output_tokens_per_s <= 0:
        return None
    return device.power_w * devices / output_tokens_per_s * 1e6 / 3600


def _inverse(numerator: float, rate: Interval) -> Interval:
    return Interval(
        numerator / rate.value, numerator / rate.high, numerator / max(rate.low, 1e-9), rate.coverage
    )
