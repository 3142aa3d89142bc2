"""The deployment file's `runtime: {kind: ray}`: which cluster, and where replicas go in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inferry.core.section import Section


class RaySettings(Section):
    """Replicas are actors of a Ray cluster, each with its engine as a process on its node."""

    kind: Literal["ray"]
    address: str | None = Field(
        None,
        min_length=1,
        max_length=300,
        description="HOST:PORT of the cluster's head, or `auto` for the one that this machine is part of. Left out: a "
        "cluster of this machine alone is started, and ends with Inferry.",
    )
    namespace: str = Field(
        "inferry", pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="Of its actors, for Ray's own tools."
    )
    placement: Literal["spread", "strict_spread", "pack"] = Field(
        "spread",
        description="spread: replicas of a deployment on different nodes where possible; strict_spread: never two on one; "
        "pack: on as few nodes as possible.",
    )
    cpus_per_replica: float = Field(
        1.0, gt=0, le=1024, description="Cores that Ray reserves for each replica, and its threads."
    )
    resources: dict[str, float] = Field(
        default_factory=dict,
        max_length=32,
        description='More of Ray\'s own resources that each replica takes, by name: {"accelerator_type:H100": 0.001}.',
    )
    place_timeout_s: float = Field(
        600.0,
        ge=1,
        le=86400,
        description="For a node with room. Then the start counts as failed, and the restart policy says when to try again.",
    )
    lost_after_s: float = Field(
        5.0,
        ge=1,
        le=300,
        description="A node's agent that says nothing for so long is lost, and its replicas with it.",
    )
