"""`inferry scale`, `drain`, `undrain`, `restart` and `rollout` against a control API that only takes notes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferry.admin.run_record import publish
from inferry.admin.status import DeploymentStatus, Status
from inferry.fleet.lifecycle import Done
from inferry.fleet.rollout_progress import RolloutPhase, RolloutProgress
from tests.unit.admin.control_stand import running_control
from tests.unit.admin.lifecycle_stand import DRAIN_S, StandInLifecycle

from .conftest import Run


def deployment(name: str, engine: str) -> DeploymentStatus:
    return DeploymentStatus(
        name=name, engine=engine, simulated=False, model="m", status="ready", routing="round_robin", waiting=0,
        replicas=[],
    )  # fmt: skip


@pytest.fixture
def lifecycle(run: Run, tmp_path: Path) -> Iterator[StandInLifecycle]:
    """That of an instance on port 8000 of the test's home, which serves `chat` and, from elsewhere, `far`."""
    status = Status(
        version="1", pid=7, file="/f.yaml", url="http://127.0.0.1:8000", started=0.0, status="ready", settled=True,
        generation=1, deployments=[deployment("chat", "vllm"), deployment("far", "openai")],
    )  # fmt: skip
    lifecycle = StandInLifecycle()
    with running_control(status, lifecycle=lifecycle.router) as state:
        publish(tmp_path / "home", state.record)
        yield lifecycle


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["scale", "chat", "3"], ("scale", "chat", 3, DRAIN_S)),
        (["drain", "chat-0"], ("drain", "chat-0", DRAIN_S)),
        (["drain", "chat-0", "--grace", "2.5"], ("drain", "chat-0", 2.5)),
        (["undrain", "chat-0"], ("undrain", "chat-0")),
        (["restart", "chat"], ("restart", "chat", DRAIN_S)),
        (["restart", "chat", "--grace", "2.5"], ("restart", "chat", 2.5)),
        (["rollout", "chat"], ("rollout", "chat", DRAIN_S)),
        (["rollout", "chat", "start"], ("rollout", "chat", DRAIN_S)),
        (["rollout", "--all"], ("rollout", "chat", DRAIN_S)),
        (["rollout", "chat", "undo"], ("undo", "chat")),
        (["rollout", "--all", "undo"], ("undo", "chat")),
    ],
)
def test_verbs_ask_and_say(run: Run, lifecycle: StandInLifecycle, words: list[str], asked: object) -> None:
    """Each verb is one call, whose message is shown; engines that others run are left out of --all."""
    shown = run(*words)
    assert lifecycle.asked == [asked]
    assert (shown.code, shown.out) == (0, f"{lifecycle.asked[0][0]} is done.\n")


