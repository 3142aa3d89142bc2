"""LoRA adapters while engines run, against a network in memory that refuses when it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from inferry.core.deployment import Deployment
from inferry.core.errors import LifecycleRefused, UnknownReplica
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.core.server_engines import SglangDeployment, TgiDeployment, VllmDeployment
from inferry.engines.adapter import WarmupRequest
from inferry.engines.registry import adapter_for
from inferry.fleet.lora import LiveLora
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.probe import WarmUpTrouble

from .fakes import FakeProber, until


class Engines(FakeProber):
    """Remembers what each port was asked, and refuses where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, str, dict[str, str]]] = []
        self.refuses: dict[int, str] = {}
        self.answers = asyncio.Event()
        self.answers.set()

    async def warm_up(
        self, endpoint: Endpoint, request: WarmupRequest, timeout_s: float
    ) -> WarmUpTrouble | None:
        self.asked.append((endpoint.port, request.path, json.loads(request.body)))
        await self.answers.wait()
        reason = self.refuses.get(endpoint.port)
        return None if reason is None else WarmUpTrouble(reason)


def vllm(live: bool = True, **keys: object) -> VllmDeployment:
    return VllmDeployment.model_validate({"engine": "vllm", "model": "hf:a/b", "lora_live": live, **keys})


class Place:
    """The adapters of `deployments`, each with the replicas 0 (at port 1) and 1 (at port 2)."""

    def __init__(self, **deployments: Deployment) -> None:
        self.engines = Engines()
        self.plans = [
            DeploymentPlan(name, one, adapter_for(name, one), Path("/weights"))
            for name, one in deployments.items()
        ]
        self.states = [ReplicaState.READY, ReplicaState.READY]
        self.changes: list[dict[str, dict[str, str]]] = []
        self.lora = LiveLora(self.engines, lambda: self.plans, self.views)
        self.lora.on_change = lambda: self.changes.append(self.lora.models())

    def views(self) -> Sequence[ReplicaView]:
        return [
            ReplicaView(
                f"{plan.name}-{index}", plan.name, "vllm", False, state, Endpoint("h", index + 1), 0.0, 0
            )
            for plan in self.plans
            for index, state in enumerate(self.states)
        ]

    @property
    def asked_ports(self) -> list[int]:
        return sorted(port for port, _, _ in self.engines.asked)


@pytest.fixture
def law(tmp_path: Path) -> str:
    (tmp_path / "adapter_config.json").write_text("{}")
    return str(tmp_path)


async def test_all_replicas_load_it_and_then_clients_may_name_it(law: str) -> None:
    """In vLLM's words; gateways hear the name that clients send and what the engine wants for it."""
    place = Place(chat=vllm())
    assert await place.lora.load("chat", "law", law) == ["chat-0", "chat-1"]
    assert sorted(place.engines.asked) == [
        (port, "/v1/load_lora_adapter", {"lora_name": "law", "lora_path": law}) for port in (1, 2)
    ]
    assert place.changes == [{"chat": {"chat/law": "law"}}]
    [shown] = place.lora.adapters()
    assert (shown.name, shown.path, shown.model, shown.from_file) == ("law", law, "chat/law", False)


async def test_sglang_has_its_own_path_and_name(law: str) -> None:
    """Without /v1, and with the base model's name before the adapter's."""
    deployment = SglangDeployment.model_validate({"engine": "sglang", "model": "hf:a/b", "lora_live": True})
    place = Place(chat=deployment)
    await place.lora.load("chat", "law", law)
    assert {path for _, path, _ in place.engines.asked} == {"/load_lora_adapter"}
    assert place.lora.models() == {"chat": {"chat/law": "chat:law"}}


async def test_one_refusal_takes_it_back_everywhere(law: str) -> None:
    """The engine's own words are shown, the others drop it again, and no client ever hears of it."""
    place = Place(chat=vllm())
    place.engines.refuses[2] = "/v1/load_lora_adapter answers 400: rank 64 is more than max_lora_rank 16"
    with pytest.raises(LifecycleRefused, match=r"'law' was not loaded: chat-1: .*max_lora_rank 16"):
        await place.lora.load("chat", "law", law)
    assert place.engines.asked[-1] == (1, "/v1/unload_lora_adapter", {"lora_name": "law"})
    assert (place.changes, place.lora.adapters()) == ([], [])


