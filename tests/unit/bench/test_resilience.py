"""A replica that is killed or stopped in the middle of a run."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferry.bench.records import EngineSample, RequestRecord, RunRecord, Verdict
from inferry.bench.resilience import Blow, look, striking, words

BLOW = Blow(kind="kill", replica="chat-0", pid=1, after_s=10.0)


def request(
    number: int, due_s: float, *, wait_s: float = 0.1, verdict: Verdict = Verdict.OK, pause_s: float = 0.1
) -> RequestRecord:
    first_s = due_s + wait_s
    return RequestRecord(
        number=number, verdict=verdict, due_s=due_s, sent_s=due_s, first_token_s=first_s,
        last_token_s=first_s + pause_s, ended_s=first_s + pause_s, chunk_s=(first_s, first_s + pause_s),
        chunk_tokens=(1.0, 1.0),
    )  # fmt: skip


def run(*changed: RequestRecord, samples: tuple[EngineSample, ...] = (), until_s: int = 30) -> RunRecord:
    """Four requests per second, each 0.2 s long; some are otherwise."""
    by_number = {each.number: each for each in changed}
    every = [by_number.get(number, request(number, number / 4)) for number in range(until_s * 4)]
    return RunRecord(api="chat", started_wall_s=0.0, duration_s=30.0, requests=tuple(every), samples=samples)


def test_nobody_noticed() -> None:
    """Where nothing failed or waited, the recovery takes no time."""
    found = look(BLOW, 10.01, run())
    assert (found.under_way, found.under_way_failed, found.after_failed, found.error_share) == (1, 0, 0, 0.0)
    assert found.recovery_s == 0.0
    assert found.after == 79


def test_failures_and_pauses() -> None:
    """Failures count among those under way and those after; the pause is of streams that went on."""
    found = look(
        BLOW,
        10.05,
        run(
            request(38, 9.5, pause_s=3.0),
            request(39, 9.75, wait_s=1.0, verdict=Verdict.TRUNCATED),
            request(41, 10.25, verdict=Verdict.HTTP_ERROR),
            request(44, 11.0, wait_s=0.9),
        ),
    )
    assert (found.under_way, found.under_way_failed) == (3, 1)
    assert (found.after_failed, found.after) == (1, 79)
    assert found.error_share == 2 / 82
    assert found.resume_gap_s == 3.0
    assert found.recovery_s is not None
    assert abs(found.recovery_s - 0.95) < 1e-9
    assert "1 of 3 under way failed, 1 of 79 later ones" in words(found)
    assert "paused for up to 3.00 s" in words(found)


def test_not_as_before_at_the_end() -> None:
    """Where requests still fail when the run ends, nobody knows when it would have been as before."""
    found = look(BLOW, 10.0, run(request(118, 29.5, verdict=Verdict.CONNECT)))
    assert found.recovery_s is None
    assert "not seen to be as before" in words(found)


def test_too_little_before() -> None:
    """A blow in the first seconds has nothing to compare with."""
    assert look(BLOW, 2.0, run()).recovery_s is None


def test_the_replica_is_back() -> None:
    """A replica that is silent after the blow is back with the first that it tells again."""
    told = [*range(1, 11), 16, 17]
    samples = tuple(EngineSample(at_s=float(at_s), replica="chat-0") for at_s in told)
    assert look(BLOW, 10.0, run(samples=samples)).replica_back_s == 6.0
    assert look(BLOW, 10.0, run(samples=samples[:10])).replica_back_s is None


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_what_was_stopped_goes_on(victim: subprocess.Popen[bytes]) -> None:
    """A blow lands when the run's clock says so; at the end, a stopped process goes on."""
    with striking(Blow(kind="stop", replica="a", pid=victim.pid, after_s=5.0)) as striker:
        assert striker is not None
        striker.note(4.95)
        striker.note(4.99)
        async with asyncio.timeout(10):
            while striker.landed_s is None or state(victim.pid) != "T":
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while state(victim.pid) == "T":
            await asyncio.sleep(0.01)


async def test_a_kill_is_final(victim: subprocess.Popen[bytes]) -> None:
    """SIGKILL is sent; to a process that has ended meanwhile nothing is, and that is no blow."""
    blow = Blow(kind="kill", replica="a", pid=victim.pid, after_s=0.0)
    with striking(blow) as striker, striking(blow) as late:
        assert striker is not None
        assert late is not None
        striker.note(0.5)
        assert await asyncio.to_thread(victim.wait, 10) == -signal.SIGKILL
        late.note(0.5)
        await asyncio.sleep(0.01)
        assert striker.landed_s is not None
        assert late.landed_s is None
