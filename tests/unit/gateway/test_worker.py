"""A gateway process gets ready for a changed file."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError
from inferry.core.filter_settings import Filter
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.gateway import gateway as gateway_module
from inferry.gateway import worker as worker_module
from inferry.gateway.filters import filter_set
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.rule import Rule, compile_rule
from inferry.gateway.link import Link
from inferry.gateway.messages import (
    Commit,
    Configuration,
    Drain,
    Prepare,
    Setup,
    SnapshotWanted,
    Started,
)
from inferry.gateway.served import ServedSpec
from inferry.gateway.snapshot import Snapshot
from inferry.gateway.worker import GatewayWorker

from .stand import served

REPLY_S = 10.0


def configuration(generation: int) -> Configuration:
    return Configuration(generation, GatewaySettings(), {}, [served("chat")])


@asynccontextmanager
async def running_worker(
    folder: Path, each_second: Callable[[int, int], None] = lambda requests, connections: None
) -> AsyncIterator[Link]:
    """The control process's end of the link."""
    ours, theirs = socket.socketpair()
    started, lost = asyncio.Event(), asyncio.Event()

    def on_message(message: Any, number: int | None) -> None:
        if isinstance(message, Started):
            started.set()

    link = Link(on_message, lost.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for each in (ours, theirs):
            each.setblocking(False)
        worker = GatewayWorker(theirs, listener, SystemClock(), lambda setup: None, each_second)
        running = asyncio.create_task(worker.run())
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
        link.say(Setup("gateway-0", configuration(1), (), (), 1, folder / "log", folder))
        await started.wait()
        try:
            yield link
        finally:
            link.say(Drain(at_once=True))
            await running
            link.close()
            await lost.wait()


async def test_it_serves_while_filters_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long list is compiled, the process answers other questions; the reply comes when it is done."""
    may_end = threading.Event()

    def slow(specs: Sequence[ServedSpec]) -> dict[str, FilterSet]:
        assert may_end.wait(REPLY_S)
        return {}

    monkeypatch.setattr(worker_module, "compile_filters", slow)
    async with running_worker(tmp_path) as link:
        preparing = asyncio.create_task(link.ask(Prepare(configuration(2)), REPLY_S))
        assert isinstance(await link.ask(SnapshotWanted(), REPLY_S), Snapshot)
        assert not preparing.done()
        may_end.set()
        assert await preparing is None
        assert await link.ask(Commit(2), REPLY_S) is None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ConfigError("The filter 'x': no."), "The filter 'x': no."),
        (MemoryError("full"), "nothing was changed"),
    ],
)
async def test_what_is_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str
) -> None:
    """A file that can't be used, and a fault of ours, both end in words, and the next change is served."""
    faults = [fault]

    def once(specs: Sequence[ServedSpec]) -> dict[str, FilterSet]:
        if faults:
            raise faults.pop()
        return {}

    monkeypatch.setattr(worker_module, "compile_filters", once)
    async with running_worker(tmp_path) as link:
        assert said in await link.ask(Prepare(configuration(2)), REPLY_S)
        assert await link.ask(Prepare(configuration(3)), REPLY_S) is None
        assert await link.ask(Commit(3), REPLY_S) is None


def test_a_shared_filter_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's filters stand over every deployment, and are compiled once, also behind the link."""
    compiled: list[str] = []

    def counted(settings: Filter) -> Rule:
        compiled.append(settings.name)
        return compile_rule(settings)

    monkeypatch.setattr(filter_set, "compile_rule", counted)
    shared = Filter(name="shared", terms=["bomb"])
    specs = [
        replace(served(name), filters=(shared, Filter(name=name, terms=["pear"]))) for name in ("a", "b", "c")
    ]
    sets = gateway_module.compile_filters(pickle.loads(pickle.dumps(specs)))
    assert sorted(compiled) == ["a", "b", "c", "shared"]
    assert [list(each.names) for each in sets.values()] == [["shared", name] for name in ("a", "b", "c")]


async def test_the_process_around_it_hears_how_busy_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and then, it is told how many requests and connections there are, for what is best done while there are few."""
    monkeypatch.setattr(worker_module, "LOOK_S", 0.01)
    heard: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    async with running_worker(tmp_path, lambda *numbers: heard.put_nowait(numbers)):
        assert [await heard.get(), await heard.get()] == [(0, 0), (0, 0)]
