"""Scale, drain, restart and rollout over the control API, and their client."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from inferry.admin.lifecycle_client import LifecycleClient
from inferry.core.errors import ConfigError
from inferry.fleet.rollout_progress import RolloutPhase

from .control_stand import Control, running_control
from .lifecycle_stand import DRAIN_S, StandInLifecycle
from .test_control import STATUS


@pytest.fixture
def lifecycle() -> StandInLifecycle:
    return StandInLifecycle()


@pytest.fixture
def control(lifecycle: StandInLifecycle) -> Iterator[Control]:
    with running_control(STATUS, lifecycle=lifecycle.router) as state:
        yield state


def ask(control: Control, path: str, body: object) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=control.record.socket)
    with httpx.Client(transport=transport, base_url="http://control") as client:
        return client.post(path, json=body)


def test_what_is_asked_arrives(control: Control, lifecycle: StandInLifecycle) -> None:
    """Each call of the client is one verb, with the gateway's drain time where nothing else was said."""
    client = LifecycleClient(control.record)
    done = client.scale("chat", 4)
    assert (done.message, done.started, done.ended) == ("scale is done.", ["chat-1"], ["chat-0"])
    client.drain("chat-0", None)
    client.drain("chat-0", 0.5)
    client.undrain("chat-0")
    client.restart("chat")
    client.rollout("chat")
    assert client.undo("chat").message == "undo is done."
    assert lifecycle.asked == [
        ("scale", "chat", 4, DRAIN_S),
        ("drain", "chat-0", DRAIN_S),
        ("drain", "chat-0", 0.5),
        ("undrain", "chat-0"),
        ("restart", "chat", DRAIN_S),
        ("rollout", "chat", DRAIN_S),
        ("undo", "chat"),
    ]


def test_refusals_are_errors_for_people(control: Control) -> None:
    """The reason travels, with a status and a code for programs."""
    with pytest.raises(ConfigError, match="Something else is under way"):
        LifecycleClient(control.record).restart("busy")
    busy = ask(control, "/restart", {"target": "busy"})
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "lifecycle_refused")
    unknown = ask(control, "/drain", {"target": "other"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "replica_not_found")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/deployments/chat/scale", {"replicas": 0}, "replicas"),
        ("/deployments/chat/scale", {"replicas": 257}, "replicas"),
        ("/deployments/chat/scale", {"count": 2}, "replicas"),
        ("/drain", {"target": "chat", "grace_s": -1}, "grace_s"),
        ("/drain", {"target": "chat", "grace": 1}, "grace"),
        ("/restart", {}, "target"),
        ("/restart", {"target": "chat", "grace_s": 86401}, "grace_s"),
    ],
)
def test_what_is_malformed_is_refused(
    control: Control, lifecycle: StandInLifecycle, path: str, body: object, param: str
) -> None:
    """With the field that is wrong, and nothing is done."""
    answer = ask(control, path, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert lifecycle.asked == []


def test_rollouts_are_shown(control: Control, lifecycle: StandInLifecycle) -> None:
    """While they are under way, and after their end."""
    client = LifecycleClient(control.record)
    [view] = client.rollouts()
    assert (view.phase, view.replaced, view.total, view.ended) == ("starting", 0, 3, None)
    lifecycle.end(RolloutPhase.ROLLED_BACK, "chat-3: no model")
    [view] = client.rollouts()
    assert (view.phase, view.because, view.ended) == ("rolled_back", "chat-3: no model", 1012.0)
