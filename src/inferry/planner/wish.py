"""What somebody wants of a deployment: the load of all replicas together, how well, and for how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from inferry.core.errors import ConfigError

from .device import Device
from .load import Load, Slo
from .setup import EngineName

QuantPolicy: TypeAlias = Literal["auto", "native", "any"]
"""auto: the checkpoint as it is, and a quantized one only where that does not do. native: never another. any: cheapest."""

CONTEXT_LEAST = 4096
CONTEXT_TIMES = 4
"""Lengths are said as means: the longest request of a usual mix is some times longer. 4 is a choice, not a measurement."""

SLO_DEFAULT = Slo(ttft_ms=2000.0, itl_ms=50.0)
"""Where nobody asked: a first word within 2 s, and 20 tokens a second, about three times as fast as people read."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One kind of device; `count` None: as many as it takes."""

    device: Device
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """At most one of `users` (so many requests at once, each followed by the next) and `requests_per_s` is set. Neither:
    as much as the hardware does within the SLO."""

    input_tokens: int = 500
    output_tokens: int = 200
    users: int | None = None
    requests_per_s: float | None = None
    slo: Slo = SLO_DEFAULT
    context_tokens: int | None = None
    """Longest prompt and answer together; None: `context_for` chooses."""
    budget_usd_per_hour: float | None = None
    engines: tuple[EngineName, ...] = ("vllm", "sglang", "tensorrt_llm")
    quantization: QuantPolicy | str = "auto"
    """A policy, or the weight format that it has to be."""

    @property
    def has_load(self) -> bool:
        return self.users is not None or self.requests_per_s is not None

    def share(self, replicas: int) -> Load:
        """What one of `replicas` gets; the fullest one, where users can't be shared out evenly."""
        if self.users is not None:
            return self.at_once(-(-self.users // replicas))
        if self.requests_per_s is not None:
            return self.at_rate(self.requests_per_s / replicas)
        return self.at_once(1)

    def at_once(self, concurrency: float) -> Load:
        return Load(self.input_tokens, self.output_tokens, concurrency=concurrency)

    def at_rate(self, requests_per_s: float) -> Load:
        return Load(self.input_tokens, self.output_tokens, requests_per_s=requests_per_s)

    def context_for(self, longest: int) -> int:
        """Tokens that one request may have: CONTEXT_TIMES the mean rounded up to a power of two, at most `longest`,
        where that is known (0: not). Raises ConfigError where the model takes less than what is asked for."""
        mean = self.input_tokens + self.output_tokens
        if longest and max(mean, self.context_tokens or 0) > longest:
            said = (
                f"--input {self.input_tokens} and --output {self.output_tokens}: {mean:,} tokens together"
                if mean > longest
                else f"--context {self.context_tokens}"
            )
            raise ConfigError(
                f"{said}: the model was made for {longest:,} tokens at most, prompt and answer together. Ask for no more, "
                "or take a model with a longer context (of one that was stretched, plan its own config.json)."
            )
        if self.context_tokens is not None:
            return self.context_tokens
        wanted = max(CONTEXT_TIMES * mean, CONTEXT_LEAST)
        rounded = 1 << (wanted - 1).bit_length()
        return min(rounded, longest) if longest else rounded
