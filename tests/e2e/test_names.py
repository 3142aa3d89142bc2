"""Names over several deployments, over both fronts: shares, sticky callers, fallbacks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
import pytest

from inferry.core.api_key import ANONYMOUS, Caller
from inferry.core.errors import EngineUnreachable
from inferry.core.gateway_settings import Queue
from inferry.core.limits import Limits
from inferry.core.outcome import Ending
from inferry.core.public_names import PublicName
from inferry.core.request import CHAT, COMPLETIONS
from inferry.gateway.server import bind_sockets

from .gateway_harness import SSE_HEAD, Seen, chunk, upstream
from .named_gateway import Named, answers, named_gateway, refuses

Start = Callable[..., Any]


@pytest.fixture(params=["protocol", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """Each test runs over the fast front and over the slow one."""
    return partial(named_gateway, relay_in_protocol=request.param == "protocol")


@pytest.fixture
def nobody() -> int:
    """A port where nobody listens."""
    [listener] = bind_sockets("127.0.0.1", 0)
    with listener:
        return int(listener.getsockname()[1])


def split(*weights: tuple[str, int], **more: Any) -> dict[str, Any]:
    return {"split": [{"deployment": name, "weight": weight} for name, weight in weights], **more}


async def ask_all(named: Named, count: int, *headers: str, **body: Any) -> Counter[str | None]:
    found: Counter[str | None] = Counter()
    for _ in range(count):
        answer = await named.ask("chat", *headers, **body)
        assert answer.status == 200, answer.body
        found[answer.by] += 1
    return found


# --- shares -------------------------------------------------------------------------------------------


async def test_requests_are_split_in_exact_shares(start: Start) -> None:
    """Of each ten requests, one goes to the canary; its engine gets its own model's name, and the outcome says both."""
    async with upstream(answers("one")) as one, upstream(answers("two")) as two:
        ports = {"v1": [one.port], "v2": [two.port]}
        async with start(ports, {"chat": split(("v1", 90), ("v2", 10))}) as named:
            for _ in range(3):
                assert await ask_all(named, 10) == {"v1": 9, "v2": 1}
            assert b'"model":"v2-weights"' in two.seen[0].body
            outcome = await named.outcome(30)
            assert {(each.model, each.deployment) for each in named.outcomes} == {
                ("chat", "v1"),
                ("chat", "v2"),
            }
            assert (outcome.ending, outcome.attempts) == (Ending.COMPLETED, 1)
            assert named.gateway.metrics.named == {("chat", "v1"): 27, ("chat", "v2"): 3}
            requests = named.gateway.metrics.requests
            assert requests["v2", "/v1/chat/completions", Ending.COMPLETED, 200] == 3


async def test_deployments_keep_their_own_names(start: Start) -> None:
    """Whoever asks for a deployment itself gets that one, without taking anybody's turn, and no header of a split."""
    async with upstream(answers("one")) as one, upstream(answers("two")) as two:
        ports = {"v1": [one.port], "v2": [two.port]}
        async with start(ports, {"chat": split(("v1", 1), ("v2", 1))}) as named:
            for _ in range(3):
                answer = await named.ask("v2")
                assert (answer.text, answer.by) == ("two", None)
            assert await ask_all(named, 2) == {"v1": 1, "v2": 1}


async def test_routes_that_one_engine_lacks_go_to_the_others(start: Start) -> None:
    """A split over unlike engines answers each route that one of them has, and refuses the rest by name."""
    async with upstream(answers("one")) as one, upstream(answers("two")) as two:
        ports = {"v1": [one.port], "v2": [two.port]}
        specs = {
            "v1": {"routes": frozenset({CHAT.path})},
            "v2": {"routes": frozenset({COMPLETIONS.path, CHAT.path})},
        }
        async with start(ports, {"chat": split(("v1", 9), ("v2", 1))}, specs=specs) as named:
            done = await named.ask(path="/v1/completions", prompt="x")
            assert (done.status, done.by) == (200, "v2")
            refused = await named.ask(path="/v1/responses", input="x")
            assert (refused.status, refused.error) == (404, "unsupported_route")


