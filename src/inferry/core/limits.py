"""How much a key, a tenant or a deployment may take. None is: as much as there is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inferry.core.section import Section

Priority = Literal["high", "normal", "low"]


class Limits(Section):
    """Rates, budgets and caps. A request must fit into all that stand over it: key, tenant, deployment."""

    requests_per_minute: int | None = Field(
        None, ge=1, le=10**9, description="Requests admitted in any 60 s."
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=10**12,
        description="Prompt and completion tokens in any 60 s: an estimate is reserved before, the actual count "
        "is settled after.",
    )
    requests_in_flight: int | None = Field(None, ge=1, le=10**6, description="Requests at the same time.")
    tokens_per_day: int | None = Field(None, ge=1, le=10**15, description="Token budget of a UTC day.")
    tokens_per_month: int | None = Field(None, ge=1, le=10**15, description="Token budget of a UTC month.")
    cost_per_day: float | None = Field(
        None, gt=0, le=10**9, description="Money budget of a UTC day, in ledger.currency."
    )
    cost_per_month: float | None = Field(
        None, gt=0, le=10**9, description="Money budget of a UTC month, in ledger.currency."
    )
    completion_tokens_max: int | None = Field(
        None,
        ge=1,
        le=10**8,
        description="Longest answer: a larger max_tokens is refused, and a request that names none gets this one.",
    )
    prompt_tokens_max: int | None = Field(
        None, ge=1, le=10**8, description="Longest prompt, taken as a quarter of its request's bytes."
    )
    choices_max: int | None = Field(
        None, ge=1, le=1024, description="Most answers of one request: `n`, times the prompts in it."
    )
