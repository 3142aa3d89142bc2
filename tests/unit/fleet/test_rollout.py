"""Replicas are replaced: the steps, the canary, and the way back. In memory."""

from __future__ import annotations

import asyncio

import pytest

from inferry.core.deployment import Deployment
from inferry.core.errors import RolloutFailed
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.rollout_settings import Rollout
from inferry.fleet.rollout_progress import RolloutPhase
from inferry.policy.rollout import Served

from .fakes import GONE, FakeHandle, until
from .test_fleet_changes import House, chat, running

QUICK = Rollout(settle_s=0, canary_s=0)
CANARY = Rollout(settle_s=0, canary_s=60)
IN_PLACE = Rollout(strategy="in_place", settle_s=0, canary_s=0)


def phase(house: House) -> RolloutPhase:
    [progress] = house.fleet.lifecycle.rollouts()
    return progress.phase


def because(house: House) -> str:
    [progress] = house.fleet.lifecycle.rollouts()
    return progress.because


def engines_at_most(house: House) -> int:
    """The highest number of engines that ran at the same time."""
    running: set[str] = set()
    most = 0
    for view in house.changes.views:
        (running.add if view.pid is not None else running.discard)(view.id)
        most = max(most, len(running))
    return most


def order(house: House) -> list[str]:
    return [f"{view.id} {view.state}" for view in house.changes.views]


async def test_more_at_a_time() -> None:
    """With max_surge 3, three new ones start together, and then three old ones leave."""
    rollout = Rollout(max_surge=3, settle_s=0, canary_s=0)
    async with running(House(chat=chat(4, rollout=rollout))) as house:
        assert await house.apply(chat=chat(4, parallel=8, rollout=rollout)) == {}
        assert sorted(house.states()) == ["chat-4", "chat-5", "chat-6", "chat-7"]
        happened = order(house)
        assert happened.index("chat-6 starting") < happened.index("chat-4 ready")
        assert happened.index("chat-6 ready") < happened.index("chat-3 draining")
        assert happened.index("chat-1 stopped") < happened.index("chat-7 starting")


async def test_in_place_takes_no_room() -> None:
    """An old one leaves before a new one starts; never more engines than the file says, and one always serves."""
    async with running(House(chat=chat(2, rollout=IN_PLACE))) as house:
        assert await house.apply(chat=chat(2, parallel=8, rollout=IN_PLACE)) == {}
        assert sorted(house.states()) == ["chat-2", "chat-3"]
        assert engines_at_most(house) == 2
        assert house.ready_at_least() == 1


async def test_in_place_never_takes_the_last_that_serves() -> None:
    """max_unavailable 5 of three replicas takes two at first, and the broken one before one that serves."""
    rollout = IN_PLACE.model_copy(update={"max_unavailable": 5})
    async with running(House(chat=chat(3, rollout=rollout))) as house:
        await house.apply(chat=chat(3, parallel=8, rollout=rollout))
        assert house.ready_at_least() == 1
        assert house.states() == {"chat-3": "ready", "chat-4": "ready", "chat-5": "ready"}


async def test_in_place_of_one() -> None:
    """A deployment of one replica is away while it is replaced; if the new one does not start, the old one is
    started again."""
    async with running(House(chat=chat(1, rollout=IN_PLACE))) as house:
        assert await house.apply(chat=chat(1, parallel=8, rollout=IN_PLACE)) == {}
        assert house.states() == {"chat-1": "ready"}
        house.runtime.on_start = lambda handle: handle.end(2) if handle.spec.argv.count("4") else None
        kept = await house.apply(chat=chat(1, parallel=4, rollout=IN_PLACE))
        assert kept["chat"].startswith("chat-2: ")
        assert house.states() == {"chat-3": "ready"}
        assert house.parallel("chat-3") == "8"
        assert engines_at_most(house) == 1


