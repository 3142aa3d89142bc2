"""`routing:` of a deployment: which policy spreads requests over its replicas, and what that policy may be told."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from inferry.core.section import Section

PolicyName = Literal[
    "round_robin",
    "least_connections",
    "weighted",
    "power_of_two",
    "peak_ewma",
    "gpu_aware",
    "token_load",
    "session",
    "prefix_aware",
]
Measure = Literal["ttft", "latency"]

OPTIONS: dict[PolicyName, frozenset[str]] = {
    "peak_ewma": frozenset({"measure", "decay_s"}),
    "gpu_aware": frozenset({"half_life_s"}),
    "session": frozenset({"session_by", "load_bound"}),
    "prefix_aware": frozenset({"cache_tokens"}),
}
"""The keys that belong to one policy; the other policies have none."""

_SOURCES = ("user", "conversation", "key")
_HEADER = re.compile(r"header:[A-Za-z0-9-]{1,100}")
_SECRET_HEADERS = frozenset({"header:authorization", "header:x-api-key", "header:cookie"})


def _session_source(value: str) -> str:
    if value in _SOURCES:
        return value
    if not _HEADER.fullmatch(value):
        raise ValueError(f"'{value[:60]}' is not known. Write {', '.join(_SOURCES)} or header:NAME")
    if value.lower() in _SECRET_HEADERS:
        raise ValueError(f"'{value}' is a credential: write key, for the caller's key")
    return value.lower()


class Routing(Section):
    """How requests are spread over the replicas of one deployment."""

    policy: PolicyName = Field(
        "least_connections",
        description="least_connections: the replica with the fewest running requests; round_robin: in turn; weighted: "
        "in turn, by weight; power_of_two: the less loaded of two drawn at random; peak_ewma: by recent latency times "
        "load; gpu_aware: by what engines and GPUs tell; token_load: by tokens outstanding over measured speed; "
        "session: what belongs together, to the same replica; prefix_aware: where the prompt's beginning is cached, "
        "weighed against load.",
    )
    measure: Measure = Field("ttft", description="peak_ewma: time to the first token, or to the end.")
    decay_s: float = Field(
        60.0,
        ge=0.1,
        le=3600,
        description="peak_ewma: after so long without news, a latency has faded to 1/e.",
    )
    half_life_s: float = Field(
        5.0, ge=0.1, le=600, description="gpu_aware: after so long, a reading counts half as much."
    )
    session_by: list[Annotated[str, AfterValidator(_session_source)]] = Field(
        ["header:x-session-id", "user", "conversation"],
        min_length=1,
        max_length=8,
        description="session: what requests of one session have in common; the first that a request has counts. "
        "Left out: header:x-session-id, user, conversation. user: its `user` field or the like; conversation: its id, "
        "or how it begins; key: the API key.",
    )
    load_bound: float = Field(
        1.25, ge=1.01, le=100, description="session: no replica holds more than so many times the average."
    )
    cache_tokens: int = Field(
        3_000_000,
        ge=10_000,
        le=10**10,
        description="prefix_aware: tokens that one replica's prefix cache holds; too high is corrected by what engines "
        "report.",
    )

    @model_validator(mode="after")
    def _options_fit_the_policy(self) -> Self:
        own = OPTIONS.get(self.policy, frozenset())
        for name in sorted(self.model_fields_set - {"policy"} - own):
            owner = next(policy for policy in get_args(PolicyName) if name in OPTIONS.get(policy, ()))
            raise ValueError(
                f"'{name}' is for policy {owner}, not for {self.policy}: drop it, or change the policy"
            )
        return self
