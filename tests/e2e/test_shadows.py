"""Copies of requests: never in the client's way, never on its bill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from inferry.core.filter_settings import Filter
from inferry.core.limits import Limits
from inferry.core.outcome import Ending, Outcome
from inferry.core.public_names import PublicName

from .gateway_harness import Seen, upstream
from .named_gateway import Named, answers, named_gateway, refuses

Start = Callable[..., Any]


@pytest.fixture
def start() -> Start:
    """The fast front; what becomes of a copy, no front has to do with."""
    return named_gateway


def shadowed(**shadow: Any) -> dict[str, Any]:
    return {"chat": {"split": [{"deployment": "v1"}], "shadow": [{"deployment": "new", **shadow}]}}


def of(named: Named, deployment: str) -> list[Outcome]:
    return [each for each in named.outcomes if each.deployment == deployment]


async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
    await seen.closed.wait()


@pytest.mark.parametrize("relay_in_protocol", [True, False])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_client_sees_its_own_answer_only(relay_in_protocol: bool, stream: bool) -> None:
    """Both engines compute the request, each under its own model's name; the shadow's words go nowhere. Over both
    fronts."""
    start = partial(named_gateway, relay_in_protocol=relay_in_protocol)
    async with (
        upstream(answers("one")) as one,
        upstream(answers("new")) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed()) as named,
    ):
        answer = await named.ask("chat", "x-request-id: r-1", stream=stream, seed=7)
        assert (answer.status, answer.by, b"one" in answer.body, b"new" in answer.body) == (
            200,
            "v1",
            True,
            False,
        )
        await named.outcome(2)
        [seen] = new.seen
        assert seen.header("x-request-id") == "r-1"
        sent = {"messages": [{"role": "user", "content": "hi"}], "stream": stream, "seed": 7}
        assert json.loads(seen.body) == {**sent, "model": "new-weights"}
        assert json.loads(one.seen[0].body) == {**sent, "model": "v1-weights"}


async def test_a_copy_is_on_nobodys_bill(start: Start) -> None:
    """Its outcome is whole, under the original's request id, as tenant `shadow` without a key; the caller's own
    outcome is what it would be without a shadow."""
    async with (
        upstream(answers("one")) as one,
        upstream(answers("new")) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed()) as named,
    ):
        await named.ask("chat", "x-request-id: r-1")
        await named.outcome(2)
        [mine], [copy] = of(named, "v1"), of(named, "new")
        assert (mine.tenant, mine.request_id, mine.prompt_tokens) == ("anonymous", "r-1", 3)
        assert (copy.tenant, copy.key_id, copy.request_id, copy.model) == ("shadow", None, "r-1", "chat")
        assert (copy.ending, copy.prompt_tokens, copy.completion_tokens) == (Ending.COMPLETED, 3, 2)
        assert copy.id != mine.id


async def test_percent_is_exact(start: Start) -> None:
    """Of 40 requests at 10 percent, four are copied."""
    async with (
        upstream(answers("one")) as one,
        upstream(answers("new")) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed(percent=10)) as named,
    ):
        for _ in range(40):
            await named.ask()
        await named.outcome(44)
        assert len(new.seen) == 4


@pytest.mark.parametrize("behaviour", [silent, refuses(b"500 Oops"), refuses(b"400 Bad Request")])
async def test_a_shadow_that_hangs_or_fails_is_not_noticed(start: Start, behaviour: Any) -> None:
    """Requests are answered as fast and as well as without it, and their counts hold nothing of it."""
    async with (
        upstream(answers("one")) as one,
        upstream(behaviour) as new,
        start(
            {"v1": [one.port], "new": [new.port]}, shadowed(concurrent_max=100), first_byte_timeout_s=1
        ) as named,
    ):
        for _ in range(5):
            answer = await named.ask()
            assert (answer.status, answer.text) == (200, "one")
        await named.outcome(10)
        assert {each.ending for each in of(named, "v1")} == {Ending.COMPLETED}
        assert Ending.COMPLETED not in {each.ending for each in of(named, "new")}
        metrics = named.gateway.metrics
        assert sum(metrics.duration["v1", "/v1/chat/completions"].counts) == 5
        assert metrics.named == {("chat", "v1"): 5}


async def test_copies_are_bounded(start: Start) -> None:
    """Two are under way: no third one is sent, and what is left out is counted; when they are over, there is room."""
    release = asyncio.Event()

    async def later(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answers("new")(seen, writer)

    async with (
        upstream(answers("one")) as one,
        upstream(later) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed(concurrent_max=2)) as named,
    ):
        for _ in range(5):
            assert (await named.ask()).status == 200
        assert named.gateway.metrics.shadows_left_out == {"new": 3}
        release.set()
        await named.outcome(7)
        assert len(new.seen) == 2
        assert (await named.ask()).status == 200
        await named.outcome(9)
        assert len(new.seen) == 3


async def test_a_shadow_without_replicas_costs_an_outcome(start: Start) -> None:
    """It fails by itself, where one can see it."""
    async with upstream(answers("one")) as one, start({"v1": [one.port], "new": []}, shadowed()) as named:
        assert (await named.ask()).text == "one"
        await named.outcome(2)
        assert of(named, "new")[0].error_code == "no_ready_replica"


async def test_what_is_refused_is_not_copied(start: Start) -> None:
    """A request over a limit goes nowhere, so neither does a copy of it."""
    specs = {"v1": {"limits": Limits(requests_per_minute=1)}}
    async with (
        upstream(answers("one")) as one,
        upstream(answers("new")) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed(), specs=specs) as named,
    ):
        assert (await named.ask()).status == 200
        assert (await named.ask()).status == 429
        await named.outcome(3)
        assert len(new.seen) == 1


async def test_a_copy_holds_what_filters_left(start: Start) -> None:
    """Masked texts are masked in the copy, whatever filters the shadow has itself."""
    mask = Filter.model_validate(
        {"name": "names", "on": "input", "action": "mask", "terms": ["secret"], "mask_with": "[X]"}
    )
    specs = {"v1": {"filters": (mask,)}}
    async with (
        upstream(answers("one")) as one,
        upstream(answers("new")) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed(), specs=specs) as named,
    ):
        await named.ask(messages=[{"role": "user", "content": "my secret"}])
        await named.outcome(2)
        assert json.loads(new.seen[0].body)["messages"][0]["content"] == "my [X]"


async def test_a_copy_goes_on_when_the_client_has_left(start: Start) -> None:
    """What is tried out is the engine, not the client's patience."""
    release = asyncio.Event()

    async def later(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answers("new")(seen, writer)

    async with (
        upstream(silent) as one,
        upstream(later) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed()) as named,
    ):
        asking = asyncio.create_task(named.ask())
        async with asyncio.timeout(5):
            while not new.seen:
                await asyncio.sleep(0.005)
        asking.cancel()
        await named.outcome(1)
        release.set()
        await named.outcome(2)
        assert of(named, "v1")[0].ending is Ending.CANCELLED
        assert of(named, "new")[0].ending is Ending.COMPLETED