async def test_a_canary_that_serves_as_well_is_followed_by_the_rest() -> None:
    """The first new one is alone with the old ones for canary_s; the others come after it, and only settle."""
    rollout = Rollout(settle_s=0, canary_s=0.5)
    async with running(House(chat=chat(3, rollout=rollout))) as house:
        house.served = {"chat-0": Served(50, 1), "chat-3": Served(20, 0)}
        change = asyncio.create_task(house.apply(chat=chat(3, parallel=8, rollout=rollout)))
        await until(lambda: house.states().get("chat-3") == "ready")
        await asyncio.sleep(0.2)
        assert phase(house) is RolloutPhase.CANARY
        assert len(house.states()) == 4
        assert await change == {}
        assert (phase(house), len(house.states())) == (RolloutPhase.DONE, 3)


@pytest.mark.parametrize("strategy", ["surge", "in_place"])
async def test_a_canary_that_fails_more_is_taken_back(strategy: str) -> None:
    """As soon as its failures are beyond doubt, it drains with its requests handed over, and all is as before."""
    rollout = CANARY.model_copy(update={"strategy": strategy})
    async with running(House(chat=chat(2, rollout=rollout))) as house:
        change = asyncio.create_task(house.apply(drain_s=60, chat=chat(2, parallel=8, rollout=rollout)))
        await until(lambda: house.states().get("chat-2") == "ready")
        house.in_flight["chat-2"] = 4
        house.served["chat-2"] = Served(9, 9)
        await until(lambda: house.handed_over == ["chat-2"])
        house.in_flight.clear()
        kept = await change
        assert kept == {"chat": because(house)}
        assert kept["chat"].startswith("9 of 9 requests failed at the new version")
        assert phase(house) is RolloutPhase.ROLLED_BACK
        assert [house.parallel(replica_id) for replica_id in house.states()] == ["64", "64"]
        assert house.ready_at_least() == (2 if strategy == "surge" else 1)


async def test_what_old_ones_failed_before_counts_for_nothing() -> None:
    """Numbers are compared from the begin of the rollout: old failures don't excuse new ones."""
    async with running(House(chat=chat(1, rollout=CANARY))) as house:
        house.served["chat-0"] = Served(100, 90)
        change = asyncio.create_task(house.apply(chat=chat(1, parallel=8, rollout=CANARY)))
        await until(lambda: house.states().get("chat-1") == "ready")
        house.served |= {"chat-0": Served(200, 90), "chat-1": Served(100, 50)}
        assert "0 of 100 requests at the old one" in (await change)["chat"]


async def test_a_new_one_that_crashes_after_it_was_ready_is_taken_back() -> None:
    """Even if its engine is started again: it ended."""
    async with running(House(chat=chat(2, rollout=CANARY))) as house:
        change = asyncio.create_task(house.apply(chat=chat(2, parallel=8, rollout=CANARY)))
        await until(lambda: house.states().get("chat-2") == "ready")
        house.runtime.latest("chat-2").end(-9)
        assert "chat-2 ended after it had been ready" in (await change)["chat"]
        assert house.states() == {"chat-0": "ready", "chat-1": "ready"}
        assert house.fleet.failures() == []


async def test_no_canary_where_nobody_serves() -> None:
    """The old replicas are down: there is nothing to compare with, and no reason to wait."""
    house = House(chat=chat(2, rollout=CANARY))
    house.runtime.on_start = lambda handle: handle.end(2)
    async with running(house):
        assert set(house.states().values()) == {"failed"}
        house.runtime.on_start = lambda handle: None
        assert await house.apply(chat=chat(2, parallel=8, rollout=CANARY)) == {}
        assert house.states() == {"chat-2": "ready", "chat-3": "ready"}


