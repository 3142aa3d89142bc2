"""`health:` of a deployment: when a replica counts as well, and what happens when it does not."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from inferry.core.section import Section, not_above, room_for


class Breaker(Section):
    """When a gateway process stops sending requests to a replica that fails them."""

    failures_max: int = Field(
        5, ge=0, le=1000, description="Failed requests in a row until it opens. 0: it never opens."
    )
    share_max: float = Field(
        0.5, gt=0, le=1, description="It also opens when more than this share of the last window_s fails."
    )
    requests_min: int = Field(
        20, ge=1, le=100_000, description="Requests within window_s before share_max says anything."
    )
    window_s: float = Field(10.0, ge=1, le=600, description="See share_max.")
    open_s: float = Field(
        2.0,
        ge=0.1,
        le=600,
        description="Until one request is let through as a trial; doubled by each that fails.",
    )
    open_max_s: float = Field(
        60.0, ge=0.1, le=3600, description="The most that it doubles to; left out, no less than open_s."
    )

    @model_validator(mode="after")
    def _open_has_room(self) -> Self:
        room_for(self, "open_s", "open_max_s")
        return self


class Outliers(Section):
    """When a replica is set aside for being far worse than its peers."""

    share_max: float = Field(
        0.5, ge=0, le=1, description="The most of a deployment's replicas to set aside at once. 0: none ever."
    )
    requests_min: int = Field(
        20,
        ge=1,
        le=100_000,
        description="Requests of the last window_s before anything is said of a replica.",
    )
    window_s: float = Field(30.0, ge=1, le=600, description="What is compared.")
    failures_over: float = Field(
        0.2, gt=0, le=1, description="Its share of failed requests is so far above its peers' median."
    )
    ttft_factor: float = Field(
        8.0, ge=1.5, le=1000, description="Its time to first token is so many times its peers' median."
    )
    aside_s: float = Field(10.0, ge=0.1, le=600, description="For how long; doubled each time in a row.")
    aside_max_s: float = Field(
        300.0, ge=0.1, le=3600, description="The most that it doubles to; left out, no less than aside_s."
    )

    @model_validator(mode="after")
    def _aside_has_room(self) -> Self:
        room_for(self, "aside_s", "aside_max_s")
        return self


class Health(Section):
    """When a replica counts as well."""

    interval_s: float = Field(
        1.0, ge=0.1, le=300, description="Between two probes of a running replica that shows no progress."
    )
    timeout_s: float = Field(1.0, ge=0.1, le=60, description="For one probe.")
    failures_max: int = Field(
        3,
        ge=1,
        le=100,
        description="Probes in a row that are refused, or answered badly, until it is suspect. One that gets "
        "no answer, and no other sign of life with it, is enough.",
    )
    hand_over_after_s: float = Field(
        2.0,
        ge=0.5,
        le=3600,
        description="Without any sign of life, its process not using the CPU either: its requests go on elsewhere.",
    )
    stuck_after_s: float = Field(
        10.0,
        ge=1,
        le=86400,
        description="Without any sign of life: an engine of ours is killed and started again.",
    )
    hung_after_s: float = Field(
        120.0,
        ge=1,
        le=86400,
        description="It computes, and answers probes, but no running answer grows: stuck, too. Never below "
        "four times its longest pause so far.",
    )
    slow_start_s: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="After it became ready, its share of requests grows for so long. 0: not.",
    )
    breaker: Breaker = Field(default_factory=lambda: Breaker())
    outliers: Outliers = Field(default_factory=lambda: Outliers())

    @model_validator(mode="after")
    def _handed_over_before_stuck(self) -> Self:
        not_above(self, "hand_over_after_s", "stuck_after_s")
        return self
