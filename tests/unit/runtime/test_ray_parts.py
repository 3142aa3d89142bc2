"""What the Ray runtime is made of, without Ray: where replicas go, what an agent does on its node, when one is lost."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from inferry.core.launch import LaunchSpec
from inferry.core.replica import Endpoint
from inferry.runtime.base import EXIT_CODE_UNKNOWN, Vitals
from inferry.runtime.ray.agent import News, ReplicaAgent
from inferry.runtime.ray.handle import RayHandle
from inferry.runtime.ray.lost import AgentAway, AgentDied
from inferry.runtime.ray.placement import Choice, Placement, choices
from inferry.runtime.ray.relayed_log import TAKE_BYTES_MAX, WAITING_BYTES_MAX, RelayedLog


@pytest.mark.parametrize(
    ("placement", "here", "expected"),
    [
        ("spread", {}, [Choice()]),
        ("strict_spread", {"a": 0}, [Choice()]),
        ("pack", {}, [Choice()]),
        ("spread", {"b": 1, "a": 1}, [Choice(not_on=("a", "b")), Choice()]),
        ("spread", {"a": 2, "b": 1}, [Choice(not_on=("a", "b")), Choice(not_on=("a",)), Choice()]),
        ("strict_spread", {"a": 1, "b": 0}, [Choice(not_on=("a",))]),
        ("pack", {"a": 2, "b": 1}, [Choice(only_on=("a",)), Choice(only_on=("a", "b")), Choice()]),
        ("pack", {"a": 1}, [Choice(only_on=("a",)), Choice()]),
    ],
)
def test_where_the_next_one_goes(placement: Placement, here: dict[str, int], expected: list[Choice]) -> None:
    """The best nodes first; strict means that there is no second choice."""
    assert choices(placement, here) == expected


async def test_an_agent_tells_all_that_its_engine_does(tmp_path: Path) -> None:
    """Output as it comes, to the last byte, then the exit code, then that nothing is left; and its folder goes."""
    agent = ReplicaAgent("chat-0", "127.0.0.1")
    program = "import sys; print('up', flush=True); sys.stdin.read(); print('x' * 300000); sys.exit(7)"
    seat = await agent.seat()
    assert seat.host == "127.0.0.1"
    spec = LaunchSpec(
        "chat-0",
        (sys.executable, "-c", program),
        Endpoint(seat.host, seat.port),
        {},
        {seat.folder / "f": "text"},
    )
    assert await agent.start(spec, sys.executable) == ""
    assert (seat.folder / "f").read_text() == "text"
    told: list[News] = []
    output = b""
    async with asyncio.timeout(30):
        while not told or not told[-1].gone:
            told.append(await agent.news(1.0))
            output += told[-1].output
    assert output == b"up\n" + b"x" * 300_000 + b"\n"
    assert told[-1].code == 7
    assert [each.code for each in told] == sorted((each.code for each in told), key=lambda code: code or 0)
    await agent.clear()
    assert not seat.folder.parent.exists()


async def test_an_agent_uses_its_own_python_and_refuses_in_words(tmp_path: Path) -> None:
    """The interpreter of whoever asks means nothing on another machine; a program that is not there is named."""
    agent = ReplicaAgent("chat-0", "127.0.0.1")
    spec = LaunchSpec("chat-0", ("/far/away/python", "-c", "pass"), Endpoint("h", 1))
    assert await agent.start(spec, "/far/away/python") == ""
    assert (await agent.facts()).python == sys.executable
    other = ReplicaAgent("chat-1", "127.0.0.1")
    assert "/far/away/python" in await other.start(spec, "/usr/bin/python")
    assert await other.lacks(str(tmp_path / "model"))
    assert not await other.lacks(str(tmp_path))
    await agent.clear()
    await other.clear()


def handle_in(folder: Path, lost_after_s: float = 1.0) -> RayHandle:
    return RayHandle("chat-0", "chat", "node-a", Endpoint("10.0.0.1", 1), folder / "chat-0.log", lost_after_s)


async def test_what_an_agent_tells_is_in_the_log_here(tmp_path: Path) -> None:
    """Output, vitals, code and end, in the order in which they come."""
    handle = handle_in(tmp_path)
    coming = [
        News(b"up\n", None, False, 1.5, False),
        News(b"", 3, False, None, False),
        News(b"last words\n", 3, True, None, False),
    ]
    seen: list[tuple[Vitals | None, bool]] = []

    async def ask(wait_s: float) -> News:
        seen.append((handle.vitals(), handle.gone))
        return coming.pop(0)

    assert await handle.follow(ask)
    assert seen == [(None, False), (Vitals(1.5, False), False), (None, False)]
    assert (await handle.ended()).code == (await handle.wait()).code == 3
    assert await asyncio.to_thread((tmp_path / "chat-0.log").read_text) == "up\nlast words\n"


async def test_a_short_silence_is_no_loss(tmp_path: Path) -> None:
    """An agent that can't be reached for a moment is asked again, and nothing is lost."""
    handle = handle_in(tmp_path, lost_after_s=30.0)
    coming: list[News | AgentAway] = [
        AgentAway("network"),
        News(b"a\n", None, False, None, False),
        AgentAway("network"),
        News(b"b\n", 0, True, None, False),
    ]

    async def ask(wait_s: float) -> News:
        each = coming.pop(0)
        if isinstance(each, Exception):
            raise each
        return each

    assert await handle.follow(ask)
    assert handle.log_tail() == ["a", "b"]


@pytest.mark.parametrize("trouble", [AgentAway("no route"), AgentDied("its node was killed")])
async def test_a_lost_one_ends_with_the_reason(tmp_path: Path, trouble: Exception) -> None:
    """Nobody knows its exit code; who looks into its log finds which node it was."""
    handle = handle_in(tmp_path, lost_after_s=0.3)

    async def ask(wait_s: float) -> News:
        raise trouble

    async with asyncio.timeout(20):
        assert not await handle.follow(ask)
        exit = await handle.wait()
    assert exit.code == EXIT_CODE_UNKNOWN
    assert "node node-a" in exit.because
    assert "node node-a" in handle.log_tail()[-1]
    assert str(trouble) in handle.log_tail()[-1]


async def test_one_that_hangs_is_lost_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer at all, not even an error."""
    monkeypatch.setattr("inferry.runtime.ray.handle.NEWS_S", 0.05)
    handle = handle_in(tmp_path, lost_after_s=0.2)

    async def ask(wait_s: float) -> News:
        await asyncio.sleep(600)
        raise AssertionError

    async with asyncio.timeout(20):
        assert not await handle.follow(ask)
    assert "has not answered for 0.2 s" in handle.log_tail()[-1]


def test_a_flood_is_bounded_and_says_so(tmp_path: Path) -> None:
    """What nobody fetched in time stays on the node, and its size is told; the rest comes in parts."""
    news: list[None] = []
    log = RelayedLog(tmp_path / "log", lambda: news.append(None))
    log.write(b"a" * WAITING_BYTES_MAX)
    log.write(b"b" * 1000)
    assert len(news) == 2
    chunk, has_more = log.take()
    assert chunk.startswith(b"\n[inferry: 1000 bytes of output are on the node alone]\naaa")
    assert has_more
    total = chunk.count(b"a" * 100)
    while has_more:
        chunk, has_more = log.take()
        assert len(chunk) <= TAKE_BYTES_MAX
        total += chunk.count(b"a" * 100)
    assert chunk.endswith(b"b" * 1000)
    assert log.take() == (b"", False)
    log.close()
    assert (tmp_path / "log").stat().st_size == WAITING_BYTES_MAX + 1000