async def test_each_step_is_told_as_it_happens() -> None:
    """To whoever asks for rollouts, and on the terminal of `up`; on the way back, too."""
    async with running(House(chat=chat(2, rollout=QUICK))) as house:
        said: list[str] = []
        house.fleet.set_say(said.append)
        await house.fleet.lifecycle.restart("chat-1", 5)
        assert house.fleet.lifecycle.rollouts()[0].steps == [
            "restart of chat-1 by hand: chat-1 to be replaced (surge)",
            "chat-2 starting",
            "1 of 1 new: ready for 0 s; failed: 0 of 0 requests, of the old ones 0 of 0 requests",
            "chat-1 leaving, with what is under way finished first",
            "done",
        ]
        assert said[0] == "chat: restart of chat-1 by hand: chat-1 to be replaced (surge)"
        said.clear()

        def end_with_words(handle: FakeHandle) -> None:
            handle.lines.append("no such model")
            handle.end(2)

        house.runtime.on_start = end_with_words
        await house.apply(chat=chat(2, parallel=8, rollout=QUICK))
        assert said[1] == "chat: chat-3 starting"
        assert said[2].startswith("chat: is taken back: chat-3: ")
        assert said[2].endswith(
            "would end the same way."
        )  # one whole sentence; the engine's words come below
        because = house.fleet.lifecycle.rollouts()[0].because.splitlines()
        assert because[1:] == ["  The last lines of /logs/chat-3.log:", "    no such model"]
        assert said[3:] == ["chat: chat-3 leaving", "chat: all is as it was"]


async def test_undone_by_hand() -> None:
    """`undo` takes back what is under way, in the middle of a canary, and waits until that is done."""
    async with running(House(chat=chat(2, rollout=CANARY))) as house:
        change = asyncio.create_task(house.apply(chat=chat(2, parallel=8, rollout=CANARY)))
        await until(lambda: bool(house.fleet.lifecycle.rollouts()) and phase(house) is RolloutPhase.CANARY)
        assert house.fleet.lifecycle.is_under_way("chat")
        assert await house.fleet.lifecycle.undo("chat") == (
            "it was taken back by hand\nThe file still says otherwise: change it there, too."
        )
        assert await change == {"chat": "it was taken back by hand"}
        assert house.states() == {"chat-0": "ready", "chat-1": "ready"}


async def test_undone_while_a_new_one_loads() -> None:
    """A new replica that takes long to start is not waited for."""
    async with running(House(chat=chat(1, rollout=QUICK))) as house:
        house.prober.default = GONE
        change = asyncio.create_task(
            house.apply(chat=chat(1, parallel=8, rollout=QUICK, start_timeout_s=600))
        )
        await until(lambda: house.states().get("chat-1") == "starting")
        await house.fleet.lifecycle.undo("chat")
        assert await change == {"chat": "it was taken back by hand"}
        assert list(house.states()) == ["chat-0"]


@pytest.mark.parametrize("strategy", ["surge", "in_place"])
async def test_undone_when_old_ones_have_left(strategy: str) -> None:
    """Those that left come back, each waited for before a new one leaves; in the end all are of the old version."""
    rollout = Rollout(strategy=strategy, settle_s=0.5, canary_s=0)
    async with running(House(chat=chat(3, rollout=rollout))) as house:
        change = asyncio.create_task(house.apply(chat=chat(3, parallel=8, rollout=rollout)))
        await until(lambda: house.states().get("chat-4") == "ready")
        assert await house.fleet.lifecycle.undo("chat") == (
            "it was taken back by hand\nThe file still says otherwise: change it there, too."
        )
        assert await change == {"chat": "it was taken back by hand"}
        assert phase(house) is RolloutPhase.ROLLED_BACK
        assert set(house.states().values()) == {"ready"}
        assert [house.parallel(replica_id) for replica_id in house.states()] == ["64"] * 3
        assert house.ready_at_least() == 2


async def test_undo_leaves_a_way_back_alone() -> None:
    """A rollout that is being taken back by itself goes on with that; whoever asks learns why, at its end."""
    rollout = Rollout(settle_s=0.3, canary_s=0)
    async with running(House(chat=chat(2, rollout=rollout))) as house:
        change = asyncio.create_task(house.apply(chat=chat(2, parallel=8, rollout=rollout)))
        await until(lambda: house.states().get("chat-3") == "ready")
        house.runtime.latest("chat-3").end(-9)
        await until(lambda: phase(house) is RolloutPhase.ROLLING_BACK)
        undone = await house.fleet.lifecycle.undo("chat")
        assert undone.startswith("chat-3 ended after it had been ready\n")
        assert await change == {"chat": "chat-3 ended after it had been ready"}
        assert [house.parallel(replica_id) for replica_id in house.states()] == ["64", "64"]