async def test_models_lists_the_names(start: Start) -> None:
    """Clients find the name where they look for models; the deployments are there as before."""
    async with (
        start({"v1": [], "v2": []}, {"chat": split(("v1", 1))}) as named,
        httpx.AsyncClient() as client,
    ):
        url = f"http://127.0.0.1:{named.server.port}"
        listed = (await client.get(f"{url}/v1/models")).json()["data"]
        assert [each["id"] for each in listed] == ["chat", "v1", "v2"]
        assert (await client.get(f"{url}/v1/models/chat")).json()["id"] == "chat"
        tags = (await client.get(f"{url}/api/tags")).json()["models"]
        assert [each["name"] for each in tags] == ["chat", "v1", "v2"]


# --- sticky callers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sticky", "asks"),
    [
        ("header:X-Session", lambda who: (["X-SESSION: " + who], {})),
        ("user", lambda who: ([], {"user": who})),
        ("user", lambda who: ([], {"safety_identifier": who})),
        ("user", lambda who: ([], {"metadata": {"user_id": who}})),
    ],
    ids=["header", "user", "safety_identifier", "user_id"],
)
async def test_a_caller_stays_with_its_deployment(
    start: Start, sticky: str, asks: Callable[[str], tuple[list[str], dict[str, Any]]]
) -> None:
    """One caller, one deployment; over many callers, both are in use."""
    async with upstream(answers("one")) as one, upstream(answers("two")) as two:
        ports = {"v1": [one.port], "v2": [two.port]}
        async with start(ports, {"chat": split(("v1", 1), ("v2", 1), sticky=sticky)}) as named:
            seen = set()
            for who in ("anna", "ben", "cleo", "dora", "emil", "finn"):
                headers, body = asks(who)
                [(deployment, count)] = (await ask_all(named, 3, *headers, **body)).items()
                assert count == 3
                seen.add(deployment)
            assert seen == {"v1", "v2"}


@pytest.mark.parametrize("sticky", ["header:x-session", "user", "key"])
async def test_who_has_no_mark_goes_by_shares(start: Start, sticky: str) -> None:
    """Without the header, the user or a key, requests are split as if nothing were sticky."""
    async with upstream(answers("one")) as one, upstream(answers("two")) as two:
        ports = {"v1": [one.port], "v2": [two.port]}
        async with start(ports, {"chat": split(("v1", 1), ("v2", 1), sticky=sticky)}) as named:
            assert await ask_all(named, 4, user=7) == {"v1": 2, "v2": 2}


# --- fallbacks ----------------------------------------------------------------------------------------


@pytest.fixture
async def small() -> AsyncIterator[int]:
    """The port of the fallback's replica."""
    async with upstream(answers("small")) as each:
        yield each.port


@pytest.mark.parametrize("stream", [False, True])
async def test_without_a_replica_the_fallback_answers(start: Start, small: int, stream: bool) -> None:
    """The client gets an answer and is told whose; one outcome, of the deployment that gave it."""
    async with start(
        {"big": [], "small": [small]}, {"chat": split(("big", 1), fallbacks=["small"])}
    ) as named:
        answer = await named.ask(stream=stream)
        assert (answer.status, answer.by) == (200, "small")
        assert answer.headers["x-inferry-fallback"] == "big (no_ready_replica)"
        assert b"small" in answer.body
        outcome = await named.outcome()
        assert (outcome.model, outcome.deployment, outcome.attempts) == ("chat", "small", 1)
        assert (outcome.ending, outcome.error_code, outcome.prompt_tokens) == (Ending.COMPLETED, None, 3)
        assert named.gateway.metrics.fallbacks == {("chat", "big", "small"): 1}


async def test_replicas_that_fail_are_attempts(start: Start, small: int, nobody: int) -> None:
    """All replicas of the first deployment fail, then the fallback answers: every attempt is counted."""
    ports = {"big": [nobody, nobody], "small": [small]}
    async with start(ports, {"chat": split(("big", 1), fallbacks=["small"])}) as named:
        answer = await named.ask()
        assert (answer.text, answer.headers["x-inferry-fallback"]) == ("small", "big (engine_unreachable)")
        outcome = await named.outcome()
        assert (outcome.attempts, outcome.replica_id) == (3, "small-0")


