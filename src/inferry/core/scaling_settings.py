"""`scaling:` of a deployment: when it gets more or fewer replicas, by what, and within which bounds."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from inferry.core.section import Section

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

SHARES = ("gpu_use", "gpu_memory_use", "kv_cache_use")
"""Means over the replicas that serve, 0 to 1."""
LATENCIES = ("ttft_ms", "itl_ms", "e2e_ms")
"""A percentile of what ended within `over_s`."""
RATES = ("requests_per_s", "prompt_tokens_per_s", "output_tokens_per_s")
"""Of the whole deployment, over `over_s`."""
METRICS = (*SHARES, "queue_depth", "running", *LATENCIES, "error_rate", *RATES)
"""queue_depth: requests that wait at gateways and engines, all together; running: requests at engines, per replica
that serves; error_rate: share of the requests that ended within `over_s` and failed through no fault of the client."""
ENGINE = "engine:"
"""Before an engine's own metric, by its Prometheus name: the mean over the replicas that serve."""

AMOUNT_MAX = 256
_SHARE = re.compile(r"^[1-9][0-9]{0,3}%$")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00")


def _written_as_text(value: object) -> object:
    # YAML reads 8:00 as 480, a number in base 60.
    if isinstance(value, int):
        raise ValueError("write it as HH:MM, in quotes, from '00:00' to '24:00'")  # noqa: TRY004 - pydantic's
    return value


def _time_of_day(value: str) -> str:
    if not _CLOCK.fullmatch(value):
        raise ValueError("write it as HH:MM, in quotes, from '00:00' to '24:00'")
    return value


def _amount(value: object) -> object:
    """Says in one line what the union below would say in two, of a type each."""
    if isinstance(value, str) and _SHARE.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= AMOUNT_MAX:
        return value
    shown = f"'{value}'" if isinstance(value, str | int | float) else "that"
    raise ValueError(
        f"{shown} is no amount: write so many replicas, 1 to {AMOUNT_MAX}, or a share of them, as 50%"
    )


Amount = Annotated[
    Annotated[int, Field(ge=1, le=AMOUNT_MAX)] | Annotated[str, Field(pattern=_SHARE.pattern)],
    BeforeValidator(_amount),
]
"""So many replicas, or a share of those that are wanted now, rounded up: `50%`."""
TimeOfDay = Annotated[str, BeforeValidator(_written_as_text), AfterValidator(_time_of_day)]


