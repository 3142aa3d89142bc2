"""Health by progress, seen from outside: an engine that stands still is out within seconds, a busy one never."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from inferry.testing.simulated_engine import RECORD_VARIABLE

from .campaign import Campaign, Scene, run_campaign
from .freeze import Freeze

pytestmark = pytest.mark.slow


@pytest.mark.timeout(180)
async def test_a_frozen_engine_is_out_within_three_seconds(tmp_path: Path, dice: random.Random) -> None:
    """SIGSTOP for one of four engines under 100 streams: what it had is resumed elsewhere, it gets no request that came
    3 s later or more, and all streams are whole."""
    record = tmp_path / "record"
    record.mkdir()
    freeze = Freeze()
    campaign = Campaign(seconds=25, streams=100, environ={RECORD_VARIABLE: str(record)})
    findings = await run_campaign(tmp_path, dice, campaign, freeze.harm(5.0, 12.0))
    findings.require_no_fault()
    assert freeze.sent_too_late(findings.books, record) == []
    began_there = [
        each
        for each in findings.books.resumed(findings.heard)
        if each.replica == freeze.replica_id and each.begun_s < freeze.begun_s
    ]
    assert len(began_there) > 10


@pytest.mark.timeout(180)
async def test_a_saturated_engine_is_never_ejected(tmp_path: Path, dice: random.Random) -> None:
    """Four engines with four places each, and 200 streams: for half a minute all of them stay ready, all get requests,
    and none is retried or resumed."""
    not_ready: list[str] = []

    async def watch(scene: Scene) -> None:
        while not scene.load.stopping:
            for id, each in (await scene.stand.replicas()).items():
                if each["state"] != "ready" or each["restarts"]:
                    not_ready.append(f"{id}: {each['state']} {each['message']}")
            await asyncio.sleep(0.2)

    chat = {"parallel": 4, "itl_ms": 25, "queue": {"running_max": 40, "wait_max_s": 300}}
    findings = await run_campaign(tmp_path, dice, Campaign(seconds=30, streams=200, chat=chat), watch)
    findings.require_no_fault()
    assert not_ready == []
    counts = findings.books.counts()
    assert (counts["retries"], counts["resumes"]) == (0, 0)
    assert min(findings.replicas().values()) > len(findings.heard) / 8
