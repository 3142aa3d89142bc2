"""Classifiers and guards: what they are asked over real sockets, and what each kind of answer does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from inferry.core.name_lookup import NameLookup
from inferry.core.replica import Endpoint
from inferry.core.request import CHAT, MESSAGES
from inferry.gateway.filters.answer_filter import blocked_answer
from inferry.gateway.filters.classifier_call import BorrowedReplica, CheckCalls, ClassifierPools
from inferry.gateway.filters.external_check import Check
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.stream_filter import StreamFilter
from inferry.gateway.filters.verdict import Blocked, Passed, Verdict
from inferry.gateway.upstream import UpstreamPool

from .wire import DIALECTS, ROUTE_OF, bodies_of, compiled, ending_of, event, stream_of, text_of

BODY = json.dumps(
    {
        "model": "m",
        "messages": [{"role": "user", "name": "Ann", "content": [{"type": "text", "text": "hello"}]}],
    }
).encode()
Answer = Callable[[str, dict[str, Any]], tuple[int, bytes] | None]
"""Path and body in, status and body out; None: never answers."""


class Outside:
    """A small HTTP server that answers as it is told, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[tuple[str, dict[str, Any], bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                path = head.split()[1].decode()
                self.asked.append((path, body, head))
                said = self._answer(path, body)
                if said is not None:
                    status, content = said
                    writer.write(
                        b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(content), content)
                    )
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def outside(answer: Answer) -> AsyncIterator[Outside]:
    each = Outside(answer)
    server = await asyncio.start_server(each.serve, "127.0.0.1", 0)
    each.port = server.sockets[0].getsockname()[1]
    try:
        yield each
    finally:
        server.close()
        await server.wait_closed()


class OneGuard:
    """Lends one replica, and counts."""

    def __init__(self, pool: UpstreamPool | None = None) -> None:
        self._pool = pool
        self.lent = 0

    def borrow(self, deployment: str) -> BorrowedReplica | None:
        if self._pool is None:
            return None
        self.lent += 1
        return BorrowedReplica(self._pool, f"{deployment}-model", self._back)

    def _back(self) -> None:
        self.lent -= 1


async def ask(checks: list[Check], guards: OneGuard | None = None) -> Verdict:
    loop = asyncio.get_running_loop()
    pools = ClassifierPools(loop)
    verdict: asyncio.Future[Verdict] = loop.create_future()
    CheckCalls(checks, pools, guards or OneGuard(), verdict.set_result).start()
    try:
        return await asyncio.wait_for(verdict, 10)
    finally:
        await pools.close()


def classified(port: int, **more: Any) -> FilterSet:
    action = more.pop("action", "block")
    url = f"http://127.0.0.1:{port}/v1/moderations"
    return compiled({"action": action, "classifier": {"url": url, **more}})


def moderation(flagged: bool, **scores: float) -> bytes:
    return json.dumps({"results": [{"flagged": flagged, "category_scores": scores}]}).encode()


ANSWERS: list[tuple[tuple[int, bytes] | None, dict[str, Any], bool]] = [
    ((200, moderation(False)), {}, False),
    ((200, moderation(True)), {}, True),
    ((200, moderation(False, hate=0.7)), {"threshold": 0.6}, True),
    ((200, moderation(True, hate=0.5)), {"threshold": 0.6}, False),
    ((500, b"no"), {}, True),
    ((500, b"no"), {"on_error": "pass"}, False),
    ((200, b"{}"), {}, True),
    ((200, b'{"results":[]}'), {}, True),
    ((200, b"x" * 2_000_000), {"on_error": "pass"}, False),
    (None, {"timeout_s": 0.5}, True),
    (None, {"timeout_s": 0.5, "on_error": "pass"}, False),
]


@pytest.mark.parametrize(("said", "settings", "stops"), ANSWERS)
async def test_what_a_classifier_says(
    said: tuple[int, bytes] | None, settings: dict[str, Any], stops: bool
) -> None:
    """Flagged, over the threshold, in error or late: blocked or passed as the file says; asked as OpenAI's is."""
    async with outside(lambda path, body: said) as server:
        filters = classified(server.port, **settings)
        checks = list(filters.pending_input(CHAT, BODY, "t", None))
        assert isinstance(await ask(checks), Blocked) is stops
        path, asked, _ = server.asked[0]
        assert path == "/v1/moderations"
        assert asked == {"input": ["hello"]}


async def test_a_classifier_that_is_not_there() -> None:
    """A refused connection counts as an error."""
    async with outside(lambda path, body: None) as server:
        port = server.port
    assert isinstance(await ask(list(classified(port).pending_input(CHAT, BODY, "t", None))), Blocked)
    passing = classified(port, on_error="pass")
    assert await ask(list(passing.pending_input(CHAT, BODY, "t", None))) == Passed()


async def test_several_classifiers() -> None:
    """They are asked in order until one blocks; flags are joined."""
    async with outside(lambda path, body: (200, moderation(path == "/b"))) as server:

        def entry(path: str, action: str = "block") -> dict[str, Any]:
            return {"action": action, "classifier": {"url": f"http://127.0.0.1:{server.port}{path}"}}

        filters = compiled(entry("/a"), entry("/b", "flag"), entry("/b"), entry("/never"))
        verdict = await ask(list(filters.pending_input(CHAT, BODY, "t", None)))
        assert isinstance(verdict, Blocked)
        assert verdict.rule == "r2"
        assert [path for path, _, _ in server.asked] == ["/a", "/b", "/b"]
        assert await ask(list(filters.pending_input(CHAT, BODY, "t", None))[:2]) == Passed(frozenset({"r1"}))


GUARDS: list[tuple[str, bool]] = [
    ("safe", False),
    ("\n\nSafe", False),
    ("unsafe\nS1", True),
    ("I think that is fine", True),
]


@pytest.mark.parametrize(("word", "stops"), GUARDS)
async def test_what_a_guard_says(word: str, stops: bool) -> None:
    """A guard is asked on its chat route by its engine's name for it; neither safe nor unsafe is an error."""
    answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": word}}]}).encode()
    async with outside(lambda path, body: (200, answer)) as server:
        loop = asyncio.get_running_loop()
        pool = UpstreamPool(Endpoint("127.0.0.1", server.port), loop, 1.0, NameLookup(loop))
        guards = OneGuard(pool)
        filters = compiled({"guard": "shield"})
        checks = list(filters.pending_input(CHAT, BODY, "t", None))
        assert isinstance(await ask(checks, guards), Blocked) is stops
        path, asked, _ = server.asked[0]
        assert path == "/v1/chat/completions"
        assert asked["model"] == "shield-model"
        assert asked["messages"] == [{"role": "user", "content": "hello"}]
        assert guards.lent == 0
        await pool.wait_closed()


async def test_no_guard_to_ask() -> None:
    """Without a replica of the guard, it is an error of the guard's."""
    assert isinstance(await ask(list(compiled({"guard": "g"}).pending_input(CHAT, BODY, "t", None))), Blocked)
    passing = compiled({"guard": "g", "guard_on_error": "pass"})
    assert await ask(list(passing.pending_input(CHAT, BODY, "t", None))) == Passed()


async def test_a_cancelled_question_gives_everything_back() -> None:
    """The client went away: no verdict comes, the guard's replica is returned."""
    loop = asyncio.get_running_loop()
    async with outside(lambda path, body: None) as server:
        pool = UpstreamPool(Endpoint("127.0.0.1", server.port), loop, 1.0, NameLookup(loop))
        guards, pools, verdicts = OneGuard(pool), ClassifierPools(loop), list[Verdict]()
        checks = compiled({"guard": "g"}).pending_input(CHAT, BODY, "t", None)
        calls = CheckCalls(checks, pools, guards, verdicts.append)
        calls.start()
        while not server.asked:
            await asyncio.sleep(0.005)
        calls.cancel()
        assert guards.lent == 0
        assert verdicts == []
        await pool.wait_closed()
        await pools.close()


def test_secrets_stay_out_of_texts() -> None:
    """The classifier's key goes into a header, and into no repr."""
    filters = compiled({"classifier": {"url": "https://x.org/m", "api_key": "sekret"}})
    (check,) = filters.pending_input(CHAT, BODY, "t", None)
    assert check.endpoint is not None
    assert check.endpoint.headers == (("authorization", "Bearer sekret"),)
    assert (check.endpoint.tls, check.endpoint.port, check.endpoint.base_path) == (True, 443, "/m")
    assert "sekret" not in repr(check) + repr(check.endpoint) + repr(filters)


# --- streams ------------------------------------------------------------------------------------------


def windowed(dialect: str = "chat") -> StreamFilter:
    filters = compiled({"classifier": {"url": "http://x/", "window_chars": 20}}, {"terms": ["bomb"]})
    stream = filters.stream(CHAT if dialect == "chat" else MESSAGES, "t", None)
    assert stream is not None
    return stream


def drive(
    stream: StreamFilter, events: list[bytes], judge: Callable[[str], Verdict]
) -> tuple[bytes, list[str]]:
    """As the exchange does it, with verdicts that come two events later."""
    out, asked, late = b"", list[str](), 0
    for each in [*events, None]:
        out += stream.finish() if each is None else stream.feed(each)
        late += bool(stream.checks)
        while stream.checks and (late > 2 or each is None):
            late = 0
            asked.append(stream.checks[0].texts[0])
            out += stream.resolve(judge(asked[-1]))
        if stream.blocked is not None:
            break
    return out, asked


def test_a_stream_waits_for_its_windows() -> None:
    """Text goes out only after the verdict on its window; questions overlap by one window; all bytes arrive."""
    stream = windowed()
    events = stream_of("chat", [f"word{at} " for at in range(12)])
    seen: list[str] = []

    def judge(question: str) -> Verdict:
        seen.append(question)
        return Passed(frozenset({"f"}))

    out, asked = drive(stream, events, judge)
    assert out == b"".join(events)
    assert len(asked) > 1
    assert all(len(question) < 200 for question in asked)
    assert asked[1].startswith(asked[0][-20:])
    assert stream.flags == {"f"}
    assert stream.held_bytes == 0


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_a_verdict_ends_a_stream(dialect: str) -> None:
    """Nothing of a blocked window goes out but the frame; the answer ends in its dialect's way."""
    events = stream_of(dialect, [f"word{at} " for at in range(12)])
    stream = windowed(dialect)
    stop = compiled({"terms": ["x"]}).input(CHAT, b'{"messages":"x"}', "t", None)
    out, _ = drive(stream, events, lambda question: stop if "word6" in question else Passed())
    assert isinstance(stream.blocked, Blocked)
    assert "word0" in text_of(dialect, out)
    assert "word6" not in out.decode()
    assert (b"content_filter" in out) if dialect == "chat" else (b"refusal" in out)
    assert stream.resolve(Passed()) == b""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_verdict_on_an_answer_that_is_complete(dialect: str) -> None:
    """The whole answer was there before the verdict: its end was not sent, so another one is, with the reason; and
    each block of messages that has begun is stopped once."""
    events = stream_of(dialect, ['{"a": "', 'some words"}'])
    filters = compiled({"classifier": {"url": "http://x/"}}, {"action": "mask", "patterns": ["words.{0,9}!"]})
    stream = filters.stream(ROUTE_OF[dialect], "t", None)
    assert stream is not None
    out = stream.feed(b"".join(events)) + stream.finish()
    stop = compiled({"terms": ["x"]}).input(CHAT, b'{"messages":"x"}', "t", None)
    out += stream.resolve(stop)
    assert text_of(dialect, out) == ""
    assert b"words" not in out
    reason = "refusal" if ROUTE_OF[dialect] is MESSAGES else "content_filter"
    assert ending_of(dialect, out) == reason
    types = [body["type"] for body in bodies_of(out) if body != "[DONE]" and "type" in body]
    assert types.count("content_block_start") == types.count("content_block_stop")


def test_a_rule_ends_a_stream_that_waits() -> None:
    """A term that blocks while a window is being judged: what nobody has judged does not go out."""
    stream = windowed()
    out = b"".join(stream.feed(each) for each in stream_of("chat", ["so far so good, and ", "a bomb"]))
    assert stream.blocked is not None
    assert text_of("chat", out) == ""
    assert out.endswith(b"data: [DONE]\n\n")


def test_a_whole_answer_that_a_verdict_blocks() -> None:
    """blocked_answer gives it the dialect's own refusal."""
    body = json.dumps({"id": "c", "choices": [{"index": 0, "message": {"content": "hm"}}]}).encode()
    filters = compiled({"classifier": {"url": "http://x/"}})
    assert [check.texts for check in filters.pending_output(CHAT, body, "t", None)] == [["hm"]]
    stop = compiled({"terms": ["x"]}).input(CHAT, b'{"messages":"x"}', "t", None)
    assert isinstance(stop, Blocked)
    answer = blocked_answer(stop, CHAT, body).answer
    assert answer is not None
    assert json.loads(answer)["choices"][0]["finish_reason"] == "content_filter"


def test_a_stream_without_text_needs_no_verdict() -> None:
    """Only frames: they go out at once at the end."""
    stream = windowed()
    ping = event({"id": "c", "choices": []})
    assert stream.feed(ping) + stream.finish() == ping
    assert stream.checks == ()
