"""How long a start will take, by those that were seen."""

from __future__ import annotations

import pytest

from inferry.planner.learning import Launch
from inferry.planner.start_time import start_rate


def start(model: str, loaded_bytes: float, start_s: float, engine: str = "vllm") -> Launch:
    return Launch(
        wall_s=1.0, engine=engine, device="l4", model=model, predicted={"loaded_bytes": loaded_bytes},
        measured={"start_s": start_s},
    )  # fmt: skip


def test_a_model_starts_as_it_did() -> None:
    """The median of its own starts, which one slow disk does not move; by bytes where it was never started: of all others."""
    seen = [
        start("a", 100, 10),
        start("a", 100, 11),
        start("a", 100, 90),
        start("b", 400, 20),
        start("a", 9, 1, "tgi"),
    ]
    own, other = start_rate(seen, "vllm", "l4", "a"), start_rate(seen, "vllm", "l4", "c")
    assert own is not None
    assert other is not None
    assert own.start_s(100) == pytest.approx(11)
    assert (own.launches, own.own) == (3, True)
    assert (other.models, other.own) == (2, False)
    assert start_rate(seen, "vllm", "h100-80g", "a") is None
    assert start_rate([start("a", 0, 10)], "vllm", "l4", "a") is None
