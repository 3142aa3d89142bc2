"""One model, served by vLLM and by llama.cpp: a stream that loses the one goes on at the other.

Both are real, on the CPU. They are replicas of one deployment to a gateway in this process.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from inferry.core.replica import Endpoint
from tests.e2e.engine_pair import START_S, VLLM, Pair, engine_pair
from tests.e2e.inferry_process import wait_for

from .expected_answers import CHAT, COMPLETIONS
from .real_answers import text_of, undisturbed
from .small_stand import SmallStand, gateway_over, view_of
from .strict_client import Ask, Heard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the recipes are for Linux x86-64",
    ),
]

TOKENS = 16
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, {"messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}]}),
    (CHAT, {"messages": [{"role": "user", "content": "Count from one to ten in words."}]}),
    (COMPLETIONS, {"prompt": "1 2 3 4 5 6 7 8 9 10 11 12"}),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, sample_model: Path) -> Iterator[Pair]:
    with engine_pair(tmp_path_factory.mktemp("pair"), VLLM, sample_model) as running:
        yield running


async def test_a_stream_goes_on_at_another_engine(pair: Pair) -> None:
    """The engine that serves is killed after 3, 7 or 11 tokens, once vLLM and often llama.cpp: text, id, role, finish and
    usage are those of an undisturbed answer, which both engines give alike."""
    alike = await asyncio.to_thread(answers_alike, pair)
    assert len(alike) >= 2, "the engines agree on too few answers to compare any"
    vllm, llamacpp = pair.names
    endpoints = [endpoint_of(pair, name) for name in pair.names]
    heard: list[Heard] = []
    # vLLM takes minutes to start: it is killed last, and once.
    kills = [(llamacpp, ask, after) for ask in alike for after in (3, 7, 11)] + [(vllm, alike[0], 5)]
    async with gateway_over("vllm", vllm, endpoints) as stand:
        for victim, ask, after in kills:
            one, [outcome] = await ask_at(stand, pair, victim, ask, after)
            heard.append(one)
            assert outcome.resumes == 1
            if victim == llamacpp:
                back = await asyncio.to_thread(until_back, pair, victim)
                stand.gateway.apply(view_of("vllm", 1, back, restarts=len(heard)))
    for one in heard:  # llama.cpp says in each event when it was written
        one.faults = [fault for fault in one.faults if "values of 'created'" not in fault]
    assert {f"{each.ask.id} from {each.replica}": each.faults for each in heard if each.faults} == {}


def answers_alike(pair: Pair) -> list[Ask]:
    """Requests to which both engines, undisturbed, say the same and count the same."""
    found = []
    for number, (path, request) in enumerate(REQUESTS):
        body = {"temperature": 0, "max_tokens": TOKENS, **request}
        answers = [
            undisturbed(str(pair.client.base_url), path, {"model": name, **body}) for name in pair.names
        ]
        if answers[0] == answers[1]:
            streamed = {"model": "chat", "stream": True, "stream_options": {"include_usage": True}, **body}
            found.append(Ask(f"request-{number}", path, streamed, answers[0]))
    return found


async def ask_at(stand: SmallStand, pair: Pair, victim: str, ask: Ask, after: int) -> tuple[Heard, list[Any]]:
    """Ask until it is this engine's turn; kill it as soon as so many events with text have come."""
    number = pair.names.index(victim)
    killed = False

    def on_event(heard: Heard) -> None:
        nonlocal killed
        if heard.replica != f"chat-{number}" or killed:
            return
        if sum(bool(text_of(raw)) for _, raw in heard.events) == after:
            os.kill(pair.replica(victim)["pid"], signal.SIGKILL)
            killed = True

    while True:
        heard, outcomes = await stand.ask(ask, on_event)
        if killed:
            return heard, outcomes
        assert heard.replica != f"chat-{number}", f"the answer was over before {victim} could be killed"


def endpoint_of(pair: Pair, name: str) -> Endpoint:
    replica = pair.replica(name)
    environ = Path(f"/proc/{replica['pid']}/environ").read_bytes().decode().split("\0")
    names = ("VLLM_API_KEY=", "INFERRY_ENGINE_KEY=")
    key = next((line.partition("=")[2] for line in environ if line.startswith(names)), "none")
    place = urlsplit(replica["url"])
    return Endpoint(str(place.hostname), int(place.port or 0), headers=(("Authorization", f"Bearer {key}"),))


def until_back(pair: Pair, name: str) -> Endpoint:
    """Wait until Inferry has started the engine again; where it listens now."""
    wait_for(f"{name} is down", lambda: pair.replica(name)["state"] != "ready", 30)
    wait_for(f"{name} is back", lambda: pair.replica(name)["state"] == "ready", START_S)
    return endpoint_of(pair, name)
