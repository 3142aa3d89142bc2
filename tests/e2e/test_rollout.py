"""Replicas are drained, restarted and replaced under load, by verbs and by a bad version: no answer is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from .inferry_process import Inferry, Up, wait_for
from .steady_load import SteadyLoad

STREAMS = 50


def a_file(**rollout: object) -> dict[str, Any]:
    """Streams of 40 tokens take 1.2 s, longer than drain_s: many are under way when a replica must go."""
    return {
        "gateway": {"workers": 2, "drain_s": 0.3},
        "deployments": {
            "chat": {
                "engine": "simulated",
                "replicas": 3,
                "ttft_ms": 20,
                "itl_ms": 30,
                "context_tokens": 4096,
                "faults": True,
                "rollout": {"settle_s": 0.5, "canary_s": 0, **rollout},
            }
        },
    }


@contextmanager
def loaded(folder: Path, file: dict[str, Any]) -> Iterator[tuple[Inferry, Up, SteadyLoad]]:
    """An Inferry with this file, under load until the block ends, when no answer may have been anything but whole."""
    inferry = Inferry(folder)
    inferry.write(yaml.safe_dump(file))
    with inferry.up() as up:
        url = up.wait_ready()
        with SteadyLoad(url, streams=STREAMS) as load:
            wait_for("answers", lambda: load.answered["stream"] > STREAMS)
            yield inferry, up, load
            before = load.answered["stream"]
            wait_for("answers afterwards", lambda: load.answered["stream"] > before + STREAMS)
        assert load.faults == []


def rollout_of(up: Up) -> dict[str, Any]:
    [found] = up.control("GET", "/rollouts").json()
    assert isinstance(found, dict)
    return found


def states(up: Up) -> dict[str, str]:
    return {name: each["state"] for name, each in up.replicas().items()}


def ready_one(up: Up, replica_id: str) -> dict[str, Any] | None:
    """The replica's record, if it is ready."""
    found = up.replicas().get(replica_id)
    return found if found is not None and found["state"] == "ready" else None


@pytest.mark.slow
def test_a_rolling_restart_loses_nothing(tmp_path: Path) -> None:
    """Three replicas restarted one after the other below 50 streams: all answers are whole, all replicas are new."""
    with loaded(tmp_path, a_file()) as (inferry, up, _):
        done = inferry.run("restart", "chat", "--json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert sorted(answer["ended"]) == ["chat-0", "chat-1", "chat-2"]
        assert states(up) == {"chat-3": "ready", "chat-4": "ready", "chat-5": "ready"}
        assert rollout_of(up)["phase"] == "done"


@pytest.mark.slow
def test_in_place_takes_no_room(tmp_path: Path) -> None:
    """With strategy in_place there are never more engines than the file says, and still no answer is lost."""
    with loaded(tmp_path, a_file(strategy="in_place")) as (_, up, _):
        most = 0
        over = threading.Event()

        def count() -> None:
            nonlocal most
            while not over.is_set():
                most = max(most, sum(each["pid"] is not None for each in up.replicas().values()))

        counting = threading.Thread(target=count)
        counting.start()
        try:
            answer = up.control("POST", "/restart", {"target": "chat"})
        finally:
            over.set()
            counting.join()
        assert answer.status_code == 200, answer.text
        assert most == 3
        assert states(up) == {"chat-3": "ready", "chat-4": "ready", "chat-5": "ready"}


@pytest.mark.slow
def test_a_drain_hands_over(tmp_path: Path) -> None:
    """A replica leaves by hand below 50 streams, and another one comes in its place; then more are scaled up and down."""
    with loaded(tmp_path, a_file()) as (_, up, _):
        assert up.control("POST", "/drain", {"target": "chat-1", "grace_s": 0}).status_code == 200
        assert states(up) == {"chat-0": "ready", "chat-1": "stopped", "chat-2": "ready"}
        assert up.control("POST", "/undrain", {"target": "chat-1"}).json()["started"] == ["chat-3"]
        assert up.control("POST", "/deployments/chat/scale", {"replicas": 4}).status_code == 200
        wait_for("four replicas", lambda: list(states(up).values()) == ["ready"] * 4)
        assert up.control("POST", "/deployments/chat/scale", {"replicas": 2}).status_code == 200
        assert len(states(up)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "after_tokens": 3, "times": None},
        {"kind": "bad_bytes", "times": None},
        {"kind": "crash", "after_tokens": 3},
    ],
    ids=["cuts", "babbles", "crashes"],
)
def test_a_bad_version_is_taken_back(tmp_path: Path, fault: dict[str, Any]) -> None:
    """The file changes, and the first replica of the new version breaks what it is asked: the rollout is taken back,
    no client notices, and the reload says why."""
    file = a_file(canary_s=20)
    with loaded(tmp_path, file) as (inferry, up, _):
        file["deployments"]["chat"]["parallel"] = 63
        inferry.write(yaml.safe_dump(file), "next.yaml")
        done: list[httpx.Response] = []

        def reload() -> None:
            (tmp_path / "next.yaml").rename(tmp_path / "inferry.yaml")
            done.append(up.control("POST", "/reload"))

        reloading = threading.Thread(target=reload)
        reloading.start()
        new = wait_for("the canary is ready", lambda: ready_one(up, "chat-3"))
        httpx.post(f"{new['url']}/simulate/fault", json=fault).raise_for_status()
        reloading.join()
        assert done[0].status_code == 500
        assert done[0].json()["error"]["code"] == "config_error"
        assert states(up) == {"chat-0": "ready", "chat-1": "ready", "chat-2": "ready"}
        found = rollout_of(up)
        assert (found["phase"], found["replaced"]) == ("rolled_back", 0)
        assert found["because"].partition("\n")[0] in done[0].json()["error"]["message"]


