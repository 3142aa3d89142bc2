"""The gateway's state: names, health, and what the fleet tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from inferry.core.errors import UnknownModel
from inferry.core.replica import ReplicaState
from inferry.gateway.gateway import Gateway
from inferry.policy.routing import NoReplica, Slot

from .stand import make_gateway, served, view

S = ReplicaState


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture
def gateway(loop: asyncio.AbstractEventLoop) -> Gateway:
    return make_gateway(loop)


# --- names --------------------------------------------------------------------------------------------


def test_names_and_aliases_lead_to_their_deployment(loop: asyncio.AbstractEventLoop) -> None:
    """Clients may send any public name; an alias that repeats the name changes nothing."""
    gateway = make_gateway(loop, [served("a", "a", "x", "y"), served("b", "z")])
    assert {name: gateway.deployment_for(name).name for name in gateway.names} == {
        "a": "a",
        "x": "a",
        "y": "a",
        "b": "b",
        "z": "b",
    }


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("chatt", "The model 'chatt' does not exist here. Did you mean 'chat'? Known: chat, gpt-4o."),
        ("zzz", "The model 'zzz' does not exist here. Known: chat, gpt-4o."),
        ("", "The model '' does not exist here. Known: chat, gpt-4o."),
        ("CHAT", "The model 'CHAT' does not exist here. Did you mean 'chat'? Known: chat, gpt-4o."),
        ("m" * 101, f"The model '{'m' * 97}...' does not exist here. Known: chat, gpt-4o."),
    ],
)
def test_unknown_model_names_the_known_ones(gateway: Gateway, model: str, message: str) -> None:
    """A 404 that helps: what was asked for, the nearest name, and all names."""
    with pytest.raises(UnknownModel) as caught:
        gateway.deployment_for(model)
    assert (caught.value.message, caught.value.param, caught.value.status) == (message, "model", 404)


# --- health -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([], "down"),
        ([S.READY], "ready"),
        ([S.READY, S.READY], "ready"),
        ([S.READY, S.STARTING], "degraded"),
        ([S.READY, S.FAILED], "degraded"),
        ([S.SUSPECT], "degraded"),
        ([S.SUSPECT, S.READY], "degraded"),
        ([S.STARTING, S.WARMING], "down"),
        ([S.FAILED, S.STOPPED, S.DRAINING, S.PENDING], "down"),
    ],
)
def test_health_of_a_deployment(gateway: Gateway, states: list[ReplicaState], status: str) -> None:
    """Ready when all serve, degraded when some do, down when nobody does."""
    for index, state in enumerate(states):
        gateway.apply(view(index, state))
    assert gateway.health() == {
        "status": status,
        "generation": 1,
        "deployments": {
            "chat": {"status": status, "replicas": len(states), "ready": states.count(S.READY)},
        },
    }


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (S.READY, S.READY, "ready"),
        (S.READY, S.FAILED, "degraded"),
        (S.FAILED, S.FAILED, "down"),
        (S.SUSPECT, S.FAILED, "degraded"),
    ],
)
def test_health_of_all(
    loop: asyncio.AbstractEventLoop, first: ReplicaState, second: ReplicaState, status: str
) -> None:
    """The gateway is as well as all of its deployments together."""
    gateway = make_gateway(loop, [served("a"), served("b")])
    gateway.apply(view(0, first, deployment="a"))
    gateway.apply(view(0, second, deployment="b"))
    assert gateway.health()["status"] == status


def test_a_closing_gateway_is_draining(gateway: Gateway) -> None:
    """A load balancer in front must send no more, however well the replicas are."""
    gateway.apply(view(0, S.READY))
    gateway.closing = True
    assert gateway.health()["status"] == "draining"


# --- replicas -----------------------------------------------------------------------------------------


def test_without_an_address_nobody_is_chosen(gateway: Gateway) -> None:
    """A replica counts as pending as long as it has no endpoint, whatever its state says."""
    gateway.apply(view(0, S.READY, port=None))
    assert gateway.deployments["chat"].balancer.choose() == NoReplica("1 pending")
    assert gateway.pools == {}
    gateway.apply(view(0, S.READY))
    assert isinstance(gateway.deployments["chat"].balancer.choose(), Slot)


def test_a_replica_that_moves_gets_a_new_pool(gateway: Gateway) -> None:
    """Connections to the old address are closed; the same address keeps its pool."""
    gateway.apply(view(0, S.STARTING, port=1))
    first = gateway.pools["chat-0"]
    gateway.apply(view(0, S.READY, port=1))
    assert gateway.pools["chat-0"] is first
    gateway.apply(view(0, S.READY, port=2))
    assert first.closed
    second = gateway.pools["chat-0"]
    assert (second is first, second.closed) == (False, False)
    gateway.apply(view(0, S.FAILED, port=None))
    assert second.closed
    gateway.apply(view(0, S.STARTING, port=2))
    assert not gateway.pools["chat-0"].closed


def test_views_are_the_last_ones(gateway: Gateway) -> None:
    """What was applied last is what is shown, and its slot holds the state."""
    gateway.apply(view(0, S.STARTING))
    gateway.apply(view(0, S.READY, restarts=1))
    assert gateway.views == {"chat-0": view(0, S.READY, restarts=1)}
    assert gateway.deployments["chat"].balancer.slots["chat-0"].state is S.READY


def test_a_replica_that_is_gone_is_forgotten(gateway: Gateway) -> None:
    """Nothing of it is left: no view, no connections, no slot to be chosen."""
    gateway.apply(view(0, S.READY))
    gateway.gone("chat-0")
    assert gateway.views == {}
    assert gateway.pools == {}
    assert gateway.deployments["chat"].balancer.slots == {}


def test_a_change_keeps_what_stays(gateway: Gateway) -> None:
    """A new generation renames, adds and removes deployments; counts and replicas of those that stay are kept, and
    a removed one takes no requests but is still told about its replicas until they are gone."""
    gateway.apply(view(0, S.READY))
    slot = gateway.deployments["chat"].balancer.choose()
    assert isinstance(slot, Slot)
    gateway.configure(gateway.settings, [served("chat", "new"), served("more")], {}, 2, {})
    assert gateway.generation == 2
    assert gateway.names == ("chat", "new", "more")
    assert gateway.deployments["chat"].balancer.slots["chat-0"].in_flight == 1
    gateway.configure(gateway.settings, [served("more")], {}, 3, {})
    with pytest.raises(UnknownModel):
        gateway.deployment_for("chat")
    gateway.apply(view(0, S.DRAINING))
    gateway.gone("chat-0")
    gateway.apply(view(0, S.STOPPED))
    assert gateway.views == {}


def test_why_none_says_what_probes_say_and_no_more(gateway: Gateway) -> None:
    """A client reads why a replica is not there yet; an engine's last words and paths are for the operator."""
    starting = replace(view(0, S.STARTING), message="answers 401, so it refuses our key")
    failed = replace(view(1, S.FAILED), message="could not load /models/m.gguf\n  line")
    gateway.apply(starting)
    gateway.apply(failed)
    text = gateway.no_replica(gateway.deployments["chat"], "1 failed, 1 starting").message
    assert ": 1 failed, 1 starting (answers 401, so it refuses our key). Try" in text


