"""Health by progress, seen from outside: an engine that stands still is out within seconds, a busy one never."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from inferry.testing.simulated_engine import RECORD_VARIABLE

from .campaign import Campaign, run_campaign
from .freeze import Freeze
from .saturation import SATURATED, ReadyWatch

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
    watch = ReadyWatch()
    findings = await run_campaign(tmp_path, dice, Campaign(30, streams=200, chat=SATURATED), watch.harm)
    findings.require_no_fault()
    assert watch.not_ready == []
    assert watch.looks > 20
    counts = findings.books.counts()
    assert (counts["retries"], counts["resumes"]) == (0, 0)
    assert min(findings.replicas().values()) > len(findings.heard) / 8
