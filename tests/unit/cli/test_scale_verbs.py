"""`inferry scale` and the verbs below it: what is asked, what is shown, and what is said where it can't be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import APIRouter

from inferry.admin.run_record import publish
from inferry.admin.status import Status
from inferry.fleet.scaler_event import EventKind, ScalingEvent
from inferry.fleet.scaling_journal import NAME, ScalingJournal
from tests.unit.admin.control_stand import running_control
from tests.unit.admin.lifecycle_stand import DRAIN_S, StandInLifecycle
from tests.unit.admin.scaling_stand import RUN, StandInScaler

from .conftest import Run

FILE = """\
deployments:
  chat:
    engine: simulated
    scaling: {max: 9, rules: [{metric: queue_depth, above: 15, add: 3}]}
  plain: {engine: simulated}
"""


class Stand:
    """An instance on port 8000 of the test's home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "run" / "8000"
        self.scaler = StandInScaler(self.folder)
        self.lifecycle = StandInLifecycle()

    @property
    def router(self) -> APIRouter:
        both = APIRouter()
        both.include_router(self.lifecycle.router)
        both.include_router(self.scaler.router)
        return both


@pytest.fixture
def stand(run: Run, tmp_path: Path) -> Iterator[Stand]:
    status = Status(
        version="1", pid=7, file="/f.yaml", url="http://127.0.0.1:8000", started=0.0, status="ready", settled=True,
        generation=1, deployments=[],
    )  # fmt: skip
    stand = Stand(tmp_path / "home")
    with running_control(status, lifecycle=stand.router) as state:
        publish(tmp_path / "home", state.record)
        yield stand


def event(number: int, kind: EventKind = EventKind.CHANGE, **more: object) -> ScalingEvent:
    happened = ScalingEvent(
        number, 0.0, 1_700_000_000.0 + number, "chat", kind, 2, 3, "rules[0] queue_depth", "it is 20", came=("chat-2",)
    )  # fmt: skip
    return replace(happened, **more)  # type: ignore[arg-type]


# --- by hand, and back --------------------------------------------------------------------------------


def test_a_deployment_may_be_called_like_a_verb(run: Run, stand: Stand) -> None:
    """With a number behind it, a name is a deployment, whatever else it means."""
    for words, name in (
        (["chat", "3"], "chat"),
        (["set", "chat", "3"], "chat"),
        (["--port", "8000", "chat", "3"], "chat"),
        (["history", "3"], "history"),
        (["--", "history", "3"], "history"),
        (["dry-run", "3", "--json"], "dry-run"),
        (["set", "explain", "3"], "explain"),
        (["set", "3"], "set"),
    ):
        stand.lifecycle.asked.clear()
        run("scale", *words)
        assert stand.lifecycle.asked == [("scale", name, 3, DRAIN_S)]


def test_back_to_the_file_s_rules(run: Run, stand: Stand) -> None:
    """`auto` ends a number by hand; a deployment without rules has nothing to go back to, and says so."""
    shown = run("scale", "chat", "auto")
    assert (shown.code, shown.out) == (0, "'chat' scales by itself again.\n")
    assert json.loads(run("scale", "chat", "auto", "--json").out)["deployment"] == "chat"
    assert stand.scaler.released == ["chat", "chat"]
    shown = run("scale", "plain", "auto")
    assert (shown.code, "has no 'scaling' in the file" in shown.err) == (1, True)
    assert "Did you mean 'chat'?" in run("scale", "chatt", "auto").err


# --- explain ------------------------------------------------------------------------------------------


def test_explain_tells_what_is_seen_and_what_each_rule_wants(run: Run, stand: Stand) -> None:
    """Figures with their age, replicas that told nothing, gateways, every rule's wish, alerts, and the next look."""
    stand.scaler.by_hand = 2
    shown = run("scale", "explain", "chat")
    assert shown.code == 0
    for words in (
        "chat: 2 replicas wanted, within 1 to 4 of the file",
        "by hand: 2; scaling rests until",
        "looked 4 s ago, next look in 6 s, every 10 s",
        "2 -> 3: rules[0] queue_depth: queue_depth is 21, above 10: 1 more",
        "rules[0] queue_depth: wants 3",
        "rules[1] engine:vllm:num_preemptions_total: ",
        "rules[2] error_rate: error_rate is 0.1",
        "seen: 2 replicas serving, 0 on the way",
        "gateways: 20 waiting, 3 at replicas",
        "chat-0: gpu_use 0.5, kv_cache_use 0.25, running 3, waiting 1, vllm:num_preemptions_total 2 (0.5 s old)",
        "chat-1: told nothing yet",
        "a replica's start takes: 4.0 s",
    ):
        assert words in shown.out, shown.out
    found = json.loads(run("scale", "explain", "chat", "--json").out)
    assert (found["decision"]["to"], found["readings"][1]["age_s"]) == (3, None)


