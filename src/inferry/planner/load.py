"""What users ask of a deployment, and how well they want it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one shape. Exactly one of `concurrency` (closed loop: so many at once, the next when one ends),
    `requests_per_s` (open loop) and `all_at_once` (that many requests at t = 0) is set."""

    input_tokens: float
    output_tokens: float
    concurrency: float | None = None
    requests_per_s: float | None = None
    all_at_once: int | None = None
    prefix_hit: float = 0.0
    """Share of input tokens that a prefix cache answers."""


def prompt_tokens(load: Load) -> float:
    """Of a prompt, what has to be computed."""
    return load.input_tokens * (1 - load.prefix_hit)


@dataclass(frozen=True, slots=True)
class Slo:
    """Bounds on `percentile` of requests. None: not asked for."""

    ttft_ms: float | None = None
    itl_ms: float | None = None
    percentile: float = 0.9
