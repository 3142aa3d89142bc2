"""Streams whose replica fails after they have begun, over both fronts: the client sees one unbroken stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any

import pytest

from inferry.core.failover_settings import Failover
from inferry.core.filter_settings import Filter
from inferry.core.outcome import Ending, UsageFrom
from inferry.core.public_names import PublicName, Share
from inferry.core.replica import ReplicaState
from inferry.core.request import ROUTES
from inferry.core.routing_settings import Routing
from inferry.engines.continuation import continuation_of
from inferry.gateway.served import ServedSpec

from .gateway_harness import Running, post, raw, running_gateway, split_response, upstream, view
from .resuming_engine import PROMPT_TOKENS, WORDS, Engine

Start = Callable[..., AbstractAsyncContextManager[Running]]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TEXT = "".join(WORDS)
TOKENS = len(WORDS) + 1
"""With the sign that ends it."""
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Where?"}]},
    COMPLETIONS: {"prompt": "Where?"},
}


@pytest.fixture(params=["protocol", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """A gateway before replicas that are like vLLM, by either front."""
    return partial(
        running_gateway,
        relay_in_protocol=request.param == "protocol",
        engine="vllm",
        reason_needed=True,
        asks_usage=True,
    )


async def ask(running: Running, path: str, **more: Any) -> list[dict[str, Any] | str]:
    """The events of a stream; each JSON, but for [DONE]."""
    body = {"model": "chat", "stream": True, **BODIES[path], **more}
    status, _, answer = split_response(await raw(running.port, post(path, json.dumps(body).encode())))
    assert status == 200, answer
    *events, rest = answer.split(b"\n\n")
    assert rest == b""
    texts = [each.removeprefix(b"data: ") for each in events]
    return ["[DONE]" if text == b"[DONE]" else json.loads(text) for text in texts]


def said(events: list[dict[str, Any] | str]) -> str:
    found = []
    for each in events:
        for choice in each["choices"] if isinstance(each, dict) and "choices" in each else ():
            found.append(choice["text"] if "text" in choice else choice["delta"].get("content") or "")
    return "".join(found)


def assert_unbroken(events: list[dict[str, Any] | str], name: str = "first", with_usage: bool = True) -> None:
    """One id, one role, the text, one reason, one usage, one [DONE]."""
    assert events[-1] == "[DONE]"
    chunks = [each for each in events if isinstance(each, dict)]
    assert len(chunks) == len(events) - 1
    assert {each["id"] for each in chunks} == {f"id-of-{name}"}
    assert {each["model"] for each in chunks} == {name}
    assert said(events) == TEXT
    choices = [choice for each in chunks for choice in each["choices"]]
    assert [each["finish_reason"] for each in choices if each["finish_reason"]] == ["stop"]
    assert choices[-1]["finish_reason"] == "stop"
    roles = [each for each in choices if each.get("delta", {}).get("role")]
    assert len(roles) == ("delta" in choices[0])
    usages = [each["usage"] for each in chunks if each.get("usage")]
    wanted = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": TOKENS,
        "total_tokens": PROMPT_TOKENS + TOKENS,
    }
    assert usages == [wanted] * with_usage


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("cut", range(1, len(WORDS) + 2))
async def test_killed_after_each_token(start: Start, path: str, cut: int) -> None:
    """Wherever the engine dies, behind the last word and behind the reason too: the stream is one, and so is its bill."""
    first, second = Engine("first", dies_after=cut), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        events = await ask(running, path, temperature=0, stream_options={"include_usage": True})
        assert_unbroken(events)
        outcome = await running.outcome()
        assert (outcome.ending, outcome.resumes, outcome.attempts) == (Ending.COMPLETED, 1, 2)
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (PROMPT_TOKENS, TOKENS)
        assert (outcome.usage_from, outcome.replica_id) == (UsageFrom.ENGINE, "chat-1")
        assert [failed for failed, _ in running.failures] == ["chat-0"]
        way = "count" if cut > len(WORDS) else "text"
        assert running.gateway.metrics.resumes == {("chat", "engine_broke", way): 1}


@pytest.mark.parametrize("how", ["close", "frame", "abort", "unfinished"])
async def test_every_kind_of_failure(start: Start, how: str) -> None:
    """A connection closed inside an event, an error frame behind a word, a reason that says abort, an end without a
    reason: nothing of it reaches the client, and no word is lost."""
    first, second = Engine("first", dies_after=3, how=how), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        events = await ask(running, CHAT, temperature=0)
        assert_unbroken(events, with_usage=False)
        outcome = await running.outcome()
        assert (outcome.ending, outcome.resumes) == (Ending.COMPLETED, 1)
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (PROMPT_TOKENS, TOKENS)
        assert outcome.finish_reason == "stop"


async def test_one_after_the_other(start: Start) -> None:
    """Two replicas die after two words of their own; the third one ends it."""
    engines = [Engine("first", 2), Engine("second", 2), Engine("third")]
    async with (
        upstream(engines[0].handler) as one,
        upstream(engines[1].handler) as two,
        upstream(engines[2].handler) as three,
        start([each.port for each in (one, two, three)]) as running,
    ):
        events = await ask(running, CHAT, max_tokens=100, stream_options={"include_usage": True})
        assert_unbroken(events)
        assert [each.bodies[0]["max_tokens"] for each in engines] == [100, 98, 96]
        outcome = await running.outcome()
        assert (outcome.resumes, outcome.attempts) == (2, 3)


def die_of_failures(running: Running, ports: list[int]) -> None:
    """Each failure is the end of an engine, and the fleet says so."""

    def on_failure(replica_id: str, reason: str) -> None:
        index = int(replica_id.rpartition("-")[2])
        running.gateway.apply(view(ports[index], index, state=ReplicaState.FAILED))

    running.gateway.watch._tell_failure = on_failure


async def test_a_request_that_kills_engines_does_not_kill_all(start: Start) -> None:
    """Four engines in a row die one token after they got it: the fifth is spared."""
    engines = [Engine(str(index), 1) for index in range(6)]
    async with AsyncExitStack() as stack:
        ports = [(await stack.enter_async_context(upstream(each.handler))).port for each in engines]
        running = await stack.enter_async_context(start(ports))
        die_of_failures(running, ports)
        body = json.dumps({"model": "chat", "stream": True, **BODIES[CHAT]}).encode()
        answer = await raw(running.port, post(CHAT, body))
        assert b"engines end as soon as they have this request" in answer
        assert sum(len(each.bodies) for each in engines) == 4


async def test_no_more_than_the_file_allows(start: Start) -> None:
    """After failover.resumes_max, the stream ends with an error that says so."""
    engines = [Engine(str(index), 1) for index in range(3)]
    async with (
        upstream(engines[0].handler) as one,
        upstream(engines[1].handler) as two,
        upstream(engines[2].handler) as three,
        start([each.port for each in (one, two, three)], failover=Failover(resumes_max=1)) as running,
    ):
        events = await ask(running, CHAT)
        assert isinstance(events[-1], dict)
        assert "failover.resumes_max" in events[-1]["error"]["message"]
        assert said(events[:-1]) == "The tower"
        assert (await running.outcome()).ending is Ending.FAILED


async def test_switched_off(start: Start) -> None:
    """`failover: resume: false`: the stream ends with an error, as streams do elsewhere."""
    first, second = Engine("first", 2), Engine("second")
    off = Failover(resume=False)
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port], failover=off) as running,
    ):
        events = await ask(running, CHAT)
        assert isinstance(events[-1], dict)
        assert "failover.resume is off" in events[-1]["error"]["message"]
        assert second.bodies == []


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


async def test_what_must_not_be_continued_is_replayed(start: Start) -> None:
    """With tools, at temperature 0: the next replica is asked the same, and what the client has is passed over."""
    first, second = Engine("first", 3), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        wanted = {"temperature": 0, "tools": TOOLS, "stream_options": {"include_usage": True}}
        assert_unbroken(await ask(running, CHAT, **wanted))
        assert first.bodies == second.bodies
        assert running.gateway.metrics.resumes == {("chat", "engine_broke", "replay"): 1}


async def test_a_replay_that_says_something_else_is_an_error(start: Start) -> None:
    """What the client has can't be unsaid: the stream ends with an error that tells why."""
    first, second = Engine("first", 3), Engine("second", words=("The", " tower", " was", " sold"))
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        events = await ask(running, CHAT, temperature=0, tools=TOOLS)
        assert said(events[:-1]) == "The tower stands"
        assert isinstance(events[-1], dict)
        assert "said something else" in events[-1]["error"]["message"]
        assert (await running.outcome()).ending is Ending.FAILED