@pytest.mark.slow
def test_a_rollout_is_undone_when_it_is_over(tmp_path: Path) -> None:
    """`inferry rollout chat undo` brings the settings of before back, although the file says otherwise."""
    file = a_file()
    inferry = Inferry(tmp_path)
    inferry.write(yaml.safe_dump(file))
    with inferry.up() as up:
        up.wait_ready()
        nothing = inferry.run("rollout", "chat", "undo")
        assert (nothing.returncode, "Nothing to undo" in nothing.stderr) == (1, True)
        file["deployments"]["chat"]["parallel"] = 63
        inferry.write(yaml.safe_dump(file))
        assert up.control("POST", "/reload").json()["generation"] == 2
        done = inferry.run("rollout", "chat", "undo")
        assert done.returncode == 0, done.stderr
        assert "deployments.chat.parallel: 63 -> 64" in done.stdout
        assert sorted(states(up)) == ["chat-6", "chat-7", "chat-8"]
        status = inferry.run("rollout", "chat", "status")
        assert status.stdout.startswith("chat: done, 3 of 3 new")
        again = up.control("POST", "/reload").json()
        assert "  deployments.chat.parallel: 64 -> 63" in again["changes"]


@pytest.mark.slow
def test_a_version_that_answers_500_is_taken_back(tmp_path: Path) -> None:
    """Old replicas answer instead, so no client sees one; the canary is set aside and taken back all the same."""
    file = a_file(canary_s=60)
    inferry = Inferry(tmp_path)
    inferry.write(yaml.safe_dump(file))
    with inferry.up() as up:
        url = up.wait_ready()
        with SteadyLoad(url, streams=10) as load:
            wait_for("answers", lambda: load.answered["stream"] > 10)
            rolling = threading.Thread(
                target=lambda: up.control("POST", "/deployments/chat/rollout"), name="rollout"
            )
            rolling.start()
            new = wait_for("the canary is ready", lambda: ready_one(up, "chat-3"))
            fault = {"kind": "error_status", "times": None}
            httpx.post(f"{new['url']}/simulate/fault", json=fault).raise_for_status()
            rolling.join()
            assert states(up) == {"chat-0": "ready", "chat-1": "ready", "chat-2": "ready"}
            assert rollout_of(up)["phase"] == "rolled_back"
            assert "requests failed at the new version" in rollout_of(up)["because"]
        assert load.faults == []