def test_a_drained_deployment_says_so(gateway: Gateway) -> None:
    """Not that it is worth another try soon; while one of its replicas was not drained, it is about that one."""
    for index in (0, 1):
        gateway.apply(replace(view(index, S.STOPPED), drained=True))
    error = gateway.no_replica(gateway.deployments["chat"], "2 stopped")
    assert error.message.startswith("'chat' is drained: ")
    assert "soon" not in error.message
    assert error.retry_after_s == 15
    gateway.apply(view(1, S.FAILED))
    assert (
        "1 failed, 1 stopped. Try"
        in gateway.no_replica(gateway.deployments["chat"], "1 failed, 1 stopped").message
    )


def test_adapters_that_come_while_engines_run(gateway: Gateway) -> None:
    """Their names lead to the deployment, a change of the file keeps them, and they go as they came."""
    gateway.set_adapters({"chat": {"chat/law": "law"}, "gone": {"gone/x": "x"}})
    assert gateway.deployment_for("chat/law").lora_models == {"chat/law": "law"}
    gateway.configure(gateway.settings, [served("chat")], {}, 2, {})
    assert gateway.deployment_for("chat/law").lora_models == {"chat/law": "law"}
    gateway.set_adapters({})
    with pytest.raises(UnknownModel):
        gateway.deployment_for("chat/law")