async def test_a_random_answer_is_not_replayed(start: Start) -> None:
    """With tools and without a seed it would come out another way: an error at once, which names both reasons."""
    first, second = Engine("first", 3), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        events = await ask(running, CHAT, tools=TOOLS)
        assert isinstance(events[-1], dict)
        assert "a tool call may be under way, and its answer is random" in events[-1]["error"]["message"]
        assert second.bodies == []
        assert running.gateway.metrics.not_resumed == {("chat", "engine_broke"): 1}


async def test_nothing_said_yet_is_asked_anew(start: Start) -> None:
    """The client has the role and no word: the next replica may answer as it likes, with tools as well."""
    first, second = Engine("first", 0), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        assert_unbroken(await ask(running, CHAT, tools=TOOLS), with_usage=False)


async def test_an_engine_that_takes_no_partial_answers(start: Start) -> None:
    """It says 400 to one, and is asked the same again instead: the stream is unbroken."""
    first, second = Engine("first", 3), Engine("second", refuses_partial=True)
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        assert_unbroken(await ask(running, CHAT, temperature=0), with_usage=False)
        assert len(second.bodies) == 2
        assert (await running.outcome()).resumes == 2


async def test_handed_over(start: Start) -> None:
    """A replica that must go gives its streams to another one; the connection to it is closed."""
    first, second = Engine("first", 3, how="hang"), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        asking = asyncio.create_task(ask(running, CHAT))
        await first.hangs.wait()
        running.gateway.hand_over("chat-0", "it drains")
        assert_unbroken(await asking, with_usage=False)
        async with asyncio.timeout(5):
            await one.seen[0].closed.wait()
        assert running.failures == []


