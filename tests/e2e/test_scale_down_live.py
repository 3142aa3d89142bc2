"""Autoscaling with real processes: what a client sees when replicas leave under its answers, or when none is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, Up, wait_for
from .steady_load import SteadyLoad

SHRINKING = """
gateway: {workers: 2, drain_s: 0.2}
deployments:
  chat:
    engine: simulated
    ttft_ms: 5
    itl_ms: 15
    replicas: 4
    scaling:
      max: 4
      every_s: 0.5
      rules: [{metric: running, below: 100, for_s: 2, remove: 1}]
      down: {stabilize_s: 0}
"""

FROM_ZERO = """
deployments:
  chat:
    engine: simulated
    ttft_ms: 5
    itl_ms: 2
    load: on_demand
    idle_unload_s: 1
    scaling:
      min: 0
      max: 3
      every_s: 0.2
      rules: [{metric: running, below: 100, remove: 1}]
      down: {stabilize_s: 0}
"""


@pytest.fixture
def inferry(tmp_path: Path) -> Inferry:
    return Inferry(tmp_path)


def history(up: Up) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = up.control("GET", "/scaling/history").json()["events"]
    return events


@pytest.mark.slow
def test_scaling_down_under_load_loses_no_stream(inferry: Inferry) -> None:
    """Three of four replicas are taken away, one after the other, while ten clients are answered all the time: each
    answer is whole, to its last token, whether its replica finished it or another one went on with it.
    (ai-dynamo/dynamo#13559: an HTTP 500 for what was under way, 5 s after the signal.)"""
    inferry.write(SHRINKING)
    with inferry.up() as up, SteadyLoad(up.wait_ready(), streams=8) as load:
        wait_for("answers", lambda: load.answered["stream"] >= 8)
        wait_for("one replica", lambda: len(up.replicas()) == 1)
        wait_for("outcomes", lambda: all(event["outcome"] for event in history(up)))
        events = history(up)
    assert load.faults == []
    changes = [event for event in events if event["kind"] == "change"]
    assert [(event["was"], event["to"]) for event in changes] == [(4, 3), (3, 2), (2, 1)]
    assert all(event["rule"] == "rules[0] running" and event["leaving"] for event in changes)


@pytest.mark.slow
def test_from_zero_a_parked_request_is_answered(inferry: Inferry) -> None:
    """A request to a deployment that has no replicas waits for one and is answered, twice, with its going away in
    between; the rule that would always take one away neither takes the one that loads, nor the last one.
    (superlinked/sie#293: scaled to zero while the model loads, in a loop.)"""
    inferry.write(FROM_ZERO)
    with inferry.up() as up:
        url = up.wait_ready()
        for _ in range(2):
            assert up.replicas() == {}
            answer = httpx.post(
                f"{url}/v1/chat/completions",
                json={"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
                timeout=30,
            )
            assert answer.status_code == 200, answer.text
            wait_for("asleep", lambda: up.replicas() == {}, 20)
        assert [event for event in history(up) if event["kind"] == "change"] == []
