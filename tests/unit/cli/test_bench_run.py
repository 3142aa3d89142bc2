"""One run of the bench with a replica that is to be struck."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from inferry.bench.plan import RunPlan
from inferry.bench.records import Progress, RunRecord
from inferry.bench.report import ReportedRun
from inferry.bench.resilience import Blow
from inferry.bench.tokens import Wording
from inferry.cli import bench_run
from inferry.cli.bench_run import Bench
from tests.unit.bench.made_up_runs import made_up_run

RUN = made_up_run(5.0, 10.0)


@pytest.fixture
def replica() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be struck."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def struck(
    replica: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, *, after_s: float, dies_first: bool
) -> ReportedRun:
    """A made-up run of 10 s and some, whose clock jumps to the blow's time or to its own end."""

    async def run(plan: RunPlan, *, progress: Callable[[Progress], None], **_: Any) -> RunRecord:
        if dies_first:
            replica.kill()
            await asyncio.to_thread(replica.wait)
        progress(Progress(at_s=min(after_s, RUN.record.duration_s)))
        await asyncio.sleep(0.01)
        return replace(RUN.record, notes=())

    monkeypatch.setattr(bench_run, "run", run)
    blow = Blow(kind="kill", replica="chat-0", pid=replica.pid, after_s=after_s)
    return await Bench(Wording(), None, quiet=True).run_once(RUN.plan, "", blow=blow)


@pytest.mark.parametrize(
    ("after_s", "dies_first", "why"),
    [
        (60.0, False, "the run was over after 1"),
        (5.0, True, "had ended by itself"),
    ],
)
async def test_a_blow_that_never_landed_is_told(
    replica: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    after_s: float,
    dies_first: bool,
    why: str,
) -> None:
    """A run whose replica was not struck is SUSPECT, and says why: else it looks as if nobody had noticed."""
    found = await struck(replica, monkeypatch, after_s=after_s, dies_first=dies_first)
    assert found.resilience is None
    assert found.validity.verdict == "suspect"
    for told in (found.validity.reasons[-1], found.record.notes[-1]):
        assert told.startswith("chat-0 was not killed: ")
        assert why in told


async def test_a_blow_that_landed_is_no_reason_for_doubt(
    replica: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run with the blow in its middle says what came of it, and is as valid as it was."""
    found = await struck(replica, monkeypatch, after_s=5.0, dies_first=False)
    assert found.resilience is not None
    assert found.validity == RUN.validity
    assert "chat-0 was killed at" in found.record.notes[-1]
