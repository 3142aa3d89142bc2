"""What is noted of launches: once each, complete, and never at the cost of serving."""

from __future__ import annotations

import fcntl
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError
from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView
from inferry.engines.registry import adapter_for
from inferry.fleet import launch_journal
from inferry.fleet.launch_notes import Foresight, LaunchNotes
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.learning import Launch
from inferry.testing.manual_clock import ManualClock

STARTED_S = 1_767_225_590.0


def launch(number: int) -> Launch:
    return Launch(wall_s=float(number), engine="vllm", device="l4", model="m", measured={"start_s": 1.5})


def plan() -> DeploymentPlan:
    keys = {"engine": "llamacpp", "model": "file:/m.gguf"}
    deployment = DeploymentFile.model_validate({"deployments": {"chat": keys}}).deployments["chat"]
    return DeploymentPlan("chat", deployment, adapter_for("chat", deployment), Path("/m.gguf"))


def view(
    log_path: Path | None = None, tokens: int = 0, state: ReplicaState = ReplicaState.READY
) -> ReplicaView:
    return ReplicaView(
        id="chat-0", deployment="chat", engine="llamacpp", simulated=False, state=state, endpoint=None,
        since_wall_s=STARTED_S + 4, restarts=0, pid=42, started_wall_s=STARTED_S, tokens_generated=tokens,
        tokens_prompt=2 * tokens, log_path=None if log_path is None else str(log_path),
    )  # fmt: skip


class World:
    """Notes of one deployment, whose replica is as the test says."""

    def __init__(self, home: Path, foresight: Foresight | None) -> None:
        self.home = home
        self.clock = ManualClock()
        self.readings: list[tuple[ReplicaView, ReplicaLoad | None]] = []
        self.notes = LaunchNotes(
            lambda: self.readings,
            lambda: [plan()],
            lambda _: foresight,
            lambda _: {42: 500},
            home,
            self.clock,
        )

    async def look(self, seen: ReplicaView, running: int = 0) -> list[Launch]:
        """One look, five seconds after the last; all that is noted by then."""
        self.clock.advance(5)
        self.readings = [(seen, ReplicaLoad("chat-0", self.clock.now_s(), running=running))]
        await self.notes.look()
        return launch_journal.read_launches(self.home)


FORESIGHT = Foresight(
    "llamacpp", "EPYC", "smol", predicted={"memory_bytes": 400.0, "kv_tokens": 8192.0}, expected={"memory_bytes": 450.0},
    speed=lambda load: {"output_tokens_per_s": 10 * (load.concurrency or 0) + load.input_tokens / 128, "ttft_ms": 9.0},
)  # fmt: skip


async def test_a_start_is_noted_once(tmp_path: Path) -> None:
    """What was predicted, what was expected with corrections, and what was measured: memory, KV tokens, seconds."""
    log = tmp_path / "log"
    log.write_text("I srv load_model: initializing, n_slots = 4, n_ctx_slot = 2048, kv_unified = 'false'\n")
    world = World(tmp_path, FORESIGHT)
    for _ in range(3):
        noted = await world.look(view(log))
    assert [each.measured for each in noted] == [{"start_s": 4.0, "kv_tokens": 8192.0, "memory_bytes": 500.0}]
    assert noted[0].predicted == {"memory_bytes": 400.0, "kv_tokens": 8192.0}
    assert noted[0].expected == {"memory_bytes": 450.0}
    assert (noted[0].engine, noted[0].device, noted[0].model) == ("llamacpp", "EPYC", "smol")


async def test_its_speed_is_noted_when_it_was_busy_for_long(tmp_path: Path) -> None:
    """A minute of two requests at once, 20 tokens/s beside what was predicted for two; not the time between tokens, which
    counters don't tell from that of prompts."""
    world = World(tmp_path, FORESIGHT)
    tokens = 0
    for _ in range(16):
        noted = await world.look(view(tokens=tokens), running=2)
        tokens += 100
    assert [each.measured for each in noted[1:]] == [{"output_tokens_per_s": 20.0}]
    assert noted[1].predicted == {"output_tokens_per_s": pytest.approx(22.0)}


