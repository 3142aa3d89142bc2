"""Figures of a simulation in words, the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Mapping

from inferry.cli.simulate_run import Simulated
from inferry.core.scaling_settings import ScalingSlo
from inferry.simulate.result import SimulatedDecision

NONE = "–"


def amount(value: float | None) -> str:
    """Three figures, all of a whole number's: 12,345, 1.23, 0.0123."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def share(value: float | None) -> str:
    """99.5%, and never 100% where one is missing."""
    if value is None:
        return NONE
    if 0.9995 <= value < 1:
        return f"{100 * value:.4g}%" if value < 0.999995 else "almost 100%"
    return f"{100 * value:.4g}%" if value >= 0.1 else f"{100 * value:.3g}%"


def clock(seconds: float) -> str:
    """0:05:10; with days from two on."""
    whole = round(seconds)
    days, rest = divmod(whole, 86400) if whole >= 2 * 86400 else (0, whole)
    said = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}d {said}" if days else said


def limits(slo: ScalingSlo) -> str:
    parts = []
    if slo.ttft_ms is not None:
        parts.append(f"first token within {_ms(slo.ttft_ms)}")
    if slo.itl_ms is not None:
        parts.append(f"tokens every {_ms(slo.itl_ms)} on average")
    return ", ".join(parts)


def _ms(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def counts(found: Mapping[str, int]) -> str:
    """`queue_full 12, queue_timeout 3`: the most frequent first."""
    ordered = sorted(found.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered)


def rejected_by_code(simulated: Simulated) -> dict[str, int]:
    found: dict[str, int] = {}
    for codes in simulated.result.rejected.values():
        for code, count in codes.items():
            found[code] = found.get(code, 0) + count
    return found


def rejected_count(simulated: Simulated) -> int:
    return sum(rejected_by_code(simulated).values())


def replicas_text(simulated: Simulated) -> str:
    """How many there were, what they are and what they took."""
    result = simulated.result
    seen = [each.serving for each in result.timeline]
    span = f" ({min(seen)} to {max(seen)} served)" if seen and min(seen) != max(seen) else ""
    return f"{amount(result.mean_replicas)} on average{span}: {hours_text(simulated)}{cost_text(simulated)}"


def hours_text(simulated: Simulated) -> str:
    if simulated.timing.gpus:
        gpus = simulated.timing.gpus
        return f"{amount(simulated.result.gpu_hours)} GPU-hours, {gpus} GPU{'s' * (gpus > 1)} each"
    return f"{amount(simulated.result.replica_hours)} replica-hours (no GPUs are counted)"


def cost_text(simulated: Simulated) -> str:
    if simulated.price_per_hour is None:
        return "; no price is known (--price-per-gpu-hour)"
    cost, price = amount(simulated.result.cost), amount(simulated.price_per_hour)
    return f"; {cost} {simulated.currency} at {price} per replica and hour ({simulated.price_says})"


def decision_text(found: SimulatedDecision) -> str:
    """Why; of a decision that changes nothing, the alert that it is about."""
    if found.to == found.was:
        return "; ".join(found.alerts)
    return found.because if found.because.startswith(found.rule) else f"{found.rule}: {found.because}"
