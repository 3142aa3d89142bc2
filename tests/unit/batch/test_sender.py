"""One request until it is over, against answers that are made up here: no socket, and time moved by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

import httpx
import pytest

from inferry.batch.input_file import BatchRequest
from inferry.batch.record import Record, error_text
from inferry.batch.sender import Sender, Settings, Unsent, retry_after_s
from inferry.gateway.usage import Usage
from inferry.testing.manual_clock import ManualClock

REQUEST = BatchRequest(7, "mine", "/v1/chat/completions", "chat", b'{"model":"chat"}')
GOOD = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}}
Handler = Callable[[httpx.Request], httpx.Response]


class Bench:
    """A sender over the given answers, in turn; the last one stays. An exception is raised instead."""

    def __init__(
        self, *answers: httpx.Response | Exception, retries_max: int = 3, deadline_s: float = 60.0
    ) -> None:
        self.clock = ManualClock()
        self.asked: list[httpx.Request] = []
        self.waits: list[float] = []
        self.is_ending = False
        self._answers = list(answers)
        self._settings = Settings("http://there/base", {"authorization": "Bearer k"}, retries_max, deadline_s)

    async def send(self) -> Record | Unsent:
        def cost_of(model: str, usage: Usage) -> int | None:
            return None if usage.completion_tokens is None else 100 * usage.completion_tokens

        async with httpx.AsyncClient(transport=httpx.MockTransport(self._answer)) as client:
            sender = Sender(client, self._settings, "run1", self.clock, Random(7), cost_of)
            return await sender.send(REQUEST, self._pause)

    async def record(self) -> Record:
        got = await self.send()
        assert isinstance(got, Record)
        return got

    async def _pause(self, wait_s: float) -> bool:
        self.waits.append(wait_s)
        self.clock.advance(wait_s)
        return not self.is_ending

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def entry(record: Record) -> Any:
    return json.loads(bytes(record.entry))


async def test_a_good_answer() -> None:
    """The body goes as it is to base URL and path, with key and stable ids; the record has tokens, cost and the answer."""
    bench = Bench(httpx.Response(200, json=GOOD, headers={"x-request-id": "seen"}))
    record = await bench.record()
    [asked] = bench.asked
    assert str(asked.url) == "http://there/base/v1/chat/completions"
    assert asked.content == REQUEST.body
    assert asked.headers["authorization"] == "Bearer k"
    assert asked.headers["x-request-id"] == asked.headers["idempotency-key"] == "batch-run1-7"
    assert entry(record)["response"] == {"status_code": 200, "request_id": "seen", "body": GOOD}
    assert (record.line, record.failure) == (7, None)
    assert (record.prompt_tokens, record.completion_tokens, record.cost_nano) == (10, 3, 300)


async def test_every_try_has_the_same_id() -> None:
    """A failure that passes costs a wait, and the service can tell that it was asked the same before."""
    bench = Bench(httpx.Response(502, json={}), httpx.ReadError("cut"), httpx.Response(200, json=GOOD))
    record = await bench.record()
    assert record.failure is None
    assert len(bench.waits) == 2
    assert {asked.headers["x-request-id"] for asked in bench.asked} == {"batch-run1-7"}


async def test_the_last_failure_is_kept_with_status_and_body() -> None:
    """When the tries are used up, the output has what the service said, as OpenAI's has."""
    body = {"error": {"message": "broken"}}
    bench = Bench(httpx.Response(500, json=body))
    record = await bench.record()
    assert len(bench.asked) == 4
    assert record.failure == "500"
    assert entry(record)["response"]["body"] == body
    assert entry(record)["error"] is None


async def test_a_wrong_request_is_asked_once() -> None:
    """400 would be 400 again."""
    bench = Bench(httpx.Response(400, json={"error": {"message": "no"}}))
    assert (await bench.record()).failure == "400"
    assert len(bench.asked) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.ReadError("cut"), "answer_broke"),
        (httpx.RemoteProtocolError("half a chunk"), "answer_broke"),
        (httpx.Response(200, text="<html>"), "bad_answer"),
        (httpx.Response(200, json=[1]), "bad_answer"),
    ],
)
async def test_no_whole_answer_becomes_an_error(answer: httpx.Response | Exception, code: str) -> None:
    """What broke off, or is no answer of the API, is an error without a response, after all tries."""
    bench = Bench(answer)
    record = await bench.record()
    assert len(bench.asked) == 4
    assert record.failure == code
    assert entry(record)["response"] is None
    assert entry(record)["error"]["code"] == code


