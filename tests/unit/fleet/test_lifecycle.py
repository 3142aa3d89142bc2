"""Scale, drain, undrain, restart and rollout by hand. In memory."""

from __future__ import annotations

import asyncio

import pytest

from inferry.core.errors import ConfigError, LifecycleRefused, RolloutFailed, UnknownReplica
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.rollout_settings import Rollout
from inferry.fleet.plan import DeploymentPlan

from .fakes import until
from .test_fleet_changes import SLOW, House, chat, outside, plans, running

CANARY = Rollout(settle_s=0, canary_s=60)


async def test_scaled_up_and_down() -> None:
    """Replicas come and go; what the verb says names the number that the file has."""
    async with running(House(chat=chat(2))) as house:
        lifecycle = house.fleet.lifecycle
        done = await lifecycle.scale("chat", 4, 5)
        assert done.started == ("chat-2", "chat-3")
        assert done.message == "'chat' has 4 replica(s) now. The file says 2: yours holds until that changes."
        assert lifecycle.scaled_by_hand("chat") == 4
        done = await lifecycle.scale("chat", 2, 5)
        assert done.ended == ("chat-2", "chat-3")
        assert done.message.endswith("The file says the same.")
        assert lifecycle.scaled_by_hand("chat") is None


async def test_those_with_the_least_to_lose_leave_by_hand_and_by_the_file() -> None:
    """Not the youngest, but those with the fewest requests under way, as when it scales by itself."""
    async with running(House(chat=chat(4))) as house:
        house.in_flight = {"chat-0": 1, "chat-2": 2, "chat-3": 3}
        asking = asyncio.create_task(house.fleet.lifecycle.scale("chat", 3, 5))
        assert (await asking).ended == ("chat-1",)
        asking_for_less = asyncio.create_task(house.fleet.apply(plans({"chat": chat(2)}), 5))
        await until(lambda: house.states()["chat-0"] == "draining")
        house.in_flight["chat-0"] = 0
        await asking_for_less
        assert list(house.states()) == ["chat-2", "chat-3"]


async def test_scaling_asks_for_memory_first() -> None:
    """Only where there are to be more; refused, nothing has changed."""

    def refuse(plan: DeploymentPlan) -> None:
        raise LifecycleRefused(f"no room for {plan.deployment.model_dump()['replicas']}")

    async with running(House(chat=chat(2))) as house:
        house.fleet.lifecycle.check_memory = refuse
        with pytest.raises(LifecycleRefused, match="no room for 3"):
            await house.fleet.lifecycle.scale("chat", 3, 5)
        assert house.fleet.lifecycle.scaled_by_hand("chat") is None
        assert len(house.states()) == 2
        await house.fleet.lifecycle.scale("chat", 1, 5)
        assert list(house.states()) == ["chat-0"]
        assert [
            each.deployment.model_dump()["replicas"] for each in house.fleet.scaled(plans({"chat": chat(2)}))
        ] == [1]


async def test_a_number_by_hand_holds_until_the_file_says_another() -> None:
    """Changes of other keys leave it alone, those that replace engines among them; another `replicas` ends it, and
    the old number in the file does not bring it back."""
    async with running(House(chat=chat(2), other=chat(1))) as house:
        await house.fleet.lifecycle.scale("chat", 3, 5)
        await house.apply(chat=chat(2, grace_s=1), other=chat(1))
        assert len(house.states()) == 4
        await house.apply(chat=chat(2, parallel=8), other=chat(1))
        assert [name for name in house.states() if name.startswith("chat")] == ["chat-3", "chat-4", "chat-5"]
        await house.apply(chat=chat(1, parallel=8), other=chat(1))
        assert list(house.states()) == ["chat-3", "other-0"]
        assert house.fleet.lifecycle.scaled_by_hand("chat") is None
        await house.apply(chat=chat(2, parallel=8), other=chat(1))
        assert len(house.states()) == 3


