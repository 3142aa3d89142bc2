"""Routing with two gateway processes: what both must agree on, and what both are told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
import pytest

from .inferry_process import Inferry, wait_for

FILE = """\
gateway: {workers: 2}
deployments:
  by-load: {engine: simulated, replicas: 1, ttft_ms: 1, itl_ms: 1, routing: {policy: gpu_aware}}
  by-session: {engine: simulated, replicas: 3, ttft_ms: 1, itl_ms: 1, routing: {policy: session}}
"""


def ask(url: str, model: str, **headers: str) -> httpx.Headers:
    """On a connection of its own, so that either process may get it."""
    question = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx.post(
        f"{url}/v1/chat/completions", json=question, headers={"x-inferry-explain": "1", **headers}, timeout=30
    )
    assert answer.status_code == 200
    return answer.headers


@pytest.mark.slow
def test_two_gateway_processes_agree_on_sessions_and_hear_of_engines(tmp_path: Path) -> None:
    """A session has one replica, whichever process gets its requests; each process is told what engines say."""
    inferry = Inferry(tmp_path)
    inferry.write(FILE)
    with inferry.up() as up:
        url = up.wait_ready()
        homes: Counter[str] = Counter()
        for session in range(8):
            named = {"x-session-id": f"s{session}"}
            found = {ask(url, "by-session", **named)["x-inferry-replica"] for _ in range(6)}
            assert len(found) == 1
            homes.update(found)
        assert len(homes) >= 2

        def both_were_told() -> bool:
            return all("it told running=" in ask(url, "by-load")["x-inferry-why"] for _ in range(10))

        wait_for("readings of the engines in both gateway processes", both_were_told)