@pytest.mark.parametrize("status", [b"500 Oops", b"502 Bad Gateway", b"503 Busy"])
async def test_an_engines_own_error_goes_to_the_fallback(start: Start, small: int, status: bytes) -> None:
    """An engine that answers, but with its own failure, has not answered."""
    async with upstream(refuses(status)) as big:
        ports = {"big": [big.port], "small": [small]}
        async with start(ports, {"chat": split(("big", 1), fallbacks=["small"])}) as named:
            answer = await named.ask()
            assert (answer.text, answer.headers["x-inferry-fallback"]) == ("small", "big (engine_broke)")
            assert (await named.outcome()).status == 200


async def test_a_silent_engine_goes_to_the_fallback(start: Start, small: int) -> None:
    """Nothing within first_byte_timeout_s: the next deployment has the request, and the engine is told to stop."""

    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await seen.closed.wait()

    async with upstream(silent) as big:
        ports = {"big": [big.port], "small": [small]}
        names = {"chat": split(("big", 1), fallbacks=["small"])}
        async with start(ports, names, first_byte_timeout_s=1) as named:
            answer = await named.ask()
            assert (answer.text, answer.headers["x-inferry-fallback"]) == ("small", "big (engine_timeout)")
            async with asyncio.timeout(5):
                await big.seen[0].closed.wait()


async def test_a_hung_engine_goes_to_the_fallback(start: Start, small: int) -> None:
    """As soon as health says that the only replica hangs, and not when its process is killed; another replica that is
    well comes before any fallback, and a request without one stays where it is."""

    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await seen.closed.wait()

    async with upstream(silent) as big, upstream(answers("big")) as well:
        names = {"chat": split(("big", 1), fallbacks=["small"]), "alone": split(("big", 1))}
        async with start({"big": [big.port], "small": [small]}, names) as named:
            asked = [asyncio.create_task(named.ask(name)) for name in ("chat", "alone")]
            async with asyncio.timeout(5):
                while len(big.seen) < 2:
                    await asyncio.sleep(0.01)
            named.gateway.hand_over("big-0", "no sign of life for 2.0 s")
            async with asyncio.timeout(5):
                answer = await asked[0]
            assert (answer.text, answer.headers["x-inferry-fallback"]) == ("small", "big (engine_broke)")
            assert not asked[1].done()
            asked[1].cancel()
            await asyncio.wait(asked)
        big.seen.clear()
        async with start(
            {"big": [big.port], "small": []}, {"chat": split(("big", 1), fallbacks=["small"])}
        ) as named:
            waiting = asyncio.create_task(named.ask("chat"))
            async with asyncio.timeout(5):
                while not big.seen:
                    await asyncio.sleep(0.01)
            named.gateway.hand_over("big-0", "no sign of life for 2.0 s")
            await asyncio.sleep(0.05)
            assert not waiting.done()  # the fallback has nobody either
            waiting.cancel()
            await asyncio.wait([waiting])
        big.seen.clear()
        async with start({"big": [big.port, well.port], "small": [small]}, names) as named:
            asked = [asyncio.create_task(named.ask("chat")) for _ in range(2)]
            async with asyncio.timeout(5):
                while not big.seen:
                    await asyncio.sleep(0.01)
            named.gateway.hand_over("big-0", "no sign of life for 2.0 s")
            assert {(await each).text for each in asked} == {"big"}


async def test_a_full_queue_goes_to_the_fallback(start: Start, small: int) -> None:
    """One runs and none may wait: the second request does not get a 429, but an answer from the fallback."""
    release = asyncio.Event()

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answers("big")(seen, writer)

    async with upstream(slow) as big:
        ports = {"big": [big.port], "small": [small]}
        specs = {"big": {"queue": Queue(running_max=1, waiting_max=0)}}
        names = {"chat": split(("big", 1), fallbacks=["small"])}
        async with start(ports, names, specs=specs) as named:
            first = asyncio.create_task(named.ask())
            async with asyncio.timeout(5):
                while not big.seen:
                    await asyncio.sleep(0.005)
            second = await named.ask()
            assert (second.text, second.headers["x-inferry-fallback"]) == ("small", "big (queue_full)")
            release.set()
            assert (await first).text == "big"


