"""How long a decode step and a prefill take: the ideal parts of step_work.py, each times its fitted constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .burst import Span
from .speed_facts import SpeedConstants, groups_of
from .step_work import StepModel, decode_terms, prefill_terms


@dataclass(frozen=True, slots=True)
class SpeedFactors:
    """Corrections from measurements of this very deployment: measured over predicted, 1 where nothing was measured."""

    decode: float = 1.0
    prefill: float = 1.0
    spread: float | None = None
    """Relative half-width that remains after correction; None keeps the width of left-out residuals."""


NEUTRAL = SpeedFactors()


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The step and prefill law of one model on one setup."""

    model: StepModel
    constants: Mapping[str, float]
    ttft_constants: Mapping[str, float]
    burst_constants: Mapping[str, float]
    drain_constants: Mapping[str, float]
    factor: SpeedFactors

    def decode_parts_ms(self, decodes: float, context_tokens: float) -> dict[str, float]:
        terms = decode_terms(self.model, decodes, context_tokens)
        return {term: self.constants[term] * ideal * self.factor.decode for term, ideal in terms.items()}

    def prefill_ms(self, tokens: float, prompts: float = 1.0, passes: float = 1.0) -> float:
        """What `prompts` prompts of that many tokens cost, read in so many passes over the weights."""
        terms = prefill_terms(self.model, tokens, prompts, passes)
        return self.factor.prefill * sum(self.constants[term] * ideal for term, ideal in terms.items())

    def span_parts_ms(self, span: Span, context_tokens: float, prompt_tokens: float) -> dict[str, float]:
        """What happens in a burst during `span`, by cause."""
        decode = self.decode_parts_ms(span.decodes, context_tokens)
        parts = {term: span.steps * each for term, each in decode.items()}
        compute_ms = span.prompts * prompt_tokens * self.model.flops_ms_per_token
        parts["prefill"] = self.prefill_ms(prompt_tokens, span.prompts, span.passes)
        parts["prefill"] += self.factor.prefill * self.constants["burst_prefill"] * compute_ms
        return parts

    def least_step_ms(self, decodes: float, context_tokens: float) -> float:
        """At the maker's peaks, reading and multiplying at the same time: no step is faster."""
        ideal = decode_terms(self.model, decodes, context_tokens)
        return max(ideal["weights"] + ideal["experts"] + ideal["kv"], ideal["compute"])

    def least_prefill_ms(self, tokens: float) -> float:
        return prefill_terms(self.model, tokens)["prefill_compute"]

    def step_parts_ms(
        self, decodes: float, context_tokens: float, prompt_tokens: float, prompts: float, passes: float
    ) -> dict[str, float]:
        """A mean step of continuous batching; "prefill" is what prompts of others add to it."""
        parts = self.decode_parts_ms(decodes, context_tokens)
        parts["prefill"] = self.prefill_ms(prompt_tokens, prompts, passes)
        return parts


def step_times(model: StepModel, constants: SpeedConstants, factor: SpeedFactors) -> StepTimes:
    groups = groups_of(model.device, model.setup)
    step, ttft, burst, drain = (
        constants.constants(name, groups) for name in ("step", "ttft", "burst", "drain")
    )
    return StepTimes(model, step, ttft, burst, drain, factor)
