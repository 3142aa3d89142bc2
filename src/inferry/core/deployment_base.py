"""What every deployment in the file has, whatever its engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inferry.core.endpoint_urls import key_by_reference, key_for_a_header, split_engine_url
from inferry.core.failover_settings import Failover
from inferry.core.filter_settings import Filter
from inferry.core.gateway_settings import Price, Queue
from inferry.core.health_settings import Health
from inferry.core.limits import Limits
from inferry.core.model_ref import parse_model_ref
from inferry.core.prompt_truth_settings import PromptTruth
from inferry.core.rollout_settings import Rollout
from inferry.core.routing_settings import Routing
from inferry.core.scaling_settings import Scaling
from inferry.core.section import Section, bound_bytes, room_for

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALIAS = re.compile(r"[\w./:@+-]{1,200}", re.ASCII)


class Restart(Section):
    """What to do with an engine that ends by itself."""

    backoff_initial_s: float = Field(0.5, ge=0, le=300, description="Wait before the first restart.")
    backoff_max_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="The wait doubles up to this; left out, no less than backoff_initial_s.",
    )
    crashes_max: int = Field(
        5,
        ge=0,
        le=1000,
        description="So many crashes within window_s are a crash loop: the replica stays down. "
        "0 and 1 mean: never restart.",
    )
    window_s: float = Field(120.0, gt=0, le=86400, description="See crashes_max.")

    @model_validator(mode="after")
    def _backoff_has_room(self) -> Self:
        room_for(self, "backoff_initial_s", "backoff_max_s")
        return self


def _alias(value: str) -> str:
    if not _ALIAS.fullmatch(value):
        raise ValueError("use letters, digits and . / : @ + - _, 200 at most")
    return value


class DeploymentBase(Section):
    """What all engines' deployments have."""

    HAS_TOKENIZER: ClassVar[bool] = False
    """Prompts can be counted with what the model's own files hold."""

    aliases: list[Annotated[str, AfterValidator(_alias)]] = Field(
        default_factory=list, max_length=100, description="More names that clients may send as `model`."
    )
    routing: Routing = Field(default_factory=lambda: Routing())
    health: Health = Field(default_factory=lambda: Health())
    failover: Failover = Field(default_factory=lambda: Failover())
    queue: Queue = Field(default_factory=lambda: Queue())
    limits: Limits = Field(default_factory=lambda: Limits(), description="For all callers together.")
    price: Price = Field(default_factory=lambda: Price())
    drain_max_s: float = Field(
        300.0,
        ge=0,
        le=86400,
        description="A replica that leaves hands its requests over when gateway.drain_s are over; those that no "
        "other replica can take may stay for so long in all.",
    )
    filters: list[Filter] = Field(
        default_factory=list, max_length=1000, description="After those of `gateway: filters:`."
    )
    prompt_truth: PromptTruth | None = Field(
        None, description="Whether engines compute the prompts that they are sent. Left out: not checked."
    )

    @property
    def on_demand(self) -> bool:
        """Its model is loaded when it is asked for."""
        return False

    @property
    def runs_elsewhere(self) -> bool:
        """Others start its engines and end them: they are only found, at endpoints that the file names."""
        return False

    def resolved_against(self, folder: Path) -> Self:
        """The same, with relative paths made absolute below `folder`."""
        filters = [each.resolved_against(folder) for each in self.filters]
        truth = self.prompt_truth and self.prompt_truth.resolved_against(folder)
        return self.model_copy(update={"filters": filters, "prompt_truth": truth})

    @model_validator(mode="after")
    def _prompts_can_be_counted(self) -> DeploymentBase:
        truth = self.prompt_truth
        if truth is not None and truth.tokenizer is None and not self.HAS_TOKENIZER:
            raise ValueError(
                "'prompt_truth' needs 'tokenizer' with this engine: name the model's folder or its tokenizer.json"
            )
        return self


