"""`--failures` of `inferry simulate`: what goes wrong and when, from words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast, get_args

from inferry.cli.bench_words import duration_s, positive_s
from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean
from inferry.simulate.failures import RANDOM, Failure, FailureKind

KINDS: tuple[FailureKind, ...] = get_args(FailureKind)
_ONE = re.compile(r"(\w+)@([^:/]+)(?::([^/]+))?(?:/(.+))?")
_HOW = "write it as crash@10m, freeze@20m:60s or crash@10m/chat-0; or a number of crashes per replica and hour, as 0.5"


@dataclass(frozen=True, slots=True)
class Failures:
    """One of both."""

    planned: tuple[Failure, ...] = ()
    crashes_per_hour: float = 0.0
    """Of each replica that serves."""


def failures_of(text: str | None) -> Failures:
    """Raises ConfigError."""
    if text is None:
        return Failures()
    rate = _rate(text)
    if rate is not None:
        return Failures(crashes_per_hour=rate)
    return Failures(
        tuple(sorted((_failure(part.strip(), text) for part in text.split(",")), key=lambda each: each.at_s))
    )


def _rate(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        return None
    if not 0 <= rate <= 1e6:
        raise ConfigError(f"--failures {text}: {_HOW}.")
    return rate


def _failure(part: str, text: str) -> Failure:
    match = _ONE.fullmatch(part)
    if match is None:
        raise ConfigError(f"--failures {text}: '{part}': {_HOW}.")
    kind, at, lasts, replica = match.groups()
    if kind not in KINDS:
        raise ConfigError(f"--failures {text}: '{kind}' is not known.{did_you_mean(kind, KINDS)}")
    at_s = duration_s("--failures", at)
    found = Failure(at_s, cast(FailureKind, kind), replica or RANDOM)
    if lasts is None:
        return found
    return Failure(at_s, found.kind, found.replica, positive_s("--failures", lasts))
