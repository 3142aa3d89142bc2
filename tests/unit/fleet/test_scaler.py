"""The scaling loop: what it sees, what it does, and what it leaves alone. A fleet in memory, and time by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from inferry.core.deployment import Deployment
from inferry.core.errors import LifecycleRefused
from inferry.core.host_settings import Host
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.scaling_settings import Scaling
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.scaler import Scaler, ScalerSurroundings
from inferry.fleet.scaler_event import EventKind, ScalingEvent
from inferry.policy.scaling.decision import Alert, ScalingDecision
from inferry.policy.scaling.observation import Observation, Traffic
from inferry.testing.manual_clock import ManualClock

from .fakes import LOADING, READY, until
from .test_fleet_changes import SLOW, House, chat, plans, running


def scaled(
    replicas: int | None = 2,
    *,
    low: int = 1,
    high: int = 8,
    on_demand: bool = False,
    price: float | None = None,
    **more: object,
) -> SimulatedDeployment:
    """One whose file says `scaling`; what it decides is the test's (see Script)."""
    keys: dict[str, object] = {} if replicas is None else {"replicas": replicas}
    if on_demand:
        keys |= {"load": "on_demand", "idle_unload_s": 60}
    rules = [{"metric": "running", "target": 4}]
    return SimulatedDeployment.model_validate(
        {
            "engine": "simulated",
            "health": SLOW,
            "stop_grace_s": 7,
            "restart": {"backoff_initial_s": 0.01, "crashes_max": 2},
            "rollout": {"settle_s": 0, "canary_s": 0},
            "scaling": {
                "min": low,
                "max": high,
                "every_s": 10,
                "rules": rules,
                "replica_price_per_hour": price,
            },
            **keys,
            **more,
        }
    )


RULES = Scaling.model_validate({"max": 8, "rules": [{"metric": "running", "target": 4}]})


@dataclass
class Script:
    """An Autoscaler that wants what the test says, and keeps what it was shown."""

    wish: int | None = None
    alerts: tuple[Alert, ...] = ()
    seen: list[Observation] = field(default_factory=list)
    begun: int = 0
    every_s: float = 10.0

    def decide(self, seen: Observation) -> ScalingDecision:
        self.seen.append(seen)
        to = seen.wanted if self.wish is None or not seen.wanted else self.wish
        return ScalingDecision(
            seen.now_s,
            seen.wanted,
            to,
            "script",
            "says the test",
            len(seen.serving),
            seen.coming,
            alerts=self.alerts,
        )


class Scaled:
    """A fleet in memory with its scaler, by a file."""

    def __init__(self, **deployments: Deployment) -> None:
        self.house = House(**deployments)
        self.file: dict[str, Deployment] = dict(deployments)
        self.clock = ManualClock(1000)
        self.script = Script()
        self.traffic: Mapping[str, Traffic | None] = {}
        self.asking: asyncio.Future[None] | None = None
        self.host = Host()
        self.led_by = ""
        self.told: list[tuple[int, str]] = []
        self._heard = 0
        fleet = self.house.fleet
        self.scaler = Scaler(
            ScalerSurroundings(
                plans=lambda: plans(self.file),
                replicas=fleet.readings,
                traffic=self._traffic,
                held=lambda replica_id: self.house.in_flight.get(replica_id, 0),
                wanted=fleet.resizing.wanted,
                by_hand=fleet.lifecycle.scaled_by_hand,
                resize=fleet.resizing.resize,
                host=lambda: self.host,
                drain_s=lambda: 5.0,
                make=self._make,
                leader=lambda: self.led_by,
                on_event=lambda event: self.told.append((event.number, event.outcome)),
            ),
            self.clock,
        )

    async def look(self, *, after_s: float = 10.0, wish: int | None = None) -> ScalingDecision:
        """The next look, at which this is wished; what was decided."""
        self.clock.advance(after_s)
        self.hear()
        self.script.wish = wish
        await self.scaler.look()
        state = self.scaler.explain("chat")
        assert state is not None
        assert state.decision is not None
        return state.decision

    def hear(self) -> None:
        """The scaler is told of what replicas did so far."""
        news, self._heard = self.house.changes.views[self._heard :], len(self.house.changes.views)
        for view in news:
            self.scaler.on_view(view)

    async def apply(self, **deployments: Deployment) -> None:
        """This file is in force."""
        await self.house.fleet.apply(plans(deployments), 5)
        self.file = dict(deployments)

    def events(self, kind: EventKind) -> list[ScalingEvent]:
        return [event for event in self.scaler.history if event.kind is kind]

    async def _traffic(self) -> Mapping[str, Traffic | None]:
        if self.asking is not None:
            await self.asking
        return self.traffic

    def _make(self, plan: DeploymentPlan, scaling: Scaling) -> Script:
        self.script.begun += 1
        return self.script