async def test_handed_over_only_where_there_is_another(start: Start) -> None:
    """Alone, a replica keeps its streams."""
    first = Engine("first", 3, how="hang")
    async with upstream(first.handler) as one, start([one.port]) as running:
        asking = asyncio.create_task(ask(running, CHAT))
        await first.hangs.wait()
        running.gateway.hand_over("chat-0", "it drains")
        await asyncio.sleep(0.05)
        assert not one.seen[0].closed.is_set()
        first.dies_after = None
        asking.cancel()


async def test_a_stalled_stream_goes_on_elsewhere(start: Start) -> None:
    """Silent for longer than failover.stall_after_s and its own pace allow: another replica goes on."""
    first, second = Engine("first", 3, how="hang"), Engine("second")
    soon = Failover(stall_after_s=0.3, stall_factor=1)
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port], failover=soon) as running,
    ):
        assert_unbroken(await ask(running, CHAT), with_usage=False)
        assert running.failures == []  # a pause is none: the replica may be busy with one long prompt
        assert running.gateway.metrics.resumes == {("chat", "engine_timeout", "text"): 1}


@pytest.mark.parametrize("cut", [0, 3])
async def test_the_only_replica_is_waited_for(start: Start, cut: int) -> None:
    """A single replica dies, before or in the middle of an answer, and is started again: the request waits for it."""
    first, again = Engine("first", cut), Engine("again")
    async with upstream(first.handler) as one, upstream(again.handler) as two, start([one.port]) as running:
        asking = asyncio.create_task(ask(running, CHAT))
        async with asyncio.timeout(5):
            while not running.failures:
                await asyncio.sleep(0.01)
        running.gateway.apply(view(one.port, state=ReplicaState.STARTING))
        await asyncio.sleep(0.05)
        assert not asking.done()
        running.gateway.apply(view(two.port))
        assert_unbroken(await asking, with_usage=False)


@pytest.mark.slow
async def test_not_waited_for_in_vain(start: Start) -> None:
    """When the only replica has been given up, its stream ends with an error soon."""
    first = Engine("first", 3)
    async with upstream(first.handler) as one, start([one.port]) as running:
        asking = asyncio.create_task(ask(running, CHAT))
        async with asyncio.timeout(5):
            while not running.failures:
                await asyncio.sleep(0.01)
        running.gateway.apply(view(one.port, state=ReplicaState.FAILED))
        async with asyncio.timeout(8):
            events = await asking
        assert isinstance(events[-1], dict)
        assert events[-1]["error"]["code"] == "no_ready_replica"


async def test_a_long_stream_is_kept_in_few_bytes(start: Start) -> None:
    """Beyond what is kept of the events themselves, their texts are enough to go on from."""
    words = tuple(f" word{number}" for number in range(1200))
    first, second = Engine("first", 1100, words=words), Engine("second", words=words)
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        events = await ask(running, CHAT, stream_options={"include_usage": True})
        assert said(events) == "".join(words)
        assert second.bodies[0]["messages"][-1]["content"] == "".join(words[:1100])
        outcome = await running.outcome()
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (PROMPT_TOKENS, len(words) + 1)