async def test_a_change_that_was_taken_back_leaves_the_number_by_hand() -> None:
    """The file as it was is in force again, and so is what was asked for beside it."""
    async with running(House(chat=chat(1))) as house:
        await house.fleet.lifecycle.scale("chat", 2, 5)
        house.runtime.on_start = lambda handle: handle.end(2)
        assert list(await house.apply(chat=chat(4, parallel=8))) == ["chat"]
        assert await house.apply(chat=chat(1)) == {}
        assert house.states() == {"chat-0": "ready", "chat-1": "ready"}
        assert house.fleet.lifecycle.scaled_by_hand("chat") == 2


async def test_a_drained_replica_keeps_its_place() -> None:
    """Its engine ends, nothing is started for it, it says how to bring it back, and it does so under a new id."""
    async with running(House(chat=chat(2))) as house:
        lifecycle = house.fleet.lifecycle
        done = await lifecycle.drain("chat-0", 5)
        assert (done.message, done.ended) == ("chat-0: drained.", ("chat-0",))
        assert house.states() == {"chat-0": "stopped", "chat-1": "ready"}
        view = house.fleet.views()[0]
        assert view.message == "drained by hand; bring it back with: inferry undrain chat-0"
        assert (view.endpoint, view.pid, view.drained) == (None, None, True)
        await house.apply(chat=chat(2, grace_s=3))
        assert house.states() == {"chat-0": "stopped", "chat-1": "ready"}
        with pytest.raises(LifecycleRefused, match="'chat-0' is drained already"):
            await lifecycle.drain("chat-0", 5)
        with pytest.raises(LifecycleRefused, match="inferry undrain chat-0"):
            await lifecycle.restart("chat-0", 5)
        done = await lifecycle.undrain("chat-0")
        assert (done.message, done.started) == ("chat-2 started.", ("chat-2",))
        assert house.states() == {"chat-1": "ready", "chat-2": "ready"}
        assert house.gone == ["chat-0"]
        with pytest.raises(LifecycleRefused, match="Nothing of 'chat' is drained"):
            await lifecycle.undrain("chat")


async def test_a_drained_replica_is_no_reason_to_roll_out() -> None:
    """A new version replaces what runs; what is drained comes back as the new version. It leaves first when there
    are to be fewer."""
    async with running(House(chat=chat(3))) as house:
        lifecycle = house.fleet.lifecycle
        await lifecycle.drain("chat-1", 5)
        await house.apply(chat=chat(3, parallel=8))
        assert house.states() == {"chat-1": "stopped", "chat-3": "ready", "chat-4": "ready"}
        await lifecycle.undrain("chat-1")
        assert house.parallel("chat-5") == "8"
        await lifecycle.drain("chat-4", 5)
        await lifecycle.scale("chat", 2, 5)
        assert house.states() == {"chat-3": "ready", "chat-5": "ready"}


async def test_a_whole_deployment_is_drained_and_comes_back() -> None:
    """It says that nothing is left to serve; one that was given up is drained like the others."""
    house = House(chat=chat(2))
    house.runtime.on_start = lambda handle: handle.end(2) if handle.replica_id == "chat-0" else None
    async with running(house):
        done = await house.fleet.lifecycle.drain("chat", 5)
        assert done.message == "chat-0, chat-1: drained. 'chat' takes no requests now."
        assert set(house.states().values()) == {"stopped"}
        assert (await house.fleet.lifecycle.undrain("chat")).started == ("chat-2", "chat-3")
        assert house.states() == {"chat-2": "ready", "chat-3": "ready"}


