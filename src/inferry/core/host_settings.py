"""The `host:` section of the deployment file: what this machine gives to engines."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, Field

from inferry.core.section import Section, bound_bytes


class Host(Section):
    """Bounds over all deployments together."""

    memory_budget: Annotated[ByteSize, Field(ge=2**20, le=2**50, json_schema_extra=bound_bytes)] | None = (
        Field(
            None,
            description="For all engines together, as 24GiB; models that are loaded on demand make room for each other. "
            "Left out: no bound.",
        )
    )
    fleet: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = Field(
        None,
        description="Inferries with the same name here and the same ledger.url are one fleet: one of them decides about "
        "scaling, and another one takes over when it is gone. Left out: each decides for its own.",
    )
    gpus_max: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="GPUs of all replicas together, beyond which none is added by scaling. Left out: no bound.",
    )
    money_per_hour_max: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="The same of what replicas cost, by their scaling.replica_price_per_hour. Left out: no bound.",
    )
