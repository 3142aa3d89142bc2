"""What happens while the scaling loop looks, and between its looks. A fleet in memory, and time by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from inferry.core.host_settings import Host
from inferry.core.scaling_settings import Scaling
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.resize import LeastToLose, Resized
from inferry.fleet.scaler_event import EventKind
from inferry.policy.scaling.decision import Alert, ScalingDecision
from inferry.policy.scaling.observation import Observation

from .fakes import until
from .test_scaler import Scaled, scaled, scaling


async def test_a_number_by_hand_during_a_look_wins() -> None:
    """Somebody sets 5 while the look waits for the gateways: what it decides for the 2 before is not carried out."""
    async with scaling(chat=scaled(2)) as there:
        look = await _look_that_waits(there, wish=1)
        await there.house.fleet.lifecycle.scale("chat", 5, 5)
        await _go_on(there, look)
        assert list(there.house.states().values()) == ["ready"] * 5
        assert there.house.fleet.resizing.wanted("chat") == 5
        assert [event.kind for event in there.scaler.history] == [EventKind.BY_HAND]
        done = await there.house.fleet.resizing.resize(
            "chat", 5, 1, "few requests", 5, lambda members: members
        )
        assert done.why_not == "somebody set 5 by hand meanwhile"


async def test_a_file_that_is_read_during_a_look_wins() -> None:
    """Settings that change while the look waits for the gateways decide in it, and none of those before."""
    async with scaling(chat=scaled(2)) as there:
        look = await _look_that_waits(there, wish=1)
        begun = there.script.begun
        await there.apply(chat=scaled(4, low=4))
        await _go_on(there, look)
        assert there.script.begun == begun + 1
        assert there.scaler.explain("chat") is not None
        assert there.script.seen[-1].wanted == 4


async def test_a_decision_is_for_the_number_that_was() -> None:
    """Where it has changed since, for whatever reason, the decision is not carried out, and it is told why."""
    async with scaling(chat=scaled(2)) as there:
        done = await there.house.fleet.resizing.resize(
            "chat", 3, 1, "few requests", 5, lambda members: members
        )
        assert done.why_not == "it was decided for 3 replicas, and 2 are wanted by now"
        assert there.house.fleet.resizing.wanted("chat") == 2


async def test_a_follower_and_a_broken_look_rest() -> None:
    """Neither looks more often than once a second, and a former leader shows no alert that it can't end."""
    async with scaling(chat=scaled(1)) as there:
        there.script.alerts = (Alert("rules[0] error_rate", "7 % of 100"),)
        await there.look()
        there.led_by = "host-2"
        there.clock.advance(10)
        await there.scaler.look()
        state = there.scaler.explain("chat")
        assert state is not None
        assert state.decision is None
        assert there.scaler._pause_s() == 1


async def test_one_that_can_not_be_resized_stops_no_other() -> None:
    """A fault at one deployment is told there; the next one in the file is scaled all the same."""
    async with scaling(aaa=scaled(1), chat=scaled(1)) as there:
        resize = there.scaler._around.resize

        async def on_a_full_disk(
            name: str, was: int, replicas: int, because: str, drain_s: float, order: LeastToLose
        ) -> Resized:
            if name == "aaa":
                raise OSError("no space left on device")
            return await resize(name, was, replicas, because, drain_s, order)

        there.scaler._around = replace(there.scaler._around, resize=on_a_full_disk)
        await there.look(wish=3)
        assert sorted(there.house.states()) == ["aaa-0", "chat-0", "chat-1", "chat-2"]
        state = there.scaler.explain("aaa")
        assert state is not None
        assert "no space left on device" in state.not_done


async def test_what_begins_to_leave_makes_no_room_yet() -> None:
    """One wants 2 fewer and one 2 more in the same look, and the money is all spent: nothing is added before those that
    leave are gone. (ai-dynamo/dynamo#12428: the budget exceeded while replicas change hands.)"""
    async with scaling(chat=scaled(3, price=1), other=scaled(1, price=1)) as there:
        there.host = Host(money_per_hour_max=4)
        there.house.in_flight.update({f"chat-{n}": 1 for n in range(3)})
        _each_wishes(there, {"chat": 1, "other": 3})
        await there.look()
        assert len(there.house.states()) == 4
        there.house.in_flight.clear()
        await until(lambda: len(there.house.states()) == 2)
        await there.look()
        assert sorted(each.rpartition("-")[0] for each in there.house.states()) == ["chat"] + ["other"] * 3


async def test_unloading_waits_for_those_that_leave_already() -> None:
    """A replica that was scaled away and still has a stream holds its memory: the model is unloaded when that is gone,
    and begins with its least number again."""
    async with scaling(chat=scaled(None, low=0, on_demand=True)) as there:
        fleet = there.house.fleet
        await fleet.loading.load("chat")
        await there.look(wish=2)
        await fleet.wait_settled()
        there.house.in_flight.update({"chat-0": 3, "chat-1": 1})
        await there.look(wish=1)
        await until(lambda: there.house.states()["chat-1"] == "draining")
        there.house.in_flight["chat-0"] = 0
        unloading = asyncio.create_task(fleet.loading.unload("chat", "memory wanted"))
        await until(lambda: list(there.house.states()) == ["chat-1"])
        assert not unloading.done()
        there.house.in_flight["chat-1"] = 0
        await unloading
        assert there.house.states() == {}
        await fleet.loading.load("chat")
        assert list(there.house.states()) == ["chat-0"]


async def _look_that_waits(there: Scaled, *, wish: int) -> asyncio.Task[None]:
    """It has read what people say, and asks the gateways now."""
    await there.look()
    there.asking = asyncio.get_running_loop().create_future()
    there.clock.advance(10)
    there.script.wish = wish
    look = asyncio.create_task(there.scaler.look())
    await asyncio.sleep(0)
    return look


async def _go_on(there: Scaled, look: asyncio.Task[None]) -> None:
    assert there.asking is not None
    there.asking.set_result(None)
    there.asking = None
    await look


class _Wishes:
    """An Autoscaler that always wants the same."""

    every_s = 10.0

    def __init__(self, to: int) -> None:
        self._to = to

    def decide(self, seen: Observation) -> ScalingDecision:
        return ScalingDecision(
            seen.now_s, seen.wanted, self._to, "wish", "says the test", len(seen.serving), seen.coming
        )


def _each_wishes(there: Scaled, wishes: dict[str, int]) -> None:
    def make(plan: DeploymentPlan, scaling: Scaling) -> _Wishes:
        return _Wishes(wishes[plan.name])

    there.scaler._around = replace(there.scaler._around, make=make)