async def test_drained_replicas_stay_drained_when_a_model_is_unloaded() -> None:
    """They keep their places and ids through unload, load and a change of the file; the rest comes and goes."""
    on_demand = chat(2).model_copy(update={"load": "on_demand"})
    async with running(House(chat=on_demand)) as house:
        fleet = house.fleet
        await asyncio.sleep(0)
        await fleet.loading.load("chat")
        await until(lambda: set(house.states().values()) == {"ready"})
        await fleet.lifecycle.drain("chat-0", 5)
        await fleet.loading.unload("chat", "by hand")
        assert house.states() == {"chat-0": "stopped"}
        assert not fleet.loading.is_loaded("chat")
        await house.apply(chat=on_demand.model_copy(update={"stop_grace_s": 3}))
        await fleet.loading.load("chat")
        await until(lambda: house.states() == {"chat-0": "stopped", "chat-1": "ready"})
        await fleet.loading.unload("chat", "by hand")
        done = await fleet.lifecycle.undrain("chat")
        assert done.message == "'chat' is drained no more: the next request loads it, or 'inferry load'."
        assert house.states() == {}
        await fleet.loading.load("chat")
        await until(lambda: set(house.states().values()) == {"ready"})
        assert sorted(house.states()) == ["chat-1", "chat-2"]


async def test_endpoints_of_others_are_drained_and_come_back() -> None:
    """No requests for it, until it is wanted again; it can be neither scaled nor restarted here."""
    async with running(House(far=outside("http://h:1/v1", "http://h:2/v1"))) as house:
        lifecycle = house.fleet.lifecycle
        await until(lambda: set(house.states().values()) == {"ready"})
        await lifecycle.drain("far-0", 5)
        assert house.states() == {"far-0": "stopped", "far-1": "ready"}
        await lifecycle.undrain("far")
        await until(lambda: house.states() == {"far-1": "ready", "far-2": "ready"})
        with pytest.raises(LifecycleRefused, match="list its endpoints in the file"):
            await lifecycle.scale("far", 3, 5)
        with pytest.raises(LifecycleRefused, match="restart them there"):
            await lifecycle.restart("far-1", 5)


async def test_restarted_one_by_one() -> None:
    """All of a deployment, or one of its replicas; never fewer serve than before."""
    async with running(House(chat=chat(2))) as house:
        lifecycle = house.fleet.lifecycle
        done = await lifecycle.restart("chat", 5)
        assert done.message == "chat-0, chat-1 replaced by chat-2, chat-3."
        assert house.ready_at_least() == 2
        done = await lifecycle.restart("chat-2", 5)
        assert (done.ended, done.started) == (("chat-2",), ("chat-4",))
        assert house.states() == {"chat-3": "ready", "chat-4": "ready"}


async def test_a_replica_that_was_given_up_is_started_again() -> None:
    """That is what restart is for, too."""
    house = House(chat=chat(2))
    house.runtime.on_start = lambda handle: handle.end(2) if handle.replica_id == "chat-1" else None
    async with running(house):
        assert house.states() == {"chat-0": "ready", "chat-1": "failed"}
        await house.fleet.lifecycle.restart("chat-1", 5)
        assert house.states() == {"chat-0": "ready", "chat-2": "ready"}
        assert house.fleet.failures() == []


async def test_a_restart_that_does_not_work_changes_nothing() -> None:
    """The new engine does not start: the old one serves on, and the error says why."""
    async with running(House(chat=chat(2))) as house:
        house.runtime.on_start = lambda handle: handle.end(2)
        with pytest.raises(RolloutFailed, match="The restart of chat-0 was taken back: chat-2: "):
            await house.fleet.lifecycle.restart("chat-0", 5)
        assert house.states() == {"chat-0": "ready", "chat-1": "ready"}


async def test_a_rollout_by_hand_has_a_canary() -> None:
    """The settings are the same, the engine's program may not be; undone, all is as before."""
    async with running(House(chat=chat(2, rollout=CANARY))) as house:
        rolling = asyncio.create_task(house.fleet.lifecycle.rollout("chat", 5))
        await until(lambda: house.states().get("chat-2") == "ready")
        await house.fleet.lifecycle.undo("chat")
        with pytest.raises(RolloutFailed, match="taken back by hand"):
            await rolling
        assert house.states() == {"chat-0": "ready", "chat-1": "ready"}
        with pytest.raises(LifecycleRefused, match="No rollout of 'chat' is under way"):
            await house.fleet.lifecycle.undo("chat")