async def test_what_makes_no_url_is_not_tried_again() -> None:
    """It would make none the next time either; the run goes on."""
    bench = Bench(httpx.InvalidURL("URL too long"))
    record = await bench.record()
    assert (record.failure, len(bench.asked)) == ("bad_url", 1)


async def test_refusals_cost_no_try() -> None:
    """Twenty times 429 with Retry-After, and then an answer: nothing has failed."""
    refused = [httpx.Response(429, headers={"retry-after": "2"})] * 20
    bench = Bench(*refused, httpx.Response(200, json=GOOD), retries_max=0)
    assert (await bench.record()).failure is None
    assert min(bench.waits) >= 2


async def test_who_is_refused_for_a_deadline_is_unsent() -> None:
    """It stays for later, with the service's own words."""
    bench = Bench(
        httpx.Response(503, headers={"retry-after": "2"}, json={"error": {"message": "none is ready"}})
    )
    got = await bench.send()
    assert got == Unsent("503: none is ready", is_certain=False, is_refusal=True)
    assert 55 <= sum(bench.waits) <= 60


async def test_nobody_there_is_unsent_too() -> None:
    """After a deadline without a connection."""
    bench = Bench(httpx.ConnectError("refused"))
    got = await bench.send()
    assert got == Unsent("Nobody listens (refused).", is_certain=False, is_refusal=False)


async def test_time_spent_on_refusals_is_not_the_requests() -> None:
    """A request that was refused for long has its whole deadline once it is taken."""
    refused = [httpx.Response(429, headers={"retry-after": "50"})]
    broke = [httpx.ReadError("cut")] * 3
    bench = Bench(*refused, *broke, httpx.Response(200, json=GOOD))
    assert (await bench.record()).failure is None
    assert len(bench.asked) == 5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(401, json={"error": {"message": "whose key is that?"}}), "401: whose key is that?"),
        (httpx.Response(429, headers={"retry-after": "9000"}, text="spent"), "429: spent"),
    ],
)
async def test_what_holds_for_all_is_said_to_be_certain(answer: httpx.Response, words: str) -> None:
    """A refused key, or a budget that is spent for hours, needs no second look."""
    bench = Bench(answer)
    assert await bench.send() == Unsent(words, is_certain=True, is_refusal=words.startswith("429"))
    assert bench.waits == []


async def test_an_ending_run_waits_for_no_further_try() -> None:
    """Between two tries, the request is given back."""
    bench = Bench(httpx.Response(502, json={}))
    bench.is_ending = True
    assert isinstance(await bench.send(), Unsent)
    assert len(bench.asked) == 1


async def test_silence_ends_at_the_deadline() -> None:
    """A service that takes a request and never answers has failed it; nothing waits for ever."""

    async def never(request: httpx.Request) -> httpx.Response:
        clock.advance(60.0)
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits that long")

    clock = ManualClock()
    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as client:
        settings = Settings("http://there", {}, 3, deadline_s=0.05)
        sender = Sender(client, settings, "run1", clock, Random(7), lambda model, usage: None)

        async def pause(wait_s: float) -> bool:
            raise AssertionError("nothing is left to wait for")

        got = await sender.send(REQUEST, pause)
    assert isinstance(got, Record)
    assert got.failure == "deadline_exceeded"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    """A number or a date; what is neither says nothing."""
    headers = {} if text is None else {"retry-after": text}
    assert retry_after_s(headers, 1000.0) == seconds


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', '{"error": "no"}'),
        (b"[1]", "[1]"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"x" * 9000, "x" * 500),
    ],
)
def test_a_services_own_words(body: bytes, text: str) -> None:
    """OpenAI's error message, or the beginning of whatever came."""
    assert error_text(body) == text