async def test_undo_says_when_not_all_could_be_put_back() -> None:
    """An old engine that does not start any more is no success."""
    rollout = Rollout(settle_s=0.3, canary_s=0)
    async with running(House(chat=chat(2, rollout=rollout))) as house:
        change = asyncio.create_task(house.apply(chat=chat(2, parallel=8, rollout=rollout)))
        await until(lambda: house.states().get("chat-3") == "ready")
        house.runtime.on_start = lambda handle: handle.end(2)
        with pytest.raises(RolloutFailed, match=r"in part only: .*\n.*could be put back: chat-4: "):
            await house.fleet.lifecycle.undo("chat")
        assert "chat-4: " in (await change)["chat"]
        assert phase(house) is RolloutPhase.STUCK


async def test_one_that_can_be_put_back_in_part_only_says_so() -> None:
    """The new version breaks in the middle, and the old one does not start any more: what runs goes on, and the
    next change replaces whatever does not fit."""

    def only_first(handle: FakeHandle) -> None:
        if handle.replica_id not in ("chat-2", "chat-5", "chat-6"):
            handle.end(2)

    async with running(House(chat=chat(2, rollout=QUICK))) as house:
        house.runtime.on_start = only_first
        kept = await house.apply(chat=chat(2, parallel=8, rollout=QUICK))
        assert kept["chat"].startswith("chat-3: ")
        assert "Not all could be put back: chat-4: " in kept["chat"]
        assert phase(house) is RolloutPhase.STUCK
        assert house.states() == {"chat-0": "ready", "chat-2": "ready", "chat-4": "failed"}
        assert await house.apply(chat=chat(2, parallel=4, rollout=QUICK)) == {}
        assert house.states() == {"chat-5": "ready", "chat-6": "ready"}


# --- the way out --------------------------------------------------------------------------------------


async def test_requests_are_handed_over_when_the_grace_ends() -> None:
    """After drain_s the gateway is asked to move what is left, until nothing is, and only then the engine ends."""
    async with running(House(chat=chat(2))) as house:
        house.in_flight.update({"chat-0": 4, "chat-1": 3})  # who has less to lose leaves
        change = asyncio.create_task(house.apply(drain_s=0.3, chat=chat(1)))
        await until(lambda: house.states()["chat-1"] == "draining")
        assert house.handed_over == []
        await until(lambda: house.handed_over == ["chat-1"])
        assert house.runtime.stops == []
        house.in_flight["chat-1"] = 0
        await change
        assert house.runtime.stops == [("chat-1", 7.0)]


async def test_nobody_is_asked_when_nobody_can_take_over() -> None:
    """The last replica keeps what it has, up to drain_max_s."""
    async with running(House(chat=chat(1), other=chat(1))) as house:
        house.in_flight["chat-0"] = 3
        change = asyncio.create_task(house.apply(drain_s=0.1, other=chat(1)))
        await asyncio.sleep(0.5)
        assert (house.handed_over, house.runtime.stops) == ([], [])
        house.in_flight["chat-0"] = 0
        await change
        assert house.runtime.stops == [("chat-0", 7.0)]


def modelled(model: str, drain_max_s: float) -> Deployment:
    return chat(1, rollout=QUICK, drain_max_s=drain_max_s).model_copy(update={"model": model})


async def test_another_model_does_not_end_an_answer() -> None:
    """A replica that is replaced by one with another model keeps its requests until they would break off."""
    async with running(House(chat=modelled("a", 0.8))) as house:
        house.in_flight["chat-0"] = 1
        change = asyncio.create_task(house.apply(drain_s=0.1, chat=modelled("b", 0.8)))
        await until(lambda: house.states().get("chat-0") == "draining")
        await asyncio.sleep(0.4)
        assert house.handed_over == []
        await until(lambda: house.handed_over == ["chat-0"])
        house.in_flight.clear()
        assert await change == {}


async def test_endpoints_of_others_need_no_canary() -> None:
    """A deployment of ours that becomes one of others is not watched: those are not ours to judge."""
    async with running(House(chat=chat(1, rollout=CANARY))) as house:
        outside = OpenAIDeployment(engine="openai", model="m", endpoints=["http://h:1/v1"])
        assert await house.apply(chat=outside) == {}
        assert house.gone == ["chat-0"]
