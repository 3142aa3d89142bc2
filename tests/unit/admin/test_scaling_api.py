"""Autoscaling over the control API, in `status`, and for Prometheus: what a scaler says reaches whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.core import Metric

from inferry.admin.scaling_client import ScalingClient
from inferry.admin.status import Status, StatusBoard
from inferry.cli.status import _notes as notes_of
from inferry.core.errors import ConfigError
from inferry.core.scaling_settings import Scaling
from inferry.fleet.scaler_event import EventKind, ScalingEvent
from inferry.fleet.scaling_journal import ScalingJournal
from inferry.gateway.scaling_families import scaling_families
from inferry.gateway.snapshot import Snapshot
from tests.unit.gateway.stand import served

from .control_stand import running_control
from .scaling_stand import RUN, StandInScaler


def status_of(scaler: StandInScaler) -> Status:
    about = {"version": "1", "pid": 7, "file": "/f", "url": "http://x", "started": 0.0}
    board = StatusBoard(scaler.clock, about=about)  # type: ignore[arg-type]
    return board.status(
        [], Snapshot(), [served("chat"), served("plain")], {"chat": "m", "plain": "m"}, settled=True, generation=1,
        scaling=scaler.states(),
    )  # fmt: skip


def test_the_api_says_what_the_verbs_say(tmp_path: Path) -> None:
    """Explain, a try of other rules, history of one deployment since a moment, and back from a number by hand; wrong
    settings are refused with their key, and nothing is tried."""
    scaler = StandInScaler(tmp_path)
    journal = ScalingJournal(tmp_path, RUN)
    journal.append(ScalingEvent(1, 0.0, 50.0, "chat", EventKind.CHANGE, 2, 3))
    journal.append(ScalingEvent(2, 0.0, 60.0, "chat", EventKind.ALERT, 3, 3))
    with running_control(status_of(scaler), lifecycle=scaler.router) as state:
        client = ScalingClient(state.record)
        listed = client._call("GET", "/scaling")
        assert isinstance(listed, list)
        assert [each["deployment"] for each in listed] == ["chat"]
        explained = client.explain("chat")
        assert explained.decision is not None
        assert explained.decision.at == pytest.approx(scaler.clock.wall_s() - 4.0)
        other = Scaling.model_validate({"max": 9, "rules": [{"metric": "running", "target": 1}]})
        assert client.dry_run("chat", other).looks[-1].to == 6
        assert client.dry_run("chat", None).looks[-1].to == 3
        assert [each.number for each in client.history("chat", None).events] == [1, 2]
        assert [each.number for each in client.history(None, 55.0).events] == [2]
        assert client.auto("chat").message == "'chat' scales by itself again."
        with pytest.raises(ConfigError, match="There is no deployment 'nobody'"):
            client.explain("nobody")
        with pytest.raises(ConfigError, match=r"scaling\.max"):
            client._call("POST", "/deployments/chat/scaling/dry-run", {"scaling": {"max": 0}})


def test_status_shows_wanted_bounds_and_why(tmp_path: Path) -> None:
    """One line of a scaled deployment, one more for each alert; by hand, what it rests for; none where nothing is
    scaled."""
    scaler = StandInScaler(tmp_path)
    chat, plain = status_of(scaler).deployments
    first, alert = notes_of(chat)
    assert first.startswith(
        "chat: 2 wanted of 1 to 4: rules[0] queue_depth: queue_depth is 21, above 10: 1 more"
    )
    assert alert.startswith("chat: alert: rules[2] error_rate: error_rate is 0.1")
    assert (plain.scaling, list(notes_of(plain))) == (None, [])
    scaler.by_hand = 2
    first, _ = notes_of(status_of(scaler).deployments[0])
    assert first == "chat: 2 wanted of 1 to 4: 2 by hand; scaling rests until 'inferry scale chat auto'"


def values(families: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    [family] = [each for each in families if each.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_prometheus_gets_wishes_bounds_alerts_and_counts(tmp_path: Path) -> None:
    """A gauge per deployment and per rule that only tells; decisions are counted once each, when they are begun, by
    direction and rule."""
    scaler = StandInScaler(tmp_path)
    journal = ScalingJournal(tmp_path, RUN)
    up = ScalingEvent(1, 0.0, 0.0, "chat", EventKind.CHANGE, 2, 3, "rules[0] queue_depth")
    journal.append(up)
    up.outcome = "done"
    for event in (
        up,
        ScalingEvent(2, 0.0, 0.0, "chat", EventKind.CHANGE, 3, 2, "slo"),
        ScalingEvent(3, 0.0, 0.0, "chat", EventKind.NOT_DONE, 2, 3, "slo", outcome="no memory"),
        ScalingEvent(4, 0.0, 0.0, "chat", EventKind.ALERT, 2, 2, "rules[2] error_rate"),
    ):
        journal.append(event)
    families = list(scaling_families(scaler.states(), journal.decisions))
    assert values(families, "inferry_scaling_wanted_replicas") == {("chat",): 2.0}
    assert values(families, "inferry_scaling_min") == {("chat",): 1.0}
    assert values(families, "inferry_scaling_max") == {("chat",): 4.0}
    assert values(families, "inferry_scaling_by_hand") == {("chat",): 0.0}
    assert values(families, "inferry_scaling_alert") == {("chat", "rules[2] error_rate"): 1.0}
    assert values(families, "inferry_scaling_decisions") == {
        ("chat", "up", "rules[0] queue_depth"): 1.0,
        ("chat", "down", "slo"): 1.0,
    }