@asynccontextmanager
async def scaling(**deployments: Deployment) -> AsyncIterator[Scaled]:
    there = Scaled(**deployments)
    async with running(there.house):
        await asyncio.sleep(0)  # where nothing is to start, it may not run yet
        yield there


async def test_up_at_once_and_what_became_of_it() -> None:
    """Replicas that are added start at once; what became of it is told when they serve, with how long it took."""
    async with scaling(chat=scaled(2)) as there:
        await there.look(wish=4)
        assert len(there.house.states()) == 4
        [event] = there.events(EventKind.CHANGE)
        assert (event.was, event.to, event.came, event.outcome) == (2, 4, ("chat-2", "chat-3"), "")
        await there.house.fleet.wait_settled()
        await there.look(after_s=3)
        assert event.outcome == "chat-2 chat-3 serving after 3.0 s"
        assert there.told == [(1, ""), (1, event.outcome)]
        await there.look(after_s=7)
        assert [each.id for each in there.script.seen[-1].serving] == [f"chat-{n}" for n in range(4)]


async def test_loading_replicas_are_on_the_way_and_are_the_first_to_leave() -> None:
    """While they load they are `coming`, not `serving` (who does not see that adds them again at each look); they have
    nothing to lose. How long the others took to start is measured."""
    async with scaling(chat=scaled(1)) as there:
        there.hear()
        there.house.prober.default = LOADING
        await there.look(wish=3)
        await until(lambda: list(there.house.states().values()) == ["ready", "starting", "starting"])
        await there.look()
        seen = there.script.seen[-1]
        assert (len(seen.serving), seen.coming, seen.wanted) == (1, 2, 3)
        await there.look(wish=2)
        assert there.events(EventKind.CHANGE)[-1].leaving == ("chat-2",)
        there.house.prober.default = READY
        await there.house.fleet.wait_settled()
        await there.look(after_s=20)
        assert there.script.seen[-1].start_s == 15  # the median of chat-0's 0 and chat-1's 30
        assert there.script.seen[-1].coming == 0


async def test_a_long_drain_stops_nothing() -> None:
    """The one with the least to do leaves, and finishes what it has while the next decision adds a fresh one: nobody
    waits, nothing is cut off. (ai-dynamo/dynamo#13559: work under way aborted 5 s after the signal.)"""
    async with scaling(chat=scaled(3)) as there:
        there.house.in_flight.update({"chat-0": 4, "chat-1": 2, "chat-2": 3})
        await there.look(wish=2)
        assert there.events(EventKind.CHANGE)[-1].leaving == ("chat-1",)
        await until(lambda: there.house.states()["chat-1"] == "draining")
        await there.look(wish=3)
        assert there.events(EventKind.CHANGE)[-1].came == ("chat-3",)
        await until(lambda: there.house.states()["chat-3"] == "ready")
        assert there.house.states()["chat-1"] == "draining"
        assert there.house.runtime.stops == []
        await there.look()
        assert [each.id for each in there.script.seen[-1].serving] == ["chat-0", "chat-2", "chat-3"]
        there.house.in_flight["chat-1"] = 0
        await until(lambda: "chat-1" not in there.house.states())
        await there.look()
        assert there.scaler.history[0].outcome.startswith("chat-1 gone after")


async def test_by_hand_and_auto() -> None:
    """A number by hand rests the scaling, beyond its bounds too, and is told; `auto` goes on from there, and a decision
    that was wished meanwhile is none."""
    async with scaling(chat=scaled(2, high=3), plain=chat(1)) as there:
        lifecycle = there.house.fleet.lifecycle
        done = await lifecycle.scale("chat", 4, 5)
        assert done.message == (
            "'chat' has 4 replica(s) now. By hand, outside of its bounds (1 to 3): its scaling rests until "
            "'inferry scale chat auto'."
        )
        await there.look(wish=1)
        assert len(there.house.states()) == 5
        assert [event.kind for event in there.scaler.history] == [EventKind.BY_HAND]
        assert await lifecycle.auto("chat") == (
            "'chat' scales by itself again, from 4 replica(s), between 1 and 3, as the file says."
        )
        await there.look(wish=3)
        assert [event.kind for event in there.scaler.history][1:] == [EventKind.AUTO, EventKind.CHANGE]
        assert await lifecycle.auto("chat") == (
            "'chat' scales by itself already, between 1 and 3, as the file says."
        )
        with pytest.raises(LifecycleRefused, match="'plain' is not scaled by itself"):
            await lifecycle.auto("plain")