async def test_one_thing_at_a_time_for_each_deployment() -> None:
    """The second is refused with what the first does; other deployments are free."""
    async with running(House(chat=chat(2), other=chat(1))) as house:
        house.in_flight["chat-1"] = 1
        draining = asyncio.create_task(house.fleet.lifecycle.drain("chat-1", 60))
        await until(lambda: house.states()["chat-1"] == "draining")
        with pytest.raises(LifecycleRefused, match=r"under way at 'chat' \(drains chat-1\)"):
            await house.fleet.lifecycle.scale("chat", 3, 5)
        await house.fleet.lifecycle.scale("other", 2, 5)
        house.in_flight.clear()
        await draining


async def test_a_change_of_the_file_waits_only_for_its_own_deployment() -> None:
    """While one deployment is drained by hand, a change of another one is done; one of its own comes after."""
    async with running(House(chat=chat(2), other=chat(1))) as house:
        house.in_flight["chat-1"] = 1
        draining = asyncio.create_task(house.fleet.lifecycle.drain("chat-1", 60))
        await until(lambda: house.states()["chat-1"] == "draining")
        await house.apply(chat=chat(2), other=chat(2))
        assert house.states()["other-1"] == "ready"
        change = asyncio.create_task(house.apply(chat=chat(3), other=chat(2)))
        await asyncio.sleep(0.1)
        assert house.states() == {
            "chat-0": "ready",
            "chat-1": "draining",
            "other-0": "ready",
            "other-1": "ready",
        }
        house.in_flight.clear()
        await draining
        await change
        assert house.states()["chat-2"] == "ready"


async def test_a_model_that_is_not_loaded() -> None:
    """There is nothing to drain nor to replace, a number by hand is for later, and what is said names the verb that
    loads it."""
    async with running(House(chat=chat(1).model_copy(update={"load": "on_demand"}))) as house:
        lifecycle = house.fleet.lifecycle
        for verb in (lifecycle.drain, lifecycle.restart, lifecycle.rollout):
            with pytest.raises(LifecycleRefused, match=r"'chat' is not loaded.* inferry load chat"):
                await verb("chat", 5)
        await asyncio.sleep(0)  # where nothing is to start, it may not run yet
        done = await lifecycle.scale("chat", 2, 5)
        assert done.message.startswith(
            "'chat' gets 2 replica(s) when its model is loaded: by the next request, or 'inferry load chat'."
        )
        assert house.states() == {}


async def test_names_that_are_not_there() -> None:
    """The error says which there are."""
    async with running(House(chat=chat(1))) as house:
        lifecycle = house.fleet.lifecycle
        with pytest.raises(UnknownReplica, match=r"no replica 'chat-7'. There are: chat \(chat-0\)."):
            await lifecycle.drain("chat-7", 5)
        with pytest.raises(UnknownReplica, match=r"Did you mean 'chat'\? There are: chat \(chat-0\)"):
            await lifecycle.restart("caht", 5)
        with pytest.raises(UnknownReplica, match="Did you mean 'chat'"):
            await lifecycle.scale("chatt", 2, 5)


async def test_a_name_that_means_two_things() -> None:
    """A deployment that is called like a replica of another one: neither is touched."""
    async with running(House(**{"chat": chat(1), "chat-0": chat(1)})) as house:
        with pytest.raises(LifecycleRefused, match="names a deployment and a replica"):
            await house.fleet.lifecycle.restart("chat-0", 5)


async def test_a_verb_while_everything_ends() -> None:
    """Drained replicas end with the rest, and whoever asked is told."""
    house = House(
        chat=chat(2),
        far=OpenAIDeployment(engine="openai", model="m", endpoints=["http://h:1/v1"], health=SLOW),
    )
    async with running(house):
        await house.fleet.lifecycle.drain("chat-0", 5)
        house.in_flight["chat-1"] = 1
        draining = asyncio.create_task(house.fleet.lifecycle.drain("chat-1", 60))
        await until(lambda: house.states()["chat-1"] == "draining")
        await house.fleet.stop()
        with pytest.raises(ConfigError, match="shutting down"):
            await draining
    with pytest.raises(ConfigError, match="nothing was changed"):
        await house.fleet.lifecycle.undrain("chat-0")
