"""One model, served by vLLM and by llama.cpp behind one name: a stream that loses the one goes on at the other.

Both are real, on the CPU, with the same weights: vLLM's are made from llama.cpp's file.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.engine_pair import START_S, VLLM, Pair, engine_pair
from tests.e2e.inferry_process import wait_for

from .expected_answers import CHAT, COMPLETIONS
from .real_answers import excuse, text_of, undisturbed
from .strict_client import Ask, Heard, ask_strictly

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the recipes are for Linux x86-64",
    ),
]

NAME = "either"
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, {"messages": [{"role": "user", "content": "Count from one to thirty in words."}]}),
    (CHAT, {"messages": [{"role": "user", "content": "List the numbers from 1 to 30, with commas."}]}),
    (COMPLETIONS, {"prompt": "1 2 3 4 5 6 7 8 9 10 11 12"}),
    (COMPLETIONS, {"prompt": "a b c a b c a b c a b c a b c a b c"}),
)
TOKENS = 32
TOKENS_MIN = 24
"""Engines may be some tokens ahead of what a client has: shorter answers are over before their engine is killed."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, sample_model: Path) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    members = [{"deployment": "on-vllm"}, {"deployment": "on-llamacpp"}]
    with engine_pair(folder, VLLM, sample_model, names={NAME: {"split": members, "same_model": True}}) as it:
        yield it


async def test_a_stream_goes_on_at_the_other_engine(pair: Pair) -> None:
    """The engine that serves is killed with -9, llama.cpp after 3 and 9 tokens of two answers, vLLM after 5 of one: text,
    id, role, finish and usage are those of an undisturbed answer, which both engines give alike."""
    alike = await asyncio.to_thread(answers_alike, pair)
    sys.stdout.write(f"{len(alike)} of {len(REQUESTS)} answers are alike\n")
    assert alike, "the engines agree on no answer: none can be compared"
    vllm, llamacpp = pair.names
    # vLLM takes minutes to start: it is killed last, and once.
    kills = [(llamacpp, ask, after) for ask in alike[:2] for after in (3, 9)] + [(vllm, alike[0], 5)]
    for victim, ask, after in kills:
        own = await habits(pair, victim, ask)
        heard = await ask_at(pair, victim, ask, after)
        for habit in own:
            excuse(heard, habit)
        assert heard.faults == [], (victim, ask.path, after)
        sys.stdout.write(f"{victim} killed after {after} tokens of {ask.path}: unbroken\n")
        if victim == llamacpp:
            await asyncio.to_thread(until_back, pair, victim)


def answers_alike(pair: Pair) -> list[Ask]:
    """Requests to which both engines, undisturbed, say the same and count the same."""
    found = []
    for number, (path, request) in enumerate(REQUESTS):
        body = {"temperature": 0, "max_tokens": TOKENS, **request}
        url = str(pair.client.base_url).rstrip("/")
        answers = [undisturbed(url, path, {"model": name, **body}) for name in pair.names]
        if answers[0] == answers[1] and answers[0].completion_tokens >= TOKENS_MIN:
            streamed = {"model": NAME, "stream": True, "stream_options": {"include_usage": True}, **body}
            found.append(Ask(f"request-{number}", path, streamed, answers[0]))
        else:
            sys.stdout.write(f"{request}: {answers}\n")
    return found


async def habits(pair: Pair, name: str, ask: Ask) -> list[str]:
    """What in events' heads an engine's own, undisturbed streams don't keep the same: nothing of ours.

    Not all of vLLM's events have a fingerprint. llama.cpp says in each event in which second it was written; in a short
    answer that shows by chance only.
    """
    place = urlsplit(str(pair.client.base_url))
    alone = Ask(f"{ask.id}-alone", ask.path, {**ask.body, "model": name}, ask.expected)
    heard = await ask_strictly(str(place.hostname), int(place.port or 0), alone)
    found = [
        fault.partition(" values")[0].rstrip("0123456789") for fault in heard.faults if "' has " in fault
    ]
    return [*found, "'created' has"]


async def ask_at(pair: Pair, victim: str, ask: Ask, after: int) -> Heard:
    """Ask until it is this engine's turn; kill it as soon as so many events with text have come."""
    pid = (await asyncio.to_thread(pair.replica, victim))["pid"]
    place = urlsplit(str(pair.client.base_url))
    killed = False

    def on_event(heard: Heard) -> None:
        nonlocal killed
        if heard.replica == f"{victim}-0" and not killed:
            killed = sum(bool(text_of(raw)) for _, raw in heard.events) >= after
            if killed:
                os.kill(pid, signal.SIGKILL)

    for _ in range(3):  # they take turns
        heard = await ask_strictly(str(place.hostname), int(place.port or 0), ask, on_event)
        if killed:
            return heard
    raise AssertionError(f"{victim} never served it, or was too quick")


def until_back(pair: Pair, name: str) -> None:
    """Wait until Inferry has started the engine again."""
    wait_for(f"{name} is down", lambda: pair.replica(name)["state"] != "ready", 30)
    wait_for(f"{name} is back", lambda: pair.replica(name)["state"] == "ready", START_S)