async def test_a_number_in_the_file_may_be_set_by_hand() -> None:
    """Where scaling would change it, the file's own number is one by hand."""
    async with scaling(chat=scaled(2)) as there:
        await there.house.fleet.lifecycle.scale("chat", 2, 5)
        await there.look(wish=5)
        assert len(there.house.states()) == 2


async def test_alerts_are_told_once_also_while_it_rests() -> None:
    """When one begins and when it is over, not at each look; a number by hand stops no alert."""
    async with scaling(chat=scaled(1)) as there:
        await there.house.fleet.lifecycle.scale("chat", 1, 5)
        there.script.alerts = (Alert("rules[0] error_rate", "7 % of 100"),)
        await there.look()
        await there.look()
        there.script.alerts = ()
        await there.look()
        kinds = [event.kind for event in there.scaler.history]
        assert kinds == [EventKind.BY_HAND, EventKind.ALERT, EventKind.ALERT_OVER]
        assert there.scaler.history[1].because == "7 % of 100"
        assert there.scaler.history[2].because == "no longer so: 7 % of 100"
        assert [state.simulated for state in there.scaler.states()] == [True]


async def test_a_reload_keeps_the_scaled_number() -> None:
    """Through changes of other keys and through new engines; within new bounds. Another `replicas` is a new beginning,
    and without `scaling` the file's number holds."""
    async with scaling(chat=scaled(2)) as there:
        await there.look(wish=5)
        await there.house.fleet.wait_settled()
        await there.apply(chat=scaled(2, stop_grace_s=1))
        assert len(there.house.states()) == 5
        await there.apply(chat=scaled(2, parallel=8))
        assert sorted(there.house.states()) == [f"chat-{n}" for n in range(5, 10)]
        await there.apply(chat=scaled(2, high=4, parallel=8))
        assert len(there.house.states()) == 4
        await there.apply(chat=scaled(3, high=4, parallel=8))
        assert len(there.house.states()) == 3


async def test_what_is_scaled_while_others_are_replaced_stays() -> None:
    """A file that replaces another deployment's engines for a long time does not bring back the number of replicas that
    this one had when it was read."""
    async with scaling(other=chat(1), chat=scaled(1)) as there:
        there.house.prober.default = LOADING
        applying = asyncio.create_task(there.apply(other=chat(1, parallel=8), chat=scaled(1, stop_grace_s=1)))
        await until(lambda: "other-1" in there.house.states())
        await there.look(wish=3)
        there.house.prober.default = READY
        await applying
        assert len(there.house.states()) == 4


async def test_other_bounds_are_no_other_number() -> None:
    """Where `replicas` is left out, a lower `min` takes nothing away, and a higher one adds what is missing."""
    async with scaling(chat=scaled(None, low=2)) as there:
        await there.look(wish=4)
        await there.apply(chat=scaled(None, low=1))
        assert len(there.house.states()) == 4
        await there.apply(chat=scaled(None, low=5))
        assert len(there.house.states()) == 5


async def test_scaling_that_comes_to_a_number_by_hand_begins_there() -> None:
    """It is no number that rests it: nobody meant that when there was nothing to rest."""
    async with scaling(chat=chat(2, grace_s=7)) as there:
        await there.house.fleet.lifecycle.scale("chat", 4, 5)
        await there.apply(chat=scaled(2))
        assert len(there.house.states()) == 4
        assert there.house.fleet.lifecycle.scaled_by_hand("chat") is None


async def test_something_else_under_way() -> None:
    """What can't be done now is told once, changes nothing, and is done when it can be."""
    async with scaling(chat=scaled(2)) as there:
        there.house.in_flight["chat-1"] = 1
        draining = asyncio.create_task(there.house.fleet.lifecycle.drain("chat-1", 5))
        await until(lambda: there.house.states()["chat-1"] == "draining")
        await there.look(wish=3)
        await there.look(wish=3)
        [event] = there.scaler.history
        assert (event.kind, event.outcome) == (
            EventKind.NOT_DONE,
            "something else is under way there: it drains chat-1",
        )
        state = there.scaler.explain("chat")
        assert state is not None
        assert state.not_done == event.outcome
        there.house.in_flight["chat-1"] = 0
        await draining
        await there.look(wish=3)
        assert there.scaler.history[-1].came == ("chat-2",)


async def test_too_little_memory_is_a_decision_that_is_told() -> None:
    """No exception, and no end of scaling; those that still drain are counted, for they have their memory."""

    def refuse(plan: DeploymentPlan) -> None:
        assert isinstance(plan.deployment, SimulatedDeployment)
        if plan.deployment.replicas > 3:
            raise LifecycleRefused(f"no room for {plan.deployment.replicas}")

    async with scaling(chat=scaled(3)) as there:
        there.house.fleet.lifecycle.check_memory = refuse
        await there.look(wish=4)
        assert there.scaler.history[-1].outcome == "no room for 4"
        there.house.in_flight["chat-2"] = 1
        await there.look(wish=2)
        await there.look(wish=3)
        assert there.scaler.history[-1].outcome == "no room for 4"
        there.house.in_flight["chat-2"] = 0
        await until(lambda: len(there.house.states()) == 2)
        await there.look(wish=3)
        assert there.scaler.history[-1].came == ("chat-3",)


