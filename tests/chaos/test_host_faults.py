"""What goes wrong with the machine below: no room on the disk, a wall clock that is set."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from .campaign import Campaign, run_campaign
from .harms import at_once, fill_the_disk, kill_at_random, step_the_clock

pytestmark = pytest.mark.slow

DAY_S = 86_400.0


@pytest.mark.timeout(180)
async def test_a_full_disk_costs_no_answer_and_no_outcome(tmp_path: Path, dice: random.Random) -> None:
    """For ten seconds neither journal, logs nor store take a byte, while replicas are killed: all streams are whole, and
    when there is room again, all outcomes are in the ledger."""
    harm = at_once(fill_the_disk(4.0, 10.0), kill_at_random(3.0))
    findings = await run_campaign(tmp_path, dice, Campaign(seconds=20, streams=60), harm)
    findings.require_no_fault()
    [log] = (tmp_path / "home").glob("run/*/gateway-0.jsonl")
    assert "journal_write_failed" in log.read_text()
    assert "journal_writes_again" in log.read_text()


@pytest.mark.timeout(180)
async def test_steps_of_the_wall_clock_disturb_nothing(tmp_path: Path, dice: random.Random) -> None:
    """Forward by a day, back by two, to 1970 and home again, under load and kills: streams, outcomes and sums are right;
    no time in the ledger is negative."""
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("d", 0.0))
    here = str(Path(__file__).with_name("clock_steps"))
    environ = {
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])),
        "INFERRY_CHAOS_CLOCK": str(clock),
    }
    steps = step_the_clock(clock, (DAY_S, -DAY_S, 3600.0, -1.79e9, 0.0), 3.0)
    campaign = Campaign(seconds=18, streams=60, environ=environ)
    findings = await run_campaign(tmp_path, dice, campaign, at_once(steps, kill_at_random(3.0)))
    # Requests are matched to engines by wall time there: across a step, it can't be.
    findings.require_no_fault(reconciled=False)
    rows = list(findings.books.rows.values())
    assert all(row["duration_s"] >= 0 and row["queue_s"] >= 0 for row in rows)
    assert max(row["received_wall_s"] for row in rows) - min(row["received_wall_s"] for row in rows) > DAY_S