async def test_a_deployments_spent_limit_goes_to_the_fallback(start: Start, small: int) -> None:
    """What the deployment may not take any more, another may: its limits are its own."""
    async with upstream(answers("big")) as big:
        ports = {"big": [big.port], "small": [small]}
        specs = {"big": {"limits": Limits(requests_per_minute=1)}}
        async with start(ports, {"chat": split(("big", 1), fallbacks=["small"])}, specs=specs) as named:
            assert (await named.ask()).text == "big"
            answer = await named.ask()
            assert (answer.text, answer.headers["x-inferry-fallback"]) == (
                "small",
                "big (rate_limit_exceeded)",
            )


async def test_fallbacks_are_tried_in_order_and_the_last_one_says_why(start: Start, nobody: int) -> None:
    """Nobody answers: one error, of the last deployment that was asked, and one outcome."""
    ports = {"big": [], "middle": [nobody], "small": []}
    async with start(ports, {"chat": split(("big", 1), fallbacks=["middle", "small"])}) as named:
        answer = await named.ask()
        assert (answer.status, answer.error, answer.by) == (503, "no_ready_replica", "small")
        assert answer.headers["x-inferry-fallback"] == "big (no_ready_replica), middle (engine_unreachable)"
        outcome = await named.outcome()
        assert (outcome.ending, outcome.deployment, outcome.attempts) == (Ending.FAILED, "small", 1)


async def test_a_fallback_may_be_a_member_of_the_split(start: Start, small: int) -> None:
    """`fallbacks: [stable]` sends what the canary fails to the stable one, and never twice to the same."""
    ports = {"stable": [small], "canary": []}
    names = {"chat": split(("stable", 1), ("canary", 1), fallbacks=["stable"])}
    async with start(ports, names) as named:
        assert await ask_all(named, 4) == {"stable": 4}
        assert named.gateway.metrics.fallbacks == {("chat", "canary", "stable"): 2}


async def test_clients_errors_stay_where_they_are(start: Start, small: int) -> None:
    """What the engine refuses with 400 is refused: another model would only refuse it again, or worse, not."""
    async with upstream(refuses(b"400 Bad Request")) as big:
        ports = {"big": [big.port], "small": [small]}
        async with start(ports, {"chat": split(("big", 1), fallbacks=["small"])}) as named:
            answer = await named.ask()
            assert (answer.status, answer.by) == (400, "big")
            assert "x-inferry-fallback" not in answer.headers


async def test_no_fallback_once_the_answer_has_begun(start: Start, small: int) -> None:
    """Another model can't go on with the first one's words: the stream ends with an error event."""

    async def breaks(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b'data: {"choices":[{"index":0,"delta":{"content":"The"}}]}\n\n'))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async with upstream(breaks) as big:
        ports = {"big": [big.port], "small": [small]}
        async with start(ports, {"chat": split(("big", 1), fallbacks=["small"])}) as named:
            answer = await named.ask(stream=True)
            assert (answer.status, answer.by) == (200, "big")
            assert b'"The"' in answer.body
            assert b'"error"' in answer.body
            assert b"small" not in answer.body
            assert (await named.outcome()).ending is Ending.FAILED


async def test_a_client_that_leaves_ends_it_at_the_fallback(start: Start) -> None:
    """The second engine is told to stop as the first would have been; one outcome, cancelled."""

    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await seen.closed.wait()

    async with upstream(silent) as each:
        ports = {"big": [], "small": [each.port]}
        async with start(ports, {"chat": split(("big", 1), fallbacks=["small"])}) as named:
            asking = asyncio.create_task(named.ask())
            async with asyncio.timeout(5):
                while not each.seen:
                    await asyncio.sleep(0.005)
            asking.cancel()
            outcome = await named.outcome()
            assert (outcome.ending, outcome.deployment) == (Ending.CANCELLED, "small")


async def test_a_gateway_that_ends_asks_nobody_else(start: Start, small: int) -> None:
    """At the end of the drain, requests end: they are not begun once more at a fallback."""

    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await seen.closed.wait()

    async with upstream(silent) as big:
        ports = {"big": [big.port], "small": [small]}
        async with start(ports, {"chat": split(("big", 1), fallbacks=["small"])}) as named:
            asking = asyncio.create_task(named.ask())
            async with asyncio.timeout(5):
                while not big.seen:
                    await asyncio.sleep(0.005)
            [exchange] = named.gateway.active
            exchange.abort(EngineUnreachable("The gateway is shutting down."))
            assert (await asking).error == "engine_unreachable"
            assert (await named.outcome()).deployment == "big"


