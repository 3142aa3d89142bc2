"""Streams that lose their replica, at scale: clients see unbroken answers, and the books are right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .campaign import Campaign, run_campaign
from .harms import anything_at_random, kill_at_random

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
async def test_streams_survive_random_kills(tmp_path: Path, dice: random.Random) -> None:
    """200 streams at once over four replicas, one of them killed every 3 s: each answer is unbroken and exact, and has
    one outcome that says so."""
    findings = await run_campaign(tmp_path, dice, Campaign(seconds=60), kill_at_random(3.0))
    findings.require_no_fault()
    assert findings.books.counts()["resumed streams"] > 100


@pytest.mark.timeout(300)
async def test_streams_survive_everything_at_random(tmp_path: Path, dice: random.Random) -> None:
    """Kills, frozen engines, refused connections, loading engines, crashes, cuts, stalls, broken bytes, broken events and
    error frames in the middle of answers, one every second, under 100 streams: each answer is unbroken and exact."""
    chat = {"failover": {"stall_after_s": 2.0, "resumes_max": 20}}
    findings = await run_campaign(
        tmp_path, dice, Campaign(60, streams=100, chat=chat), anything_at_random(1.0)
    )
    findings.require_no_fault()
    assert findings.books.counts()["resumed streams"] > 50
