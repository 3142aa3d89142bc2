"""Autoscaling in words: moments, figures, and what became of a decision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from inferry.core.clock import local_text, wall_s_of
from inferry.core.errors import ConfigError

if TYPE_CHECKING:
    from inferry.admin.scaling_view import DecisionView, EventView

_AGO = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def since_wall_s(text: str, now_wall_s: float) -> float:
    """`90s`, `30m`, `6h`, `2d` ago, or a UTC date or time. Raises ConfigError with the way out."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_wall_s - float(ago[1]) * _SECONDS[ago[2]]
    try:
        return wall_s_of(text)
    except ValueError:
        raise ConfigError(
            f"--since: '{text}' is no time. Write how long ago (90s, 30m, 6h, 2d), or a UTC time (2026-01-31, "
            "'2026-01-31 12:00')."
        ) from None


def moment(wall_s: float) -> str:
    """In this machine's time zone: `2026-01-31 12:00:00`."""
    return local_text(wall_s, "%Y-%m-%d %H:%M:%S")


def figures(inputs: Mapping[str, float | None]) -> str:
    """`gpu_use 0.87, queue_depth missing`."""
    return ", ".join(f"{name} {figure(value)}" for name, value in inputs.items())


def figure(value: float | None) -> str:
    if value is None:
        return "missing"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def counted(count: int, what: str) -> str:
    """`1 replica`, `2 replicas`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def named(deployment: str, simulated: bool) -> str:
    """`chat (SIMULATED)`, as in `inferry status`; of a real engine, its name."""
    return f"{deployment} (SIMULATED)" if simulated else deployment


def step(was: int, to: int) -> str:
    """`2 -> 3`; of no step, the number."""
    return str(to) if was == to else f"{was} -> {to}"


def event_lines(event: EventView) -> list[str]:
    """What happened and why; below it, what became of it."""
    what = step(event.was, event.to) if event.kind == "change" else event.kind
    if event.kind in ("not done", "by hand"):
        what = f"{what}, {step(event.was, event.to)}"
    why = (
        f"{event.rule}: {event.because}" if event.rule and event.rule not in event.because else event.because
    )
    lines = [f"{moment(event.at)}  {event.deployment}  {what}  {why}"]
    if event.outcome:
        lines.append(f"    {event.outcome}")
    elif event.kind == "change":
        lines.append(f"    under way: {_moves(event.came, event.leaving)}")
    return lines


def _moves(came: Sequence[str], leaving: Sequence[str]) -> str:
    words = [f"{' '.join(came)} to come"] if came else []
    words += [f"{' '.join(leaving)} to leave"] if leaving else []
    return ", ".join(words) or "nothing to wait for"


def decision_line(decision: DecisionView, more: int) -> str:
    """Of one look that would change something; `more`: looks right behind it that say the same."""
    again = f" (and at {counted(more, 'look')} behind it)" if more else ""
    return f"{moment(decision.at)}  {step(decision.was, decision.to)}  {decision.because}{again}"
