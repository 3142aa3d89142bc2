"""The steps between the first good probe and ready."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.core.health_settings import Health
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.core.server_engines import OllamaDeployment
from inferry.engines.adapter import WarmupRequest
from inferry.engines.ollama import OllamaAdapter
from inferry.fleet import replica_care
from inferry.fleet.probe import WarmUpTrouble
from inferry.fleet.replica_care import ReplicaCare
from inferry.fleet.replica_record import ReplicaRecord
from inferry.testing.manual_clock import ManualClock

from .fakes import FakeProber

MISSING = WarmUpTrouble("/api/generate answers 404", missing=True)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a pause is looked at here, not how long it is."""
    monkeypatch.setattr(replica_care, "FETCH_PAUSE_S", 0.0)
    monkeypatch.setattr(replica_care, "WARM_UP_PAUSE_S", 0.0)


class Scripted(FakeProber):
    """Answers warm-ups from a list, and keeps their paths."""

    def __init__(self, *answers: WarmUpTrouble | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []

    async def warm_up(
        self, endpoint: Endpoint, request: WarmupRequest, timeout_s: float
    ) -> WarmUpTrouble | None:
        self.asked.append(request.path)
        return self.answers.pop(0) if self.answers else None


async def warmed(prober: Scripted, *, pull: bool = True) -> tuple[ReplicaRecord, list[str]]:
    """The record of an Ollama replica that has become ready, and what it said on the way."""
    said: list[str] = []
    view = ReplicaView("chat-0", "chat", "ollama", False, ReplicaState.PENDING, None, 0.0, 0)
    record = ReplicaRecord(replace(view, pid=1), ManualClock(), lambda view: said.append(view.message))
    deployment = OllamaDeployment.model_validate({"engine": "ollama", "model": "m", "pull": pull})
    record.move(ReplicaState.STARTING)
    care = ReplicaCare(
        record,
        OllamaAdapter("chat", deployment),
        Endpoint("h", 1),
        Health(),
        prober,
        ManualClock(),
        process=None,
        hand_over=lambda replica_id, because: None,
    )
    await care.until_ready()
    return record, [each for each in said if each]


async def test_what_is_there_is_not_fetched() -> None:
    """A load that goes well is followed by the next step."""
    prober = Scripted()
    record, said = await warmed(prober)
    assert prober.asked == ["/api/generate", "/v1/completions"]
    assert said == ["loads m"]
    assert record.state is ReplicaState.READY
    assert record.view.message == ""


async def test_what_is_missing_is_fetched_once_and_tried_again() -> None:
    """After a 404 comes the request that brings it, and the same again; the operator reads which."""
    prober = Scripted(MISSING)
    _, said = await warmed(prober)
    assert prober.asked == ["/api/generate", "/api/pull", "/api/generate", "/v1/completions"]
    assert said == ["loads m", "fetches m", "loads m"]


async def test_a_fetch_that_fails_is_said_and_repeated() -> None:
    """Its trouble is the message until the next try, which begins with the load."""
    prober = Scripted(MISSING, WarmUpTrouble("/api/pull answers 500: no network"))
    _, said = await warmed(prober)
    assert prober.asked[:3] == ["/api/generate", "/api/pull", "/api/generate"]
    assert "warm-up: /api/pull answers 500: no network" in said


async def test_other_troubles_fetch_nothing() -> None:
    """Only a 404 means that it is missing, and without a wish to fetch, that is only waited out."""
    prober = Scripted(WarmUpTrouble("/api/generate answers 500"))
    await warmed(prober)
    assert "/api/pull" not in prober.asked
    unwished = Scripted(MISSING)
    await warmed(unwished, pull=False)
    assert "/api/pull" not in unwished.asked