async def test_those_that_come_later_get_it_before_they_serve(law: str) -> None:
    """Each one when its engine is up; one that refuses serves all the same, and is shown without it."""
    place = Place(chat=vllm())
    place.states = [ReplicaState.WARMING, ReplicaState.STARTING]
    first, second = place.views()
    assert await place.lora.load("chat", "law", law) == []
    assert place.engines.asked == []
    place.engines.refuses[2] = "no such file"
    for view in (first, second):
        assert view.endpoint is not None
        await place.lora.before_ready(view, view.endpoint)
    assert place.asked_ports == [1, 2]
    assert place.lora.adapters()[0].missing == {"chat-1": "no such file"}
    place.engines.refuses.clear()
    assert second.endpoint is not None
    await place.lora.before_ready(second, second.endpoint)
    assert place.lora.adapters()[0].missing == {}


async def test_who_becomes_ready_while_it_is_loaded_waits_for_it(law: str) -> None:
    """It is none of those that are being asked, so it gets the adapter after them, and serves then."""
    place = Place(chat=vllm())
    place.states[1] = ReplicaState.WARMING
    view = place.views()[1]
    assert view.endpoint is not None
    place.engines.answers.clear()
    loading = asyncio.create_task(place.lora.load("chat", "law", law))
    await until(lambda: place.asked_ports == [1])
    before_ready = asyncio.create_task(place.lora.before_ready(view, view.endpoint))
    await asyncio.sleep(0)
    assert not before_ready.done()
    place.engines.answers.set()
    assert await loading == ["chat-0"]
    await before_ready
    assert place.asked_ports == [1, 2]
    assert place.lora.adapters()[0].missing == {}


async def test_dropping_it_takes_the_name_away_first(law: str) -> None:
    """No request is sent to an engine that has dropped it already."""
    place = Place(chat=vllm())
    await place.lora.load("chat", "law", law)
    place.engines.asked.clear()
    seen: list[int] = []
    place.lora.on_change = lambda: seen.append(len(place.engines.asked))
    assert await place.lora.unload("chat", "law") == ["chat-0", "chat-1"]
    assert seen == [0]
    assert place.asked_ports == [1, 2]
    with pytest.raises(LifecycleRefused, match="has no adapter 'law'"):
        await place.lora.unload("chat", "law")


@pytest.mark.parametrize(
    ("deployment", "adapter", "words"),
    [
        (vllm(live=False), "law", "set deployments.chat.lora_live to true"),
        (
            SimulatedDeployment(engine="simulated"),
            "law",
            "runs on simulated, for which Inferry knows no LoRA",
        ),
        (
            TgiDeployment(engine="tgi", model="hf:m/m"),
            "law",
            r"only when it starts: put it into deployments\.chat\.lora",
        ),
        (vllm(), "a law", "can't be an adapter's name"),
        (vllm(lora={"law": "/srv/law"}), "law", "has an adapter 'law' in the file"),
    ],
)
async def test_what_can_not_be_is_refused_with_the_way_out(
    law: str, deployment: Deployment, adapter: str, words: str
) -> None:
    """No engine is asked."""
    place = Place(chat=deployment)
    with pytest.raises(LifecycleRefused, match=words):
        await place.lora.load("chat", adapter, law)
    assert place.engines.asked == []


async def test_wrong_names_and_folders(tmp_path: Path, law: str) -> None:
    """An unknown deployment, a folder without an adapter, a second one of the same name, names that are taken."""
    place = Place(chat=vllm(), other=vllm(aliases=["chat/taken"]))
    with pytest.raises(UnknownReplica, match="no deployment 'chatt'"):
        await place.lora.load("chatt", "law", law)
    with pytest.raises(LifecycleRefused, match=r"needs adapter_config\.json"):
        await place.lora.load("chat", "law", str(tmp_path / "missing"))
    with pytest.raises(LifecycleRefused, match="is an alias of 'other'"):
        await place.lora.load("chat", "taken", law)
    place.lora.names = lambda: {"chat/split"}
    with pytest.raises(LifecycleRefused, match="'chat/split' is in the file already, below 'names'"):
        await place.lora.load("chat", "split", law)
    await place.lora.load("chat", "law", law)
    with pytest.raises(LifecycleRefused, match="inferry lora unload chat law"):
        await place.lora.load("chat", "law", law)


async def test_those_of_the_file_are_shown_and_stay(law: str) -> None:
    """They can't be dropped by hand, and are no news for gateways."""
    place = Place(chat=vllm(lora={"law": "/srv/law"}))
    [shown] = place.lora.adapters()
    assert (shown.model, shown.from_file) == ("chat/law", True)
    assert place.lora.models() == {}
    with pytest.raises(LifecycleRefused, match=r"take it out of deployments\.chat\.lora"):
        await place.lora.unload("chat", "law")
