"""Who reads a changed file, how often it is tried, and what is told of it: with stand-ins for fleet and gateways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import structlog

from inferry.cli import reload as reload_module
from inferry.cli.reload import Reloader
from inferry.cli.serving import make_serving
from inferry.core.config_file import LoadedFile, load_file
from inferry.core.deployment import DeploymentFile
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.fleet.hand_scale import with_replicas
from inferry.fleet.plan import DeploymentPlan
from inferry.gateway.messages import Configuration

FILE = """
host: {{memory_budget: 8GiB}}
deployments:
  chat: {{engine: simulated, memory: 1GiB, replicas: 1, context_tokens: {context}}}
"""
BAD = 4444
"""Of a stand-in engine that does not start with it."""


async def ready(config: DeploymentFile) -> None:
    return None


class House:
    """A file with a Reloader over it; a stand-in fleet that is as slow as the test wants."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "inferry.yaml"
        self.applied: list[int] = []
        self.said: list[str] = []
        self.by_hand: int | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.write(1024)
        loaded = load_file(self.path, {})
        self.reloader = Reloader(
            loaded,
            make_serving(loaded.config, {}),
            gateways=self,
            fleet=self,
            home=folder,
            environ={},
            prepare=ready,
        )

    def write(self, context: int) -> None:
        text = FILE.format(context=context)
        self.path.write_text(text + "#" * len(self.applied) * 7)  # no two versions look alike from outside
        os.utime(self.path, ns=(0, context))

    async def configure(self, configuration: Configuration) -> None:
        return None

    async def apply(self, plans: Iterable[DeploymentPlan], drain_s: float) -> dict[str, str]:
        (plan,) = plans
        assert isinstance(plan.deployment, ManagedBase)
        context = plan.deployment.context_tokens
        assert context is not None
        self.applied.append(context)
        await self.may_end.wait()
        return {"chat": "chat-1: it does not start"} if context == BAD else {}

    def failures(self) -> list[str]:
        return []

    def scaled(self, plans: Iterable[DeploymentPlan]) -> list[DeploymentPlan]:
        return [plan if self.by_hand is None else with_replicas(plan, self.by_hand) for plan in plans]

    def why(self) -> str:
        """What is told of a file that is not in force."""
        return self.reloader.not_in_force or ""

    async def until_applied(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.applied) < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def watched(house: House) -> AsyncIterator[House]:
    watching = asyncio.create_task(house.reloader.watch_forever(house.said.append))
    try:
        yield house
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload_module, "WATCH_S", 0.01)


@pytest.mark.usefixtures("quick")
async def test_a_bad_version_is_tried_once(tmp_path: Path) -> None:
    """The watcher is at it when somebody types reload: the verb has the watcher's end, and engines start once."""
    async with watched(House(tmp_path)) as house:
        house.may_end.clear()
        house.write(BAD)
        await house.until_applied(1)
        typed = asyncio.create_task(house.reloader.reload())
        await asyncio.sleep(0.02)
        house.may_end.set()
        with pytest.raises(ConfigError, match="chat-1: it does not start"):
            await typed
        await asyncio.sleep(0.05)
        assert house.applied == [BAD, 1024]  # and what was put back
        assert len(house.said) == 1
        with pytest.raises(ConfigError, match="does not start"):
            await house.reloader.reload()
        assert house.applied == [BAD, 1024, BAD, 1024]  # whoever asks after the end wants another try


@pytest.mark.usefixtures("quick")
async def test_the_watcher_leaves_to_the_verb_what_the_verb_has_taken(tmp_path: Path) -> None:
    """A version that the verb has tried, to a bad end, is not tried again because the file is newer than before."""
    async with watched(House(tmp_path)) as house:
        house.may_end.clear()
        house.write(BAD)
        typed = asyncio.create_task(house.reloader.reload())
        await house.until_applied(1)
        await asyncio.sleep(0.05)
        house.may_end.set()
        with pytest.raises(ConfigError):
            await typed
        await asyncio.sleep(0.05)
        assert (house.applied, house.said) == ([BAD, 1024], [])


@pytest.mark.usefixtures("quick")
async def test_the_verb_tells_what_the_watcher_did(tmp_path: Path) -> None:
    """Not that there is nothing to do; once, and from then on there is nothing."""
    async with watched(House(tmp_path)) as house:
        house.write(2048)
        await house.until_applied(1)
        done = await house.reloader.reload()
        assert (done.by_watcher, done.generation) == (True, 2)
        assert any("context_tokens" in line for line in done.changes)
        again = await house.reloader.reload()
        assert (again.by_watcher, again.changes) == (False, [])
        assert house.applied == [2048]


@pytest.mark.usefixtures("quick")
async def test_a_fault_while_reading_does_not_end_the_watcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the log with its traceback, is told as a fault of ours, and the next version is applied."""

    def broken(path: Path, environ: Mapping[str, str]) -> LoadedFile:
        raise KeyError("secret-of-the-environment")

    async with watched(House(tmp_path)) as house:
        with monkeypatch.context() as patched, structlog.testing.capture_logs() as logged:
            patched.setattr(reload_module, "load_file", broken)
            house.write(2048)
            async with asyncio.timeout(10):
                while not house.said:
                    await asyncio.sleep(0.005)
        assert [(each["event"], each["exc_info"]) for each in logged] == [("reload_broke", True)]
        assert house.why() == "a fault in Inferry (KeyError): the log says where"
        assert house.said == [f"inferry.yaml has changed, but can't be applied: {house.why()}"]
        house.write(3072)
        await house.until_applied(1)
        await house.reloader.reload()  # returns after the watcher's own
    assert (house.applied, house.why()) == ([3072], "")


async def test_why_the_file_on_disk_is_not_in_force(tmp_path: Path) -> None:
    """A version that can't be read, one whose engines don't start, one that was undone; nothing, once it is."""
    house = House(tmp_path)
    reloader = house.reloader
    assert house.why() == ""
    house.path.write_text("deployments: {chat: {engine: simulatid}}")
    with pytest.raises(ConfigError):
        await reloader.reload()
    assert "simulatid" in house.why()
    house.write(BAD)
    with pytest.raises(ConfigError):
        await reloader.reload()
    assert "chat-1: it does not start" in house.why()
    house.write(2048)
    await reloader.reload()
    assert house.why() == ""
    done = await reloader.undo("chat")
    assert done.changes[-1].startswith("inferry.yaml still says otherwise: change it there, too.")
    assert house.why().startswith("The rollout of 'chat' was undone by hand.")
    house.write(1024)
    assert (await reloader.reload()).changes == []
    assert house.why() == ""


async def test_numbers_by_hand_count_in_the_budget_of_a_new_file(tmp_path: Path) -> None:
    """The file alone would fit; what it makes of what runs does not, and nothing is changed."""
    house = House(tmp_path)
    house.by_hand = 9
    house.write(2048)
    with pytest.raises(ConfigError, match=r"memory_budget.* Numbers of replicas by hand count"):
        await house.reloader.reload()
    assert house.applied == []