async def test_a_look_without_company_begins_anew(tmp_path: Path) -> None:
    """Requests that come and go between looks say nothing certain of how many there were: no speed is noted."""
    world = World(tmp_path, FORESIGHT)
    for number in range(40):
        noted = await world.look(view(tokens=100 * number), running=1 if number % 9 == 0 else 3)
    assert len(noted) == 1


async def test_coming_back_is_no_start(tmp_path: Path) -> None:
    """A replica that was suspect for a while and recovers is not noted again, as a start that took an hour."""
    world = World(tmp_path, FORESIGHT)
    for state in (ReplicaState.READY, ReplicaState.SUSPECT, ReplicaState.READY):
        noted = await world.look(view(state=state))
    assert len(noted) == 1


def test_each_copy_tells_of_its_own_cache() -> None:
    """With data parallelism an engine prints one copy's tokens, and the prediction is of all; the rest of a device is what
    the cache did not get."""
    found = replace(FORESIGHT, predicted={"kv_tokens": 8000.0, "rest_bytes": 900.0}, kv_bytes=100.0, copies=4)
    assert found.told({"kv_tokens": 1800.0}) == {"kv_tokens": 7200.0, "rest_bytes": 910.0}
    assert found.told({"weights_bytes": 5.0}) == {"weights_bytes": 5.0}


async def test_idle_replicas_say_nothing_of_speed(tmp_path: Path) -> None:
    """Without requests, or without tokens, time does not count."""
    world = World(tmp_path, FORESIGHT)
    for number in range(20):
        noted = await world.look(view(tokens=7), running=number % 2)
    assert len(noted) == 1


async def test_what_the_planner_does_not_know_is_not_noted(tmp_path: Path) -> None:
    """No prediction, no record; nor for replicas that are not ready."""
    assert await World(tmp_path, None).look(view()) == []
    assert await World(tmp_path, FORESIGHT).look(view(state=ReplicaState.STARTING)) == []


def test_a_cut_line_costs_itself(tmp_path: Path) -> None:
    """A process that was killed while it wrote leaves a cut line: it is passed over, and the next line is whole."""
    launch_journal.append_launch(tmp_path, launch(1))
    path = tmp_path / "learned" / "launches.jsonl"
    path.write_bytes(path.read_bytes() + b'{"wall_s": 2.0, "engi')
    launch_journal.append_launch(tmp_path, launch(3))
    assert [each.wall_s for each in launch_journal.read_launches(tmp_path)] == [1.0, 3.0]


def test_the_journal_is_bounded(tmp_path: Path) -> None:
    """When it is full, the older half goes; the newest record is always there."""
    for number in range(200):
        launch_journal.append_launch(tmp_path, launch(number), bytes_max=2000)
        assert launch_journal.read_launches(tmp_path)[-1].wall_s == number
    kept = (tmp_path / "learned" / "launches.jsonl").stat()
    assert kept.st_size < 2200
    assert kept.st_mode & 0o777 == 0o600


def test_a_lock_that_is_never_let_go_costs_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits forever for a process that hangs."""
    monkeypatch.setattr(launch_journal, "LOCK_TRIES", 2)
    launch_journal.append_launch(tmp_path, launch(1))
    with (tmp_path / "learned" / "lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            launch_journal.append_launch(tmp_path, launch(2))
        with pytest.raises(ConfigError, match="can't be removed"):
            launch_journal.forget_launches(tmp_path)
    assert launch_journal.forget_launches(tmp_path) == 1


def _append_many(home: Path) -> None:
    for number in range(40):
        launch_journal.append_launch(home, launch(number))


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    """Two instances of Inferry share the file: no record is lost or mixed with another."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(tmp_path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert len(launch_journal.read_launches(tmp_path)) == 80


def test_what_was_learned_can_be_forgotten(tmp_path: Path) -> None:
    """Forgetting says how much there was, and is no error where there is nothing."""
    launch_journal.append_launch(tmp_path, launch(1))
    assert launch_journal.forget_launches(tmp_path) == 1
    assert launch_journal.forget_launches(tmp_path) == 0
    assert launch_journal.read_launches(tmp_path) == []
