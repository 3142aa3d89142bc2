"""Reads what people write for `inferry bench`: times, lengths, rates. Every mistake is a ConfigError that names the option."""

from __future__ import annotations

import re
from collections.abc import Callable

from inferry.bench.plan import Lengths
from inferry.core.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNIT_S = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration_s(option: str, text: str) -> float:
    """`30`, `30s`, `2m`, `500ms`, `1h`."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{option} {text}: write a time as 30, 30s, 2m, 1h or 500ms.")
    return float(found[1]) * _UNIT_S[found[2]]


def positive_s(option: str, text: str) -> float:
    """A time that is not zero."""
    seconds = duration_s(option, text)
    if seconds <= 0:
        raise ConfigError(f"{option} {text}: must be more than 0.")
    return seconds


def rate(option: str, text: str) -> float:
    """A number above zero."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ConfigError(f"{option} {text}: write a number above 0, for instance 2.5.")
    return found


def lengths(option: str, text: str) -> Lengths:
    """`256`, `100-300` (evenly), `normal:256:50`, `lognormal:256:200` (mean and deviation)."""
    kind, _, rest = text.strip().partition(":")
    if kind in ("normal", "lognormal"):
        numbers = [rate(option, part) for part in rest.split(":")]
        if len(numbers) == 2:
            spread = "normal" if kind == "normal" else "lognormal"
            return Lengths(mean=numbers[0], spread=spread, deviation=numbers[1])  # type: ignore[arg-type]
    elif found := re.fullmatch(r"(\d+)-(\d+)", text.strip()):
        low, high = int(found[1]), int(found[2])
        if 0 < low <= high:
            half = (high - low) / 2
            return Lengths(mean=(low + high) / 2, spread="uniform", deviation=half, least=low, most=high)
    elif text.strip().isdecimal() and int(text) > 0:
        return Lengths(mean=float(text))
    raise ConfigError(
        f"{option} {text}: write tokens as 256, 100-300, normal:256:50 or lognormal:256:200 (mean and deviation)."
    )


def ramp(text: str) -> tuple[float, float]:
    """`1:20`."""
    parts = text.split(":")
    if len(parts) != 2:
        raise ConfigError(f"--ramp {text}: write the first and the last rate, for instance 1:20.")
    return rate("--ramp", parts[0]), rate("--ramp", parts[1])


def steps(text: str) -> tuple[tuple[float, float], ...]:
    """`5:30s,10:30s`."""
    found = []
    for part in text.split(","):
        number, colon, time = part.partition(":")
        if not colon:
            raise ConfigError(
                f"--steps {text}: write each step as its rate and its time, for instance 5:30s,10:30s."
            )
        found.append((rate("--steps", number), positive_s("--steps", time)))
    return tuple(found)


def numbers(option: str, text: str, read: Callable[[str, str], float] = rate) -> tuple[float, ...]:
    """`1,2,5`, in the order of size."""
    return tuple(sorted({read(option, part) for part in text.split(",")}))


def whole(option: str, text: str) -> int:
    """A number of users."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} {text}: write whole numbers from 1 on, for instance 1,2,4,8.")
    return int(text)
