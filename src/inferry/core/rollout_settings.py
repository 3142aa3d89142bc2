"""How replicas of a deployment are replaced by new ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inferry.core.section import Section


class Rollout(Section):
    """After a change that engines see, and by `inferry restart` and `inferry rollout`."""

    strategy: Literal["surge", "in_place"] = Field(
        "surge",
        description="surge: new replicas are ready before old ones leave, which takes room for them; "
        "in_place: old ones leave first.",
    )
    max_surge: int = Field(1, ge=1, le=256, description="surge: so many replicas more than usual at a time.")
    max_unavailable: int = Field(
        1, ge=1, le=256, description="in_place: so many fewer at a time, but not the last one that is ready."
    )
    settle_s: float = Field(
        2.0, ge=0, le=3600, description="A new replica must be ready for so long before the next step."
    )
    canary_s: float = Field(
        10.0,
        ge=0,
        le=86400,
        description="The first new replica serves for so long beside the old ones; if more of its requests "
        "fail than of theirs, all is put back. 0: it need only settle.",
    )
