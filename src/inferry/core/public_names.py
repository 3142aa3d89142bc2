"""`names:` in the deployment file: one name for clients, several deployments behind it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from inferry.core.deployment_base import DeploymentBase
from inferry.core.section import Section
from inferry.core.suggest import did_you_mean

_PUBLIC_NAME = re.compile(r"[\w./:@+-]{1,200}", re.ASCII)
"""As aliases are: such names are made for clients that know a model by the name that others gave it."""
_STICKY = re.compile(r"none|user|key|header:([A-Za-z0-9][A-Za-z0-9-]{0,63})", re.ASCII)
_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie"})
WEIGHT_MAX = 10_000
PERCENT_UNITS = 10_000
"""A shadow's percent is counted in hundredths."""


class Share(Section):
    """One deployment of a split."""

    deployment: str = Field(description="The name of a deployment in this file.")
    weight: int = Field(
        1,
        ge=0,
        le=WEIGHT_MAX,
        description="Its share is this over the sum of all weights. 0: none, until it is changed.",
    )


class Shadow(Section):
    """A deployment that gets copies."""

    deployment: str = Field(
        description="The name of a deployment in this file that clients do not reach here."
    )
    percent: float = Field(100.0, ge=0.01, le=100, description="Of the requests that were let in.")
    concurrent_max: int = Field(
        8,
        ge=1,
        le=1000,
        description="Copies under way at the same time, in each gateway process; what comes beyond is not copied.",
    )

    @property
    def units(self) -> int:
        """Of PERCENT_UNITS."""
        return max(1, round(self.percent * PERCENT_UNITS / 100))


def _sticky(value: str) -> str:
    found = _STICKY.fullmatch(value)
    if found is None:
        raise ValueError(
            f"'{value}' is not known: use none, user, key, or header:NAME (as in header:x-session)"
        )
    name = (found[1] or "").lower()
    if name in _SECRET_HEADERS:
        raise ValueError(f"'{value}' would go by a credential: use 'key', which goes by the API key's id")
    return value.lower()


class PublicName(Section):
    """How requests for one name are spread over deployments."""

    split: list[Share] = Field(
        min_length=1, max_length=32, description="The deployments that take turns, by weight."
    )
    sticky: Annotated[str, AfterValidator(_sticky)] = Field(
        "none",
        description="none: exact shares, whoever asks. Otherwise the same caller gets the same deployment: by the "
        "request's user, by its API key, or by a header (header:NAME). Who has none of it goes by shares.",
    )
    fallbacks: list[str] = Field(
        default_factory=list,
        max_length=8,
        description="Deployments that take a request, one after the other, if the chosen one has no replica, no place "
        "to wait, or fails before its answer begins.",
    )
    same_model: bool = Field(
        False,
        description="All of them serve the same weights, maybe on different engines: a stream that has lost its replica "
        "may go on at another deployment of this name, if its own has no other replica.",
    )
    shadow: list[Shadow] = Field(
        default_factory=list,
        max_length=4,
        description="Deployments that get a copy of requests; their answers are thrown away.",
    )

    @property
    def sticky_header(self) -> str | None:
        """The header's name in lower case, if callers are told apart by one."""
        return self.sticky.partition(":")[2] or None

    @property
    def members(self) -> tuple[str, ...]:
        """The deployments of the split, in the file's order."""
        return tuple(each.deployment for each in self.split)

    @model_validator(mode="after")
    def _each_once(self) -> PublicName:
        for words, names in (
            ("'split'", self.members),
            ("'fallbacks'", self.fallbacks),
            ("'shadow'", [each.deployment for each in self.shadow]),
        ):
            twice = _first_twice(names)
            if twice is not None:
                raise ValueError(f"{words} has '{twice}' twice: once is enough")
        if not any(each.weight for each in self.split):
            raise ValueError("every weight of 'split' is 0: nobody would answer. Give one of them more")
        for shadow in self.shadow:
            if shadow.deployment in (*self.members, *self.fallbacks):
                raise ValueError(
                    f"'{shadow.deployment}' is a shadow and answers clients, too: its figures would say nothing. "
                    "Take it out of 'shadow', or out of 'split' and 'fallbacks'"
                )
        return self


def _first_twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def leads_to(deployments: Mapping[str, DeploymentBase]) -> dict[str, str]:
    """The deployment that each name, alias and LoRA adapter means. Raises ValueError where one means two."""
    taken: dict[str, str] = {}
    for name, deployment in deployments.items():
        adapters = [f"{name}/{adapter}" for adapter in getattr(deployment, "lora", ())]
        for public in (name, *deployment.aliases, *adapters):
            if public in taken and taken[public] != name:
                raise ValueError(f"'{public}' names both '{taken[public]}' and '{name}'")
            taken[public] = name
    return taken


def free_name(name: str, info: ValidationInfo) -> str:
    """`name`, a key of `names:`; raises ValueError if a deployment of the file goes by it already."""
    if not _PUBLIC_NAME.fullmatch(name):
        raise ValueError(f"'{name}' can't be a name: use letters, digits and . / : @ + - _, 200 at most")
    owner = _taken(info).get(name)
    if owner is None:
        return name
    if owner == name:
        raise ValueError(
            f"'{name}' is a deployment. Give that one another name, and list it in 'split' by that"
        )
    raise ValueError(f"'{name}' is another name of the deployment '{owner}' already: take it out there")


def of_known_deployments(public: PublicName, info: ValidationInfo) -> PublicName:
    """`public`; raises ValueError where it names what is no deployment of the file."""
    taken = _taken(info)
    if not taken:  # what is wrong with the deployments is told already
        return public
    for place, wanted in (
        *((f"split[{index}]", each) for index, each in enumerate(public.members)),
        *((f"fallbacks[{index}]", each) for index, each in enumerate(public.fallbacks)),
        *((f"shadow[{index}]", each.deployment) for index, each in enumerate(public.shadow)),
    ):
        owner = taken.get(wanted)
        if owner is None:
            known = sorted(info.data["deployments"])
            raise ValueError(f"{place}: there is no deployment '{wanted}'.{did_you_mean(wanted, known)}")
        if owner != wanted:
            raise ValueError(f"{place}: '{wanted}' is another name of '{owner}': write '{owner}'")
    return public


def _taken(info: ValidationInfo) -> dict[str, str]:
    """As leads_to; empty if something is wrong with the deployments."""
    try:
        return leads_to(info.data.get("deployments", {}))
    except ValueError:
        return {}


PublicNames = dict[
    Annotated[str, AfterValidator(free_name)], Annotated[PublicName, AfterValidator(of_known_deployments)]
]
"""The section; it must stand behind `deployments` in its model."""
