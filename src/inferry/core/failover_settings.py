"""`failover:` of a deployment: what is done for a request whose replica fails."""

from __future__ import annotations

from pydantic import Field

from inferry.core.section import Section


class Failover(Section):
    """What becomes of requests whose replica fails. How many replicas one may try: `gateway: attempts_max`."""

    resume: bool = Field(True, description="Streams that have begun go on at another replica.")
    token_ids: bool = Field(
        False,
        description="Ask engines that can tell (vLLM) for the ids of all tokens: streams go on from these very tokens, and "
        "are counted to the token. Each event is parsed for that, some 5 us a token.",
    )
    resumes_max: int = Field(5, ge=0, le=100, description="So often for one stream.")
    wait_max_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="A request that has lost its replica waits so long for another one that takes requests.",
    )
    stall_after_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="A stream without a token for so long, and for stall_factor times its own longest pause before, "
        "goes on at another replica, if one is ready. Above that, gateway.idle_timeout_s ends it.",
    )
    stall_factor: float = Field(10.0, ge=1, le=1000, description="See stall_after_s.")
    load_factor_max: float = Field(
        3.0,
        ge=1,
        le=10,
        description="Retries and resumes may make so many attempts of the requests of the last 10 s; beyond, failures "
        "are told: replicas that fail everything are not asked over and over.",
    )