class ScalingRule(Section):
    """A threshold (`above` or `below`, with `add`, `remove` or `alert`), or a `target` to keep."""

    metric: str = Field(description=f"{', '.join(METRICS)}; or {ENGINE}NAME for an engine's own metric.")
    percentile: float | None = Field(
        None, gt=0, le=99.99, description="Of ttft_ms, itl_ms and e2e_ms, where 95 is the default."
    )
    over_s: float = Field(
        60.0,
        gt=0,
        le=86400,
        description="Latencies, error_rate and rates are those of the last so many seconds.",
    )
    above: float | None = Field(None, ge=0, le=1e12, description="It applies while the metric is above this.")
    below: float | None = Field(None, ge=0, le=1e12, description="It applies while the metric is below this.")
    for_s: float = Field(
        0.0, ge=0, le=86400, description="Only once that has been so for so long without a break."
    )
    add: Amount | None = Field(None, description="Then so many more replicas, or 50% more.")
    remove: Amount | None = Field(None, description="Then so many fewer, or 50% fewer.")
    alert: bool = Field(False, description="Then only tell: more replicas don't help against errors.")
    target: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="Instead of a threshold: as many replicas as keep the metric here. Of sums (queue_depth, rates), "
        "so much per replica.",
    )
    tolerance: float = Field(
        0.1, ge=0, le=1, description="No change while the metric is that near to its target."
    )

    @field_validator("metric")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value in METRICS or (value.startswith(ENGINE) and len(value) > len(ENGINE)):
            return value
        raise ValueError(f"is none of {', '.join(METRICS)}, and no engine's own (engine:NAME)")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        kinds = [name for name in ("above", "below", "target") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError("write one of 'above', 'below' and 'target'")
        actions = [name for name in ("add", "remove") if getattr(self, name) is not None]
        actions += ["alert"] if self.alert else []
        if self.target is not None:
            if actions or self.for_s:
                raise ValueError("'target' says by itself how many: leave out add, remove, alert and for_s")
            if self.metric == "error_rate":
                raise ValueError(
                    "'error_rate' has no target: more replicas don't help against errors; use alert"
                )
        elif len(actions) != 1:
            raise ValueError(f"say what happens: one of 'add', 'remove' and 'alert' beside '{kinds[0]}'")
        if self.metric == "error_rate" and (self.add or self.remove):
            raise ValueError(
                "'error_rate' alerts only ('alert: true'): more replicas don't help against errors"
            )
        if self.percentile is not None and self.metric not in LATENCIES:
            raise ValueError(f"'percentile' is for {', '.join(LATENCIES)}")
        if self.percentile is not None and self.percentile < 1:
            raise ValueError(
                f"'percentile' is {self.percentile:g}: write {self.percentile * 100:g} for that share of the requests"
            )
        return self

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        """What would be taken, and never apply, or work the wrong way round."""
        for name in ("above", "below", "target"):
            value = getattr(self, name)
            if value is not None and value > 1 and self.metric in (*SHARES, "error_rate"):
                raise ValueError(
                    f"'{name}' is {value:g}, and {self.metric} goes from 0 to 1: write {value / 100:g} for "
                    f"{value:g} %"
                )
        if self.metric in METRICS and (
            (self.above is not None and self.remove) or (self.below is not None and self.add)
        ):
            raise ValueError(
                f"more {self.metric} is more load, and this rule answers it the wrong way round: 'add' goes with "
                "'above', 'remove' with 'below'"
            )
        return self

    @property
    def share(self) -> float:
        """The percentile, 0 to 1."""
        return (95.0 if self.percentile is None else self.percentile) / 100


class ScalingSlo(Section):
    """As many replicas as it takes to keep these, ahead of the load."""

    ttft_ms: float | None = Field(None, gt=0, le=86_400_000, description="Time to the first token, at most.")
    itl_ms: float | None = Field(
        None, gt=0, le=86_400_000, description="Mean time between tokens of an answer, at most."
    )
    attainment: float = Field(
        0.99, gt=0.5, le=0.9999, description="Share of the requests that shall keep all of them."
    )
    requests_per_s: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="What one replica carries within them. Left out: what the planner says, corrected by what is seen.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.ttft_ms is None and self.itl_ms is None:
            raise ValueError("write 'ttft_ms', 'itl_ms', or both")
        return self


class ScalingMove(Section):
    """How fast it goes in one direction."""

    stabilize_s: float = Field(
        0.0,
        ge=0,
        le=86400,
        description="Only as far as has been wished all this time: short peaks and dips pass.",
    )
    cooldown_s: float = Field(0.0, ge=0, le=86400, description="Between two changes in this direction.")
    most: Amount | None = Field(
        None, description="So many replicas in per_s, or 100% of them. Left out: no bound."
    )
    per_s: float = Field(60.0, gt=0, le=86400, description="See most.")


class ScalingSchedule(Section):
    """Other bounds on some days, at some hours."""

    days: list[Day] = Field(
        default_factory=list, max_length=7, description="mon, tue, ... Left out: every day."
    )
    begin: TimeOfDay = Field(description="'08:00'. From here on,")
    end: TimeOfDay = Field(description="up to here; before `begin`: of the next day.")
    timezone: str = Field("UTC", description="As Europe/Berlin.")
    min: int | None = Field(None, ge=0, le=256, description="Instead of scaling.min.")
    max: int | None = Field(None, ge=1, le=256, description="Instead of scaling.max.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("write 'min', 'max', or both")
        return self


class Scaling(Section):
    """More or fewer replicas as the load has it. `replicas` is how many it begins with."""

    min: int = Field(1, ge=0, le=256, description="Never fewer. 0 needs 'load: on_demand'.")
    max: int = Field(ge=1, le=256, description="Never more.")
    every_s: float = Field(10.0, ge=0.1, le=3600, description="How often it is decided.")
    rules: list[ScalingRule] = Field(
        default_factory=list,
        max_length=100,
        description="Of several, the one that wants most decides upwards; downwards, all must agree.",
    )
    slo: ScalingSlo | None = Field(None, description="Ahead of the load, by what a replica carries.")
    schedule: list[ScalingSchedule] = Field(
        default_factory=list,
        max_length=100,
        description="Other bounds at times; of several, the highest min and the highest max hold.",
    )
    up: ScalingMove = Field(default_factory=lambda: ScalingMove())
    down: ScalingMove = Field(default_factory=lambda: ScalingMove(stabilize_s=300.0))
    start_s: float | None = Field(
        None,
        gt=0,
        le=86400,
        description="From a replica's start until it serves. Left out: as measured here; 120 before the first.",
    )
    gpus_max: int | None = Field(None, ge=1, le=65536, description="GPUs of all its replicas together.")
    money_per_hour_max: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="What all its replicas together may cost; needs replica_price_per_hour.",
    )
    replica_price_per_hour: float | None = Field(
        None, ge=0, le=1e9, description="What one replica costs, in the currency of your prices."
    )

    @property
    def own_metrics(self) -> frozenset[str]:
        """Of the engine, those that rules name, by their Prometheus names."""
        names = (rule.metric for rule in self.rules if rule.metric.startswith(ENGINE))
        return frozenset(name.removeprefix(ENGINE) for name in names)

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.min > self.max:
            raise ValueError(
                f"'min' is {self.min}, which is more than 'max' ({self.max}): lower it, or raise 'max'"
            )
        for entry in self.schedule:
            low = self.min if entry.min is None else entry.min
            high = self.max if entry.max is None else entry.max
            if low > high:
                raise ValueError(
                    f"the schedule from {entry.begin} to {entry.end} has min {low} and max {high}: raise its 'max'"
                )
        if not self.rules and self.slo is None and not self.schedule:
            raise ValueError("nothing says when: write 'rules', 'slo' or 'schedule'")
        if self.money_per_hour_max is not None and self.replica_price_per_hour is None:
            raise ValueError("'money_per_hour_max' needs 'replica_price_per_hour'")
        return self
