"""Real llama.cpp, killed with -9 in the middle of its answers: the client's text is that of an undisturbed engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.inferry_process import Inferry

from .books import read_books
from .expected_answers import CHAT, COMPLETIONS
from .real_answers import before_the_pause, engine_goes_on, excuse, text_of, undisturbed
from .stand import Stand, write_file
from .strict_client import Ask, Heard, ask_strictly

pytestmark = [pytest.mark.slow, pytest.mark.engine]

REQUESTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Name three colors and say why you like them."}]},
    COMPLETIONS: {"prompt": "Once upon a time, there was a"},
}
KILLED_AFTER = {CHAT: range(1, 13), COMPLETIONS: range(2, 14, 3)}


@pytest.mark.timeout(400)
async def test_killed_after_each_token(tmp_path: Path, sample_model: Path) -> None:
    """Two replicas, greedy decoding: the one that serves is killed after each k-th token in turn. Text, ids, role, finish
    and usage are those of an undisturbed answer; where the text is not, the engine itself goes on so when it is asked to
    continue."""
    inferry = Inferry(tmp_path)
    keys: dict[str, Any] = {
        "engine": "llamacpp",
        "model": f"file:{sample_model}",
        "context_tokens": 512,
        "threads": 1,
    }
    write_file(inferry, replicas=2, **keys)
    heard: list[Heard] = []
    differing: list[str] = []
    with inferry.up() as up:
        url = up.wait_ready()
        stand = Stand(up)
        for path, request in REQUESTS.items():
            body = {"model": "chat", "temperature": 0, "max_tokens": 40, "cache_prompt": False, **request}
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            await stand.until_all_ready(2)
            expected = await asyncio.to_thread(undisturbed, url, path, body)
            for after in KILLED_AFTER[path]:
                ask = Ask(f"{path[-4:]}-{after}", path, body, expected)
                one = await ask_and_kill(stand, url, ask, after)
                heard.append(one)
                if one.text() != expected.text:
                    delivered, tokens = before_the_pause(one)
                    again = await asyncio.to_thread(engine_goes_on, url, "llamacpp", ask, delivered, tokens)
                    differing.append(f"{ask.id}: {one.text()!r}")
                    assert again == one.text()
                    excuse(one, "text differs")
                # llama.cpp says the second in which it writes each event: nothing of ours.
                excuse(one, "'created' has")
    sys.stdout.write(f"{len(differing)} of {len(heard)} differ, as the engine does: {differing}\n")
    assert {each.ask.id: each.faults for each in heard if each.faults} == {}
    rows = read_books(inferry, heard).rows
    assert {each.ask.id: rows[each.ask.id]["resumes"] for each in heard} == {each.ask.id: 1 for each in heard}


async def ask_and_kill(stand: Stand, url: str, ask: Ask, after: int) -> Heard:
    """Kill the replica that serves it as soon as `after` events with text have come."""
    killed: dict[str, int] = {}
    before = await stand.replicas()

    def on_event(heard: Heard) -> None:
        if not killed and sum(bool(text_of(raw)) for _, raw in heard.events) == after:
            victim = before[heard.replica]
            killed[heard.replica] = victim["restarts"]
            os.kill(victim["pid"], signal.SIGKILL)

    heard = await ask_strictly("127.0.0.1", int(urlsplit(url).port or 0), ask, on_event)
    [(victim, restarts)] = killed.items()
    await stand.until_back(victim, restarts, 2)
    return heard
