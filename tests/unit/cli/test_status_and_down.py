"""`inferry status` and `inferry down` against a control API that is only claimed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferry.admin.run_record import publish
from inferry.admin.status import DeploymentStatus, ReplicaStatus, Status
from inferry.cli.status import _ago
from inferry.core.clock import SystemClock
from tests.unit.admin.control_stand import Control, running_control

from .conftest import Run


def replica(replica_id: str, state: str, **changes: object) -> ReplicaStatus:
    given = {
        "pid": 11,
        "url": "http://127.0.0.1:9",
        "since": SystemClock().wall_s() - 3700,
        "restarts": 2,
        "requests": 5,
        "in_flight": 1,
        "tokens_per_s": 12.34,
        "message": "",
        "log": None,
    }
    return ReplicaStatus.model_validate({"id": replica_id, "state": state, **given, **changes})


@pytest.fixture
def control(run: Run, tmp_path: Path) -> Iterator[Control]:
    """An instance on port 8000 of the test's home, with a healthy and a dead replica."""
    status = Status(
        version="1",
        pid=7,
        file="/f.yaml",
        url="http://127.0.0.1:8000",
        started=0.0,
        status="degraded",
        settled=True,
        generation=1,
        deployments=[
            DeploymentStatus(
                waiting=0,
                name="chat",
                engine="simulated",
                simulated=True,
                model="m",
                status="degraded",
                routing="round_robin",
                replicas=[
                    replica("chat-0", "ready", message="answers"),
                    replica("chat-1", "failed", message="ended with code 1", in_flight=0),
                ],
            )
        ],
    )
    with running_control(status) as state:
        publish(tmp_path / "home", state.record)
        yield state


@pytest.mark.usefixtures("control")
def test_table(run: Run) -> None:
    """One row per replica, the simulation said aloud, and the reason of what is not well."""
    shown = run("status")
    head, titles, first, second, note = shown.out.splitlines()
    assert head.split() == ["http://127.0.0.1:8000/v1", "degraded", "pid", "7", "/f.yaml"]
    assert titles.split() == ["DEPLOYMENT", "REPLICA", "STATE", "SINCE", "REQUESTS", "TOKENS/S", "RESTARTS"]
    assert first.split() == [
        "chat",
        "(SIMULATED)",
        "chat-0",
        "ready",
        "61",
        "min",
        "5",
        "(1",
        "now)",
        "12.3",
        "2",
    ]
    assert second.split() == ["chat-1", "failed", "61", "min", "5", "12.3", "2"]
    assert note.strip() == "chat-1: ended with code 1"


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("flags", [(), ("--port", "8000")])
def test_json(run: Run, flags: tuple[str, ...]) -> None:
    """For programs: deployments, replicas, and of each what scripts need."""
    status = json.loads(run("status", "--json", *flags).out)
    replicas = status["deployments"][0]["replicas"]
    assert [{key: each[key] for key in ("id", "state", "pid", "url", "restarts")} for each in replicas] == [
        {"id": "chat-0", "state": "ready", "pid": 11, "url": "http://127.0.0.1:9", "restarts": 2},
        {"id": "chat-1", "state": "failed", "pid": 11, "url": "http://127.0.0.1:9", "restarts": 2},
    ]


@pytest.mark.usefixtures("control")
def test_wrong_port(run: Run) -> None:
    """Another port than the running one is told what runs."""
    shown = run("status", "--port", "9999")
    assert (shown.code, shown.err) == (
        1,
        "error: Nothing is running on port 9999. Running: 8000 (/f.yaml).\n",
    )


@pytest.mark.parametrize(("flags", "at_once"), [((), False), (("--now",), True)])
def test_down_waits_until_it_is_gone(
    run: Run, control: Control, flags: tuple[str, ...], at_once: bool
) -> None:
    """`down` asks once, in the way that was wished, and returns when nobody listens any more."""
    shown = run("down", *flags)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("Stopped: http://127.0.0.1:8000 (pid ")
    assert control.shutdowns == [at_once]
    assert not control.record.alive()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172799, "47 h"),
        (172800, "2 d"),
    ],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    """An age in the unit that reads best; a clock that was set back is no negative age."""
    assert _ago(seconds) == text
