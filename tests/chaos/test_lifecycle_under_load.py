"""Replicas that are replaced on purpose, below 200 streams: no client notices, and the books are right."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from .campaign import Campaign, Scene, run_campaign
from .harms import at_once, kill_at_random

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROLLOUT = {"settle_s": 0.5, "canary_s": 0}


async def restart_all(scene: Scene) -> None:
    """`inferry restart chat`, and the load ends when it is done."""
    await scene.load.pause(3)
    done = await asyncio.to_thread(scene.inferry.run, "restart", "chat", "--json", timeout_s=120)
    scene.note(f"restarted: {done.returncode} {done.stdout}{done.stderr}")
    await scene.load.pause(3)
    scene.load.stop()


async def roll_out_a_bad_version(scene: Scene) -> None:
    """The file changes, which Inferry notices; the first replica of the new version cuts each answer after three tokens."""
    await scene.load.pause(3)
    before = set(await scene.stand.replicas())
    file = scene.inferry.folder / "inferry.yaml"
    content = yaml.safe_load(file.read_text())
    content["deployments"]["chat"]["parallel"] = 63
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    canary = ""

    def is_there(seen: dict[str, dict[str, Any]]) -> bool:
        nonlocal canary
        new = [id for id, each in seen.items() if id not in before and each["state"] == "ready"]
        canary = new[0] if new else ""
        return bool(new)

    await scene.stand.until("the canary is ready", is_there)
    await scene.stand.arm(canary, kind="cut", after_tokens=3, times=None)
    scene.note(f"{canary} is bad")
    told = await scene.stand.rollout_ends("chat")
    scene.note(f"{told['phase']}: {told['because']}")
    assert told["phase"] == "rolled_back", told
    assert set(await scene.stand.ready()) == before
    await scene.load.pause(2)
    scene.load.stop()


async def test_a_rolling_restart_fails_no_request(tmp_path: Path, dice: random.Random) -> None:
    """`inferry restart` replaces all four replicas below 200 streams: each is whole, and has one outcome."""
    campaign = Campaign(seconds=120, gateway={"drain_s": 1}, chat={"rollout": ROLLOUT})
    findings = await run_campaign(tmp_path, dice, campaign, restart_all)
    findings.require_no_fault()
    assert any("restarted: 0" in line for line in findings.log), findings.log
    assert findings.books.counts()["resumed streams"] > 50


async def test_a_restart_and_kills_at_the_same_time(tmp_path: Path, dice: random.Random) -> None:
    """The same while replicas, old and new, are killed at random: whatever becomes of the restart, no request fails."""
    campaign = Campaign(seconds=45, streams=100, gateway={"drain_s": 1}, chat={"rollout": ROLLOUT})
    findings = await run_campaign(tmp_path, dice, campaign, at_once(restart_all, kill_at_random(4.0)))
    findings.require_no_fault()
    assert findings.books.counts()["resumed streams"] > 20


async def test_a_canary_that_is_bad_is_taken_back(tmp_path: Path, dice: random.Random) -> None:
    """A new version that cuts answers is rolled back by itself below 200 streams: what it broke goes on at the old
    replicas, and no client notices."""
    chat = {"rollout": {"settle_s": 0.5, "canary_s": 20}}
    findings = await run_campaign(tmp_path, dice, Campaign(seconds=120, chat=chat), roll_out_a_bad_version)
    findings.require_no_fault()
    assert findings.books.counts()["resumed streams"] > 0
