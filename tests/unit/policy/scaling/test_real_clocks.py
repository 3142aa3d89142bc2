"""A real clock's readings have nanoseconds: nothing may rest on whole seconds."""

from __future__ import annotations

import random

from inferry.core.scaling_settings import Scaling
from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic


def test_looks_at_any_moment_are_decided() -> None:
    """At moments with nine digits behind the point, without any stabilization, every look comes to the same answer. (A
    moment that rounds up was later than itself, and every second look of a live fleet failed.)"""
    rng = random.Random(7)
    rule = {"metric": "queue_depth", "above": 5, "add": 1}
    policy = FileAutoscaler(Scaling.model_validate({"max": 3, "rules": [rule], "down": {"stabilize_s": 0}}))
    now_s = 1234.0
    for _ in range(200):
        now_s += 10 + rng.random()
        seen = Observation(now_s, 1, (ReplicaReading("a", now_s, 1, 9),), traffic=Traffic(waiting=9))
        assert policy.decide(seen).to == 2
