"""Plans for the tests of what is asked."""

from __future__ import annotations

from typing import Any

from inferry.bench.plan import Api, Lengths, Poisson, RunPlan, Target, Workload
from inferry.bench.records import Ask
from inferry.bench.tokens import Wording
from inferry.bench.workload import asks


def tokens(mean: float, **more: Any) -> Lengths:
    return Lengths(mean=mean, **more)


def plan_of(workload: Workload, *, api: Api = "chat", **more: Any) -> RunPlan:
    """Ten seconds of 20 requests per second, if nothing else is said."""
    target = Target(base_url="http://127.0.0.1:1/v1", model="m", api=api)
    return RunPlan(
        **{"target": target, "arrivals": Poisson(20), "duration_s": 10.0, "workload": workload, **more}
    )


def asked(workload: Workload, *, wording: Wording | None = None, nonce: str = "", **more: Any) -> list[Ask]:
    return list(asks(plan_of(workload, **more), Wording() if wording is None else wording, nonce=nonce))


def words(text: str | None) -> int:
    """As many tokens as a wording takes it for."""
    assert text is not None
    return len(text.split(" "))


def common_beginning(one: str | None, other: str | None) -> int:
    """Of two texts, in words."""
    assert one is not None
    assert other is not None
    pairs = list(zip(one.split(" "), other.split(" "), strict=False))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs))
