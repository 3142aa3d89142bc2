"""Requests that wait for a model: in order, bounded in number and time, and told the truth."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from inferry.core.errors import InferryError, NoReadyReplica, QueueFull
from inferry.core.gateway_settings import Queue
from inferry.core.replica import ReplicaState
from inferry.gateway.parked import LoadNews, Parked
from inferry.gateway.served import ServedDeployment
from inferry.gateway.turns import Answer, Ticket

from .stand import make_gateway, served, view


class Request:
    """One that waits; it keeps what it is told."""

    def __init__(self, log: list[str], name: str = "r") -> None:
        self.log = log
        self.name = name
        self.error: NoReadyReplica | QueueFull | None = None

    def on_loaded(self) -> None:
        self.log.append(self.name)

    def on_not_loaded(self, error: NoReadyReplica) -> None:
        self.error = error

    def on_turn(self) -> None:
        self.log.append(f"{self.name} runs")

    def on_refused(self, error: InferryError) -> None:
        self.log.append(f"{self.name}: {error}")


def parked(wanted: list[str], waiting_max: int = 10) -> Parked:
    made = Parked("b", wanted.append)
    made.wait_max_s, made.waiting_max = 30.0, waiting_max
    return made


def test_the_model_is_asked_for_once_a_second() -> None:
    """By the first request at once, however many come; again while any waits; then no more."""
    wanted: list[str] = []
    waiting = parked(wanted)
    requests = [Request([]) for _ in range(3)]
    for each in requests:
        assert waiting.add(each, 100.0) is None
    assert wanted == ["b"]
    waiting.tick(100.9)
    assert len(wanted) == 1
    waiting.tick(101.0)
    assert len(wanted) == 2
    for each in requests:
        waiting.leave(each)
    waiting.tick(110.0)
    assert (len(wanted), len(waiting)) == (2, 0)


def test_all_go_on_in_the_order_in_which_they_came() -> None:
    """But those who have left, also in this very moment."""
    log: list[str] = []
    waiting = parked([])
    requests = [Request(log, name) for name in "abcd"]
    for each in requests:
        waiting.add(each, 0.0)
    waiting.leave(requests[1])

    class Leaver(Request):
        def on_loaded(self) -> None:
            waiting.leave(last)

    last = Request(log, "z")
    waiting.add(Leaver(log), 0.0)
    waiting.add(last, 0.0)
    waiting.release()
    assert log == ["a", "c", "d"]
    assert len(waiting) == 0


def test_who_waits_for_too_long_is_told_what_it_waited_for() -> None:
    """A 503 that may be tried again, with what the control process said last; others wait on."""
    waiting = parked([])
    early, late = Request([]), Request([])
    waiting.add(early, 0.0)
    waiting.add(late, 10.0)
    waiting.on_news(LoadNews("b", "a must be unloaded first"))
    waiting.tick(30.0)
    assert early.error is not None
    assert (early.error.status, early.error.code, early.error.retry_after_s) == (503, "model_not_loaded", 5.0)
    assert early.error.message == "The model of 'b' was not loaded within 30 s: a must be unloaded first."
    assert (late.error, len(waiting)) == (None, 1)


def test_a_refusal_ends_the_wait_of_all() -> None:
    """With the reason, and when it is worth another try."""
    waiting = parked([])
    requests = [Request([]), Request([])]
    for each in requests:
        waiting.add(each, 0.0)
    waiting.on_news(LoadNews("b", "it needs 9.0 GiB, and host.memory_budget is 8.0 GiB", 15.0))
    for each in requests:
        assert each.error is not None
        assert each.error.retry_after_s == 15.0
        assert "can't be loaded now: it needs 9.0 GiB" in each.error.message
    assert len(waiting) == 0


def test_only_so_many_wait() -> None:
    """One more is told at once, with a 429."""
    waiting = parked([], waiting_max=1)
    assert waiting.add(Request([]), 0.0) is None
    assert isinstance(waiting.add(Request([]), 0.0), QueueFull)


def on_demand(slots: int = 1) -> ServedDeployment:
    return ServedDeployment(
        replace(served("b"), load_wait_s=30.0, slots=slots, queue=Queue(running_max=slots))
    )


def test_those_in_the_queue_wait_for_the_model_when_it_leaves() -> None:
    """A model that is unloaded while requests wait for a turn takes none of them with it: they come back to the
    queue when it is loaded again."""
    deployment = on_demand()
    deployment.balancer.put("b-0", ReplicaState.READY)
    deployment.share_slots(1, 0.0)
    log: list[str] = []
    running, waiting = Request(log, "first"), Request(log, "second")
    first, second = Ticket(running, "t", 1), Ticket(waiting, "t", 1)
    assert deployment.turns.ask(first, 0.0) is Answer.GO
    assert deployment.turns.ask(second, 0.0) is Answer.WAIT
    deployment.balancer.put("b-0", ReplicaState.DRAINING)
    deployment.share_slots(1, 1.0)
    assert deployment.awaits_model
    assert (deployment.turns.waiting, len(deployment.parked), deployment.waiting) == (0, 1, 1)
    deployment.turns.done(first, None, None, 2.0)
    assert log == []
    deployment.balancer.put("b-1", ReplicaState.READY)
    deployment.share_slots(1, 3.0)
    assert log == ["second"]
    assert not deployment.awaits_model


async def test_a_gateway_asks_and_hears() -> None:
    """What is parked at a deployment is asked for through the gateway, counted as waiting, and hears the news."""
    gateway = make_gateway(asyncio.get_running_loop(), [replace(served("b"), load_wait_s=30.0)])
    deployment = gateway.deployments["b"]
    request = Request([])
    assert deployment.awaits_model
    deployment.parked.add(request, 0.0)
    assert gateway.snapshot().waiting == {"b": 1}
    gateway.on_load_news(LoadNews("b", "no memory", 5.0))
    gateway.on_load_news(LoadNews("gone", "no memory", 5.0))
    assert request.error is not None
    deployment.parked.add(request, 0.0)
    gateway.apply(view(0, ReplicaState.READY, deployment="b"))
    assert request.log == ["r"]
    await gateway.close()


def test_deployments_that_are_always_loaded_park_nobody() -> None:
    """Without a replica they answer at once, as ever."""
    deployment = ServedDeployment(served("a"))
    assert not deployment.awaits_model


async def test_who_waits_at_a_deployment_that_leaves_the_file_is_told_at_once() -> None:
    """Whether for a turn or for the model; what runs goes on. Who comes there later, as a fallback of a request that
    began before, is told as well, and the deployment is forgotten with its last replica."""
    gateway = make_gateway(asyncio.get_running_loop(), [on_demand().spec])
    gateway.apply(view(0, ReplicaState.READY, deployment="b"))
    deployment = gateway.deployments["b"]
    log: list[str] = []
    first, second = Ticket(Request(log, "first"), "t", 1), Ticket(Request(log, "second"), "t", 1)
    assert deployment.turns.ask(first, 0.0) is Answer.GO
    assert deployment.turns.ask(second, 0.0) is Answer.WAIT
    gateway.configure(gateway.settings, [served("a")], {}, 2, {})
    assert log == ["second: 'b' has left the deployment file: it takes no requests any more."]
    assert first.is_running
    third = Ticket(Request(log, "third"), "t", 1)
    assert deployment.turns.ask(third, 1.0) is Answer.WAIT
    gateway.apply(view(0, ReplicaState.DRAINING, deployment="b"))
    assert log[1:] == ["third: 'b' has left the deployment file: it takes no requests any more."]
    refused = deployment.parked.add(Request(log), 2.0)
    assert isinstance(refused, NoReadyReplica)
    assert (refused.status, deployment.waiting) == (503, 0)
    gateway.gone("b-0")
    assert gateway._leaving == {}
    await gateway.close()


async def test_a_model_that_is_not_loaded_leaves_the_file_with_nobody_waiting() -> None:
    """Those who wait for it are told at once, and nothing of it is kept: it has no replica to wait for. When the file
    has it again, it is asked for as ever."""
    gateway = make_gateway(asyncio.get_running_loop(), [on_demand().spec])
    request = Request([])
    gateway.deployments["b"].parked.add(request, 0.0)
    gateway.configure(gateway.settings, [served("a")], {}, 2, {})
    assert request.error is not None
    assert "has left the deployment file" in request.error.message
    assert gateway._leaving == {}
    gateway.configure(gateway.settings, [on_demand().spec], {}, 3, {})
    assert gateway.deployments["b"].parked.add(Request([]), 0.0) is None
    await gateway.close()


async def test_a_deployment_that_comes_back_parks_again() -> None:
    """A change of the file that is taken back finds its replicas, and its requests wait as before."""
    gateway = make_gateway(asyncio.get_running_loop(), [on_demand().spec])
    gateway.apply(view(0, ReplicaState.DRAINING, deployment="b"))
    gateway.configure(gateway.settings, [served("a")], {}, 2, {})
    gateway.configure(gateway.settings, [on_demand().spec], {}, 3, {})
    assert gateway.deployments["b"].parked.add(Request([]), 0.0) is None
    await gateway.close()