class ManagedBase(DeploymentBase):
    """A deployment whose engines Inferry starts itself, or speaks to in their own words where others start them."""

    replicas: int = Field(1, ge=1, le=256, description="Engine processes that serve this model.")
    scaling: Scaling | None = Field(
        None, description="When it gets more or fewer of them. Left out: never by itself."
    )
    restart: Restart = Field(default_factory=lambda: Restart())
    rollout: Rollout = Field(default_factory=lambda: Rollout())
    start_timeout_s: float = Field(
        600.0, gt=0, le=86400, description="From process start to the first answer; big models load slowly."
    )
    stop_grace_s: float = Field(
        10.0, ge=0, le=3600, description="Between asking a process to end and killing it."
    )
    standby: int = Field(
        0,
        ge=0,
        le=64,
        description="More replicas, started and warm, that get requests once another one fails.",
    )
    load: Literal["at_start", "on_demand"] = Field(
        "at_start",
        description="on_demand: its engines are started when a request or 'inferry load' wants them.",
    )
    load_wait_s: float = Field(
        120.0, gt=0, le=86400, description="So long requests wait for a model that is loaded on demand."
    )
    idle_unload_s: float | None = Field(
        None,
        ge=1,
        le=31_536_000,
        description="Unload it after so long without a request. Left out: only when others need its memory.",
    )
    loaded_min_s: float = Field(
        5.0,
        ge=0,
        le=86400,
        description="So long it stays loaded, at least, when others need its memory: no endless swapping.",
    )
    memory: Annotated[ByteSize, Field(ge=2**20, le=2**50, json_schema_extra=bound_bytes)] | None = Field(
        None,
        description="What one replica takes of host.memory_budget. Left out: measured, its weights before that.",
    )
    endpoints: list[str] | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="The engine runs there already, one replica each, in containers or on other machines: "
        "http://10.0.0.7:8000, without /v1. Left out: Inferry starts it.",
    )
    api_key: SecretStr | None = Field(
        None, description="Key that the engine at the endpoints asks for, as a reference: ${ENGINE_KEY}."
    )

    @property
    def on_demand(self) -> bool:
        return self.load == "on_demand"

    @property
    def runs_elsewhere(self) -> bool:
        return self.endpoints is not None

    @field_validator("endpoints")
    @classmethod
    def _endpoints_are_urls(cls, value: list[str] | None) -> list[str] | None:
        places = [split_engine_url(url) for url in value or ()]
        if len(set(places)) != len(places):
            raise ValueError("an endpoint stands here twice")
        return value

    @field_validator("api_key", mode="before")
    @classmethod
    def _key_is_reference(cls, value: object, info: ValidationInfo) -> object:
        return key_by_reference(value, info)

    @field_validator("api_key")
    @classmethod
    def _key_fits_in_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        return key_for_a_header(value)

    @model_validator(mode="after")
    def _starts_nothing_elsewhere(self) -> Self:
        if self.endpoints is None:
            return self
        for key, wanted in (
            ("scaling", self.scaling is not None),
            ("standby", self.standby > 0),
            ("load: on_demand", self.on_demand),
        ):
            if wanted:
                raise ValueError(
                    f"'{key}' needs an engine that Inferry starts, and 'endpoints' says that others do: drop one of them"
                )
        if "replicas" not in self.model_fields_set:
            # Past pydantic: the section is frozen, and `replicas` still counts as left out.
            vars(self)["replicas"] = len(self.endpoints)
        elif self.replicas != len(self.endpoints):
            raise ValueError(
                f"'replicas' is {self.replicas}, and there are {len(self.endpoints)} endpoints, one for each replica: "
                "leave 'replicas' out"
            )
        if self.prompt_truth is not None and self.prompt_truth.tokenizer is None:
            raise ValueError(
                "'prompt_truth' needs 'tokenizer' where 'endpoints' are given: the model is not on this machine"
            )
        return self

    @model_validator(mode="after")
    def _idle_unload_needs_on_demand(self) -> ManagedBase:
        if self.idle_unload_s is not None and not self.on_demand:
            raise ValueError("'idle_unload_s' needs 'load: on_demand': nothing would load it again")
        return self

    @model_validator(mode="after")
    def _begins_within_bounds(self) -> ManagedBase:
        scaling = self.scaling
        if scaling is None:
            return self
        if not scaling.min and (not self.on_demand or self.idle_unload_s is None):
            raise ValueError(
                "'scaling.min: 0' needs 'load: on_demand' and 'idle_unload_s': a request brings it back, and so long "
                "without one takes it away"
            )
        if "replicas" not in self.model_fields_set:
            # Past pydantic: the section is frozen, and `replicas` still counts as left out.
            vars(self)["replicas"] = max(scaling.min, 1)
        elif not max(scaling.min, 1) <= self.replicas <= scaling.max:
            raise ValueError(
                f"'replicas' is {self.replicas}, and scaling goes from {scaling.min} to {scaling.max}: it begins "
                "with 'replicas', so set it in between, or leave it out"
            )
        return self


def absolute_binary(binary: str | None, folder: Path) -> str | None:
    """A program's path made absolute below `folder`; a bare name is looked up on the PATH, later."""
    return str(folder / Path(binary).expanduser()) if binary is not None and "/" in binary else binary


def absolute_source(text: str, folder: Path) -> str:
    """A folder that is written as one (./x, ../x, ~/x) made absolute below `folder`; else it may be a hub id."""
    return str(folder / Path(text).expanduser()) if text.startswith((".", "~")) else text


def absolute_model(model: str, folder: Path) -> str:
    """A `file:` source made absolute below `folder`; others as they are."""
    if not model.startswith("file:"):
        return model
    return f"file:{folder / Path(parse_model_ref(model).name).expanduser()}"


def variables(env: dict[str, str]) -> dict[str, str]:
    """`env`; raises ValueError where a name is no environment variable's."""
    for name in env:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"'{name}' is not a variable's name")
    return env