def test_explain_of_a_model_that_is_not_loaded(
    run: Run, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways that nobody asked did not fail to answer; and an engine that is simulated is called so."""
    state = stand.scaler.explain("chat")
    assert state is not None
    assert state.seen is not None
    asleep = replace(state, wanted=0, seen=replace(state.seen, traffic=None), simulated=True)
    monkeypatch.setattr(stand.scaler, "explain", lambda name: asleep)
    shown = run("scale", "explain", "chat").out
    assert shown.startswith("chat (SIMULATED): 0 replicas wanted")
    assert "gateways: not asked while the model is not loaded" in shown
    assert "for 'chat' (SIMULATED), by" in run("scale", "dry-run", "chat").out
    assert json.loads(run("scale", "explain", "chat", "--json").out)["simulated"] is True


# --- dry-run ------------------------------------------------------------------------------------------


def test_dry_run_tries_rules_on_what_was_seen(run: Run, stand: Stand, tmp_path: Path) -> None:
    """Those in force, or another file's, over the recorded looks; nothing is asked of the fleet."""
    shown = run("scale", "dry-run", "chat")
    assert "What the rules in force would decide for 'chat', by 21 looks of the last 3 min" in shown.out
    assert "now: 2 -> 3: rules[0] queue_depth: queue_depth is 21, above 10" in shown.out
    (tmp_path / "other.yaml").write_text(FILE)
    shown = run("scale", "dry-run", "chat", "--file", "other.yaml")
    assert "now: 2 -> 5: rules[0] queue_depth: queue_depth is 21, above 15" in shown.out
    looks = json.loads(run("scale", "dry-run", "chat", "-f", "other.yaml", "--json").out)["looks"]
    assert (len(looks), looks[-1]["to"], looks[0]["to"]) == (21, 5, 2)
    assert stand.lifecycle.asked == []


def test_dry_run_says_why_not(run: Run, stand: Stand, tmp_path: Path) -> None:
    """A file that is not there, a deployment that is not in it, and one without rules are told apart."""
    (tmp_path / "other.yaml").write_text(FILE)
    for words, says in (
        (["chat", "--file", "none.yaml"], "none.yaml does not exist"),
        (["plain", "--file", "other.yaml"], "'deployments.plain' has no 'scaling' to try"),
        (["chatt", "--file", "other.yaml"], "Did you mean 'chat'?"),
        (["plain"], "has no 'scaling' in the file"),
    ):
        shown = run("scale", "dry-run", *words)
        assert (shown.code, says in shown.err) == (1, True), shown.err


# --- history ------------------------------------------------------------------------------------------


def test_history_tells_what_happened_and_what_became_of_it(run: Run, stand: Stand) -> None:
    """Each change with rule, reason and outcome, or that it is under way; alerts and numbers by hand; one deployment's
    only, or since then only."""
    journal = ScalingJournal(stand.folder, RUN)
    for each in (
        event(1, outcome="chat-2 serving after 4.0 s", took_s=4.0),
        event(2, EventKind.ALERT, rule="rules[2] error_rate", because="error_rate is 0.1"),
        event(3, EventKind.BY_HAND, rule="", because="somebody set the number", to=5),
        event(4, deployment="code"),
        event(5, EventKind.NOT_DONE, outcome="something else is under way there"),
    ):
        journal.append(each)
    shown = run("scale", "history").out.splitlines()
    lines = [line if line.startswith(" ") else line[len("2023-11-14 22:13:21  ") :] for line in shown]
    assert lines == [
        "chat  2 -> 3  rules[0] queue_depth: it is 20",
        "    chat-2 serving after 4.0 s",
        "chat  alert  rules[2] error_rate: error_rate is 0.1",
        "chat  by hand, 2 -> 5  somebody set the number",
        "code  2 -> 3  rules[0] queue_depth: it is 20",
        "    under way: chat-2 to come",
        "chat  not done, 2 -> 3  rules[0] queue_depth: it is 20",
        "    something else is under way there",
    ]
    assert [
        each["number"] for each in json.loads(run("scale", "history", "code", "--json").out)["events"]
    ] == [4]
    assert run("scale", "history", "--since", "1h").out == "Nothing happened since then.\n"
    assert len(run("scale", "history", "--since", "2023-11-14 22:13:24").out.splitlines()) == 4


def test_history_of_a_name_that_is_none(run: Run, stand: Stand) -> None:
    """A slip of the pen is not taken for a deployment to which nothing happened; one that is there and was never scaled
    is one."""
    ScalingJournal(stand.folder, RUN).append(event(1))
    shown = run("scale", "history", "chta")
    assert shown.code == 1
    assert "There is no deployment 'chta'" in shown.err
    assert "Did you mean 'chat'?" in shown.err
    assert run("scale", "history", "plain").out == "Nothing happened to 'plain'.\n"


def test_history_outlives_inferry(run: Run, tmp_path: Path) -> None:
    """When nothing runs, the journal is read; what was under way then has ended, and a line that a kill has cut is
    told of; of several journals, one must be named."""
    home = tmp_path / "home"
    folder = home / "run" / "8000"
    folder.mkdir(parents=True)
    ScalingJournal(folder, RUN).append(event(1))
    with (folder / NAME).open("a") as file:
        file.write('{"run": "cut')
    shown = run("scale", "history")
    assert "Inferry ended meanwhile" in shown.out
    assert "1 line of the journal can't be read" in shown.err
    shown = run("scale", "history", "chta")
    assert (shown.code, "Did you mean 'chat'?" in shown.err) == (1, True)
    other = home / "run" / "9000"
    other.mkdir()
    ScalingJournal(other, RUN).append(event(1, deployment="far"))
    shown = run("scale", "history")
    assert (shown.code, "8000, 9000. Say which with --port" in shown.err) == (1, True)
    assert "far" in run("scale", "history", "--port", "9000").out
    shown = run("scale", "history", "--port", "7")
    assert (shown.code, "on port 7, but on: 8000, 9000" in shown.err) == (1, True)


def test_history_of_nothing(run: Run) -> None:
    """Before anything was scaled there is no journal, which is told with what makes one; a wrong --since names the ways
    to write it."""
    shown = run("scale", "history")
    assert (shown.code, "Nothing of scaling was written down" in shown.err) == (1, True)
    shown = run("scale", "history", "--since", "yesterday")
    assert (shown.code, "'yesterday' is no time. Write how long ago (90s, 30m" in shown.err) == (1, True)
