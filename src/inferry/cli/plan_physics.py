"""The planner's own physics, put together for the search."""

from __future__ import annotations

from inferry.planner.facts.engine_support import supports
from inferry.planner.fitting import sequence_of
from inferry.planner.memory import plan_memory
from inferry.planner.performance import predict
from inferry.planner.sizing import Physics


def shipped_physics() -> Physics:
    """From facts alone, without what launches have taught."""
    return Physics(plan_memory, sequence_of, predict, supports)
