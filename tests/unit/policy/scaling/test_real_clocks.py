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


def _moments(jitter: random.Random | None) -> list[tuple[int, int]]:
    """At which looks of 100, one every 10 s, it is changed to what: 40 hot ones, then idle ones."""
    policy = FileAutoscaler(
        Scaling.model_validate(
            {
                "max": 9,
                "every_s": 10,
                "rules": [
                    {"metric": "gpu_use", "above": 0.8, "for_s": 60, "add": 1},
                    {"metric": "gpu_use", "below": 0.3, "for_s": 100, "remove": 1},
                ],
                "up": {"cooldown_s": 90, "stabilize_s": 30},
                "down": {"stabilize_s": 120, "cooldown_s": 100},
            }
        )
    )
    wanted, found = 2, []
    for look in range(100):
        now_s = 1000 + look * 10 + (jitter.uniform(-0.2, 0.2) if jitter else 0.0)
        use = 0.9 if look < 40 else 0.1
        serving = tuple(ReplicaReading(f"a-{each}", now_s, gpu_use=use) for each in range(wanted))
        decision = policy.decide(Observation(now_s, wanted, serving, traffic=Traffic()))
        if decision.is_change:
            wanted = decision.to
            found.append((look, wanted))
    return found


def test_a_length_of_time_is_over_at_the_look_that_the_file_says() -> None:
    """Looks come up to 0.2 s early or late, and every length of time in the file is a whole number of looks: each change
    is made at the very look at which it would be by a clock that is never late."""
    exact = _moments(None)
    assert {to for _, to in exact} >= {2, 5}
    for seed in range(5):
        assert _moments(random.Random(seed)) == exact