def test_steps_are_shown_while_they_happen(
    run: Run, lifecycle: StandInLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, before the end; not those of other rollouts, and nothing but the end for programs."""
    monkeypatch.setattr("inferry.cli.rollout_steps.LOOK_S", 0.01)
    mine = RolloutProgress("chat", "restart of chat-0 by hand", 2000.0, 1)
    lifecycle.progress.steps.append("chat-9 starting")
    asked = 0

    async def restart(target: str, drain_s: float) -> Done:
        nonlocal asked
        if not lifecycle.others:
            lifecycle.others.append(mine)
            for step in ("chat-1 starting", "chat-0 leaving"):
                mine.steps.append(step)
                asked = 0
                while asked < 2:
                    await asyncio.sleep(0.005)
        return Done("chat", "chat-0 replaced by chat-1.")

    rollouts = lifecycle.rollouts

    def count() -> list[RolloutProgress]:
        nonlocal asked
        asked += 1
        return rollouts()

    monkeypatch.setattr(lifecycle, "restart", restart)
    monkeypatch.setattr(lifecycle, "rollouts", count)
    shown = run("restart", "chat-0")
    assert shown.out == "chat: chat-1 starting\nchat: chat-0 leaving\nchat-0 replaced by chat-1.\n"
    assert json.loads(run("restart", "chat-0", "--json").out)["message"] == "chat-0 replaced by chat-1."


def test_the_way_back_is_shown(
    run: Run, lifecycle: StandInLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where `undo` was asked for on."""
    lifecycle.progress.steps.append("chat-9 starting")

    def note(*asked: object) -> Done:
        lifecycle.progress.steps.append("is taken back: it was taken back by hand")
        return Done("chat", "it was taken back by hand")

    monkeypatch.setattr(lifecycle, "_note", note)
    shown = run("rollout", "chat", "undo")
    assert shown.out == "chat: is taken back: it was taken back by hand\nit was taken back by hand\n"


def test_for_programs(run: Run, lifecycle: StandInLifecycle) -> None:
    """--json shows all that was done."""
    assert json.loads(run("restart", "chat", "--json").out) == {
        "deployment": "chat", "message": "restart is done.", "started": ["chat-1"], "ended": ["chat-0"],
    }  # fmt: skip


@pytest.mark.parametrize("words", [["restart", "busy"], ["drain", "nobody"], ["scale", "nobody", "2"]])
def test_refusals(run: Run, lifecycle: StandInLifecycle, words: list[str]) -> None:
    """Exit code 1 and the reason."""
    shown = run(*words)
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith(("error: There is no 'nobody'", "error: Something else is under way"))


@pytest.mark.parametrize("words", [["rollout"], ["rollout", "chat", "--all"]])
def test_a_rollout_of_one_or_of_all(run: Run, words: list[str]) -> None:
    """One of the two must be said, before anybody is asked."""
    shown = run(*words)
    assert (shown.code, "Name a deployment, or say --all" in shown.err) == (1, True)


@pytest.mark.parametrize(
    "words", [["scale", "chat", "0"], ["scale", "chat", "many"], ["drain", "c", "--grace", "-1"]]
)
def test_values_out_of_bounds(run: Run, words: list[str]) -> None:
    """The command line refuses them by itself."""
    assert run(*words).code == 2


def test_a_negative_number_is_no_option(run: Run) -> None:
    """What is wrong is its bounds; a real option that nobody knows is still named."""
    shown = run("scale", "chat", "-1")
    assert (shown.code, "Invalid value for 'N|auto'" in shown.err) == (2, True)
    shown = run("scale", "chat", "2", "--nonsense")
    assert (shown.code, "--nonsense" in shown.err) == (2, True)


def test_status_of_rollouts(run: Run, lifecycle: StandInLifecycle) -> None:
    """One line for what goes on, one for the new replicas, and why; for one deployment, all, or programs."""
    lifecycle.progress.replaced = 1
    lifecycle.progress.new = ("chat-3",)
    first, second = run("rollout", "chat", "status").out.splitlines()
    assert first.startswith("chat: starting, 1 of 3 new, for ")
    assert first.endswith(" s (the file has changed)")
    assert second == "  new: chat-3"
    lifecycle.end(RolloutPhase.ROLLED_BACK, "chat-3: the engine ended\n    no such model")
    assert run("rollout", "--all", "status").out == (
        "chat: taken back, 1 of 3 new, took 12 s (the file has changed)\n"
        "  new: chat-3\n  chat-3: the engine ended\n      no such model\n"
    )
    [view] = json.loads(run("rollout", "chat", "status", "--json").out)
    assert view["phase"] == "rolled_back"
    assert run("rollout", "far", "status").out == "No rollout since this start.\n"
    nobody = run("rollout", "nobody", "status")
    assert nobody.err == "error: There is no deployment 'nobody'. Known: chat, far.\n"


def test_nothing_to_undo(run: Run, lifecycle: StandInLifecycle) -> None:
    """--all takes back what is under way, and says when nothing is."""
    lifecycle.end(RolloutPhase.DONE, "")
    shown = run("rollout", "--all", "undo")
    assert (shown.code, "No rollout is under way" in shown.err, lifecycle.asked) == (1, True, [])