async def test_several_shadows_get_a_copy_each(start: Start) -> None:
    """Two candidates can be compared on the same requests."""
    async with upstream(answers("one")) as one, upstream(answers("a")) as a, upstream(answers("b")) as b:
        names = {
            "chat": {"split": [{"deployment": "v1"}], "shadow": [{"deployment": "a"}, {"deployment": "b"}]}
        }
        async with start({"v1": [one.port], "a": [a.port], "b": [b.port]}, names) as named:
            assert (await named.ask()).text == "one"
            await named.outcome(3)
            assert (len(a.seen), len(b.seen)) == (1, 1)


async def test_a_fault_of_ours_in_a_copy_stays_there(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the gateway's own code fails for a copy, the client is answered, and the copy's place is free again."""
    async with (
        upstream(answers("one")) as one,
        upstream(answers("new")) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed(concurrent_max=1)) as named,
    ):
        shadow = named.gateway.deployments["new"].estimates

        class Broken:
            def prompt_tokens(self, body_bytes: int) -> int:
                raise RuntimeError("a fault")

        monkeypatch.setattr(named.gateway.deployments["new"], "estimates", Broken())
        assert (await named.ask()).text == "one"
        await named.outcome(2)
        assert of(named, "new")[0].error_code == "internal_error"
        monkeypatch.setattr(named.gateway.deployments["new"], "estimates", shadow)
        assert (await named.ask()).text == "one"
        await named.outcome(4)
        assert len(new.seen) == 1


async def test_a_copy_that_can_not_begin_gives_its_place_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault before there is anything that could end: the client is answered, and the next request is copied."""

    def broken(lines: bytes) -> None:
        raise RuntimeError("a fault")

    async with (
        upstream(answers("one")) as one,
        upstream(answers("new")) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed(concurrent_max=1)) as named,
    ):
        with monkeypatch.context() as patched:
            patched.setattr("inferry.gateway.shadow._headers", broken)
            assert (await named.ask()).text == "one"
        assert (await named.ask()).text == "one"
        assert named.gateway.metrics.shadows_left_out == {}
        await named.outcome(3)
        assert len(new.seen) == 1


async def test_copies_stay_counted_when_the_file_changes(start: Start) -> None:
    """One that began before takes one of the places that the new file gives, until it is over."""
    release = asyncio.Event()

    async def later(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answers("new")(seen, writer)

    async with (
        upstream(answers("one")) as one,
        upstream(later) as new,
        start({"v1": [one.port], "new": [new.port]}, shadowed(concurrent_max=4)) as named,
    ):
        assert (await named.ask()).status == 200
        changed = shadowed(concurrent_max=2)["chat"]
        named.rename({"chat": PublicName.model_validate(changed)})
        for _ in range(3):
            assert (await named.ask()).status == 200
        assert named.gateway.metrics.shadows_left_out == {"new": 2}
        release.set()
        await named.outcome(6)
        [target] = named.gateway.public_names.splits["chat"].shadows
        assert target.under_way == 0