async def test_the_hosts_money() -> None:
    """What all deployments may cost together bounds what scaling adds, in part or wholly, and says so."""
    async with scaling(chat=scaled(1, price=2), other=scaled(2, price=2)) as there:
        there.host = Host(money_per_hour_max=8)
        await there.look(wish=2)
        assert len(there.house.states()) == 4
        await there.look(wish=4)
        assert len(there.house.states()) == 4
        assert "8 per hour is spent" in there.scaler.history[-1].outcome


async def test_asleep_and_woken_with_its_least_number() -> None:
    """0 replicas are left alone, and while it is loaded nothing is taken away; a model that was unloaded with 4 replicas
    wakes with 1. (superlinked/sie#293: scaled to zero while the model loads, in a loop.)"""
    async with scaling(chat=scaled(None, low=0, on_demand=True)) as there:
        loading = there.house.fleet.loading
        await there.look(wish=3)
        assert (there.script.seen[-1].wanted, there.house.states()) == (0, {})
        there.house.prober.default = LOADING
        await loading.load("chat")
        await there.look(wish=1)
        assert (there.script.seen[-1].wanted, there.script.seen[-1].coming) == (1, 1)
        there.house.prober.default = READY
        await there.look(wish=4)
        await there.house.fleet.wait_settled()
        await loading.unload("chat", "idle")
        assert there.house.states() == {}
        await loading.load("chat")
        await there.house.fleet.wait_settled()
        assert len(there.house.states()) == 1


async def test_gateways_that_do_not_answer() -> None:
    """A decision is made without them, by what replicas tell: `traffic` is None, never zero."""
    async with scaling(chat=scaled(1)) as there:
        there.traffic = {"chat": Traffic(arrived=7)}
        await there.look()
        assert there.script.seen[-1].traffic is there.traffic["chat"]
        there.traffic = {}
        await there.look()
        assert there.script.seen[-1].traffic is None


async def test_replicas_that_do_not_come_up_are_told() -> None:
    """A start that failed is a reason to add no more, for as long as one is down: then it is neither there nor coming, and
    ever more would be ordered in its place."""
    async with scaling(chat=scaled(1)) as there:
        there.hear()
        there.house.runtime.on_start = lambda handle: handle.end(1)
        await there.look(wish=2)
        await until(lambda: there.house.states()["chat-1"] == "failed")
        await there.look()
        assert there.script.seen[-1].failing.startswith("chat-1: ")
        assert there.script.seen[-1].coming == 0
        await there.look(after_s=301)
        assert there.script.seen[-1].failing.startswith("chat-1: ")
        await there.look(wish=1)
        await until(lambda: "chat-1" not in there.house.states())
        there.scaler.on_gone("chat-1")
        await there.look(after_s=301)
        assert there.script.seen[-1].failing == ""


async def test_only_one_decides() -> None:
    """While another process leads nothing is decided; who takes over begins anew, with nothing remembered."""
    async with scaling(chat=scaled(1)) as there:
        await there.look()
        there.led_by, begun = "host-2", there.script.begun
        there.clock.advance(10)
        await there.scaler.look()
        assert len(there.script.seen) == 1
        state = there.scaler.explain("chat")
        assert state is not None
        assert state.leader == "host-2"
        there.led_by = ""
        await there.look(wish=3)
        assert there.script.begun == begun + 1
        assert len(there.house.states()) == 3


async def test_looks_keep_their_beat() -> None:
    """Every `every_s`, not sooner; of looks that were missed, none is made up for."""
    async with scaling(chat=scaled(1)) as there:
        for after_s, looks in ((0, 1), (9.9, 1), (0.1, 2), (35, 3), (9, 3), (1, 4)):
            await there.look(after_s=after_s)
            assert len(there.script.seen) == looks


async def test_rules_are_tried_on_what_was_seen() -> None:
    """A dry run decides at each of the last looks, as they were; nothing is done, and no look is added."""
    async with scaling(chat=scaled(1)) as there:
        await there.look()
        await there.look()
        there.script.wish = 3
        tried = there.scaler.dry_run("chat", RULES)
        assert [(each.was, each.to) for each in tried] == [(1, 3), (1, 3)]
        assert len(there.house.states()) == 1
        assert there.scaler.dry_run("nobody", RULES) == []