async def test_another_engine_with_the_same_model_goes_on(start: Start) -> None:
    """Two deployments of one name serve the same weights on different engines: where the first has no other replica,
    the second goes on, in its own words for model and continuation. The bill is the first one's."""
    first, second = Engine("first", 3), Engine("second", style="trailing")
    spec = ServedSpec(
        "other", (), "llamacpp", False, "their-name", frozenset(ROUTES), True, Routing(),
        continuation=continuation_of("llamacpp"),
    )  # fmt: skip
    both = PublicName(split=[Share(deployment="chat")], fallbacks=["other"], same_model=True)
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port], more=[spec], names={"both": both}) as running,
    ):
        running.gateway.apply(view(two.port, deployment="other"))
        events = await ask(running, CHAT, model="both", stream_options={"include_usage": True})
        assert_unbroken(events)
        assert second.bodies[0]["model"] == "their-name"
        assert "continue_final_message" not in second.bodies[0]
        outcome = await running.outcome()
        assert (outcome.deployment, outcome.replica_id, outcome.resumes) == ("chat", "other-0", 1)


async def test_another_model_does_not_go_on(start: Start) -> None:
    """Fallbacks that do not serve the same model take requests, but no half answers."""
    first, second = Engine("first", 3), Engine("second")
    spec = ServedSpec("other", (), "vllm", False, "other", frozenset(ROUTES), True, Routing())
    both = PublicName(split=[Share(deployment="chat")], fallbacks=["other"])
    no_wait = Failover(wait_max_s=0)
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port], more=[spec], names={"both": both}, failover=no_wait) as running,
    ):
        running.gateway.apply(view(two.port, deployment="other"))
        events = await ask(running, CHAT, model="both")
        assert isinstance(events[-1], dict)
        assert "error" in events[-1]
        assert second.bodies == []


async def test_filters_see_one_stream(start: Start) -> None:
    """A term that one replica began and another one ended is found: filters go on over the seam."""
    rule = Filter(name="no-paris", terms=["tower stands in"], mask_with="[x]", action="mask", on="output")
    first, second = Engine("first", 3), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port], filters=[rule]) as running,
    ):
        events = await ask(running, CHAT)
        assert "tower" not in said(events)
        assert said(events).endswith(" Paris, France.")
        assert (await running.outcome()).resumes == 1


async def test_an_event_that_is_no_json_is_a_failure(start: Start) -> None:
    """A broken event never reaches the client: another replica goes on behind the one before."""
    first, second = Engine("first", 3, how="bad_event"), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        assert_unbroken(await ask(running, CHAT), with_usage=False)
        assert running.gateway.metrics.resumes == {("chat", "engine_broke", "text"): 1}


async def test_only_the_last_word_is_missing(start: Start) -> None:
    """The engine dies between its usage and [DONE]: nobody else is asked, and the stream ends as it should."""
    first, second = Engine("first", how="no_done"), Engine("second")
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port]) as running,
    ):
        assert_unbroken(await ask(running, CHAT, stream_options={"include_usage": True}))
        assert second.bodies == []
        outcome = await running.outcome()
        assert (outcome.ending, outcome.resumes) == (Ending.COMPLETED, 0)
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (PROMPT_TOKENS, TOKENS)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_from_the_very_tokens(start: Start, path: str) -> None:
    """With failover.token_ids, the next replica gets the ids of the prompt and of the answer so far, and the counts are
    exact although two tokens came in one event; the client sees nothing of it."""
    first, second = Engine("first", 6, joins=True), Engine("second", joins=True)
    ids = Failover(token_ids=True)
    async with (
        upstream(first.handler) as one,
        upstream(second.handler) as two,
        start([one.port, two.port], failover=ids) as running,
    ):
        events = await ask(running, path, max_tokens=50, stream_options={"include_usage": True})
        assert_unbroken(events)
        assert "token_ids" not in json.dumps(events)
        assert first.bodies[0]["return_token_ids"] is True
        body = second.bodies[0]
        assert body["prompt"] == [*range(PROMPT_TOKENS), *range(1000, 1006)]
        assert body["max_tokens"] == 44
        assert two.seen[0].path == COMPLETIONS
        assert running.gateway.metrics.resumes == {("chat", "engine_broke", "token_ids"): 1}