async def test_fronts_of_other_apis_fall_back_too(start: Start, small: int) -> None:
    """Ollama's API, streamed: the fallback's engine is asked for usage as the first one would have been."""
    specs = {each: {"asks_usage": True} for each in ("big", "small")}
    names = {"chat": split(("big", 1), fallbacks=["small"])}
    async with (
        upstream(refuses(b"503 Busy")) as big,
        start({"big": [big.port], "small": [small]}, names, specs=specs) as named,
    ):
        answer = await named.ask("chat", path="/api/chat", stream=True)
        assert answer.status == 200
        assert b'"small"' in answer.body
        assert b'"eval_count":2' in answer.body


# --- changes of the file ------------------------------------------------------------------------------


async def test_weights_may_change_between_two_requests(start: Start, small: int) -> None:
    """A canary grows from nothing to all without a restart; turns of a name that did not change go on."""
    async with upstream(answers("two")) as two:
        ports = {"v1": [small], "v2": [two.port]}
        same = split(("v1", 1), ("v2", 1))
        names = {"chat": split(("v1", 1), ("v2", 0)), "other": same}
        async with start(ports, names) as named:
            assert await ask_all(named, 3) == {"v1": 3}
            assert (await named.ask("other")).by == "v1"
            changed = {"chat": split(("v1", 0), ("v2", 1)), "other": same}
            named.rename({name: PublicName.model_validate(each) for name, each in changed.items()})
            assert await ask_all(named, 3) == {"v2": 3}
            assert (await named.ask("other")).by == "v2"
            named.rename({})
            assert (await named.ask()).error == "model_not_found"


# --- everything at once -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_fails_each_request_ends_once_and_gives_back_what_it_held(
    start: Start, seed: int
) -> None:
    """120 requests against engines that refuse, break, hang or answer, behind a queue and limits, from clients of which
    some leave: one outcome each, and afterwards every place and every permit is free again."""
    rng = random.Random(seed)

    async def moody(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(rng.random() * 0.02)
        match rng.randrange(5):
            case 0:
                writer.close()
            case 1:
                await refuses(b"503 Busy")(seen, writer)
            case 2:
                await seen.closed.wait()
            case _:
                await answers("big")(seen, writer)

    async with upstream(moody) as big, upstream(moody) as middle, upstream(answers("small")) as small:
        ports = {"big": [big.port, big.port], "middle": [middle.port], "small": [small.port]}
        specs = {
            "big": {"queue": Queue(running_max=4, waiting_max=6), "limits": Limits(requests_in_flight=8)},
            "middle": {"limits": Limits(requests_in_flight=3, requests_per_minute=40)},
            "small": {"limits": Limits(requests_in_flight=200)},
        }
        names = {"chat": split(("big", 3), ("middle", 1), fallbacks=["middle", "small"])}
        async with start(ports, names, specs=specs, first_byte_timeout_s=2) as named:

            async def one(number: int) -> int | None:
                await asyncio.sleep(number * 0.005)
                asking = asyncio.create_task(named.ask(stream=number % 2 == 0))
                if number % 7 == 0:
                    await asyncio.sleep(0.02)
                    if asking.cancel():
                        await asyncio.wait([asking])
                        return None
                return int((await asking).status)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(number)) for number in range(120)]
            statuses = [task.result() for task in tasks]
            await named.settled()
            assert {each for each in statuses if each is not None} == {200}
            async with asyncio.timeout(5):
                while len(named.outcomes) < sum(each is not None for each in statuses):
                    await asyncio.sleep(0.01)
            assert len({each.id for each in named.outcomes}) == len(named.outcomes) <= 120
            fallbacks = named.gateway.metrics.fallbacks
            assert {(left, to) for _, left, to in fallbacks} >= {("big", "middle"), ("middle", "small")}
            for deployment in named.gateway.deployments.values():
                assert (deployment.turns.waiting, deployment.turns.running) == (0, 0)
                rules = named.gateway.admission.rules(
                    Caller(ANONYMOUS), deployment.name, deployment.spec.limits
                )
                assert [shelf.in_use for shelf in rules.permit_shelves] == [0]
