"""The bench's verdicts over its own client and real sockets, on stand-ins that err and on the simulated engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec
import pytest

from inferry.bench.http_client import Client, Exchange
from inferry.bench.http_request import Destination
from inferry.bench.judging import encode, read
from inferry.bench.plan import Api, Constant, Lengths, RunPlan, Synthetic, Target
from inferry.bench.records import Ask, RequestRecord, Verdict
from inferry.bench.runner import run
from inferry.testing.simulated_server import running_simulated_engine
from tests.unit.bench.standin_servers import ASK, IN_TURN, STANDINS, serving

PATIENCE_S = 20.0
ASKED = 12


async def asked(
    *questions: tuple[Target, Ask],
    timeout_s: float | None = None,
    leave_after_s: float | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> list[RequestRecord]:
    """All of them asked at once, of the server that the first one names, and read."""
    ended: dict[int, Exchange] = {}
    address = urlsplit(questions[0][0].base_url)
    assert address.hostname is not None
    assert address.port is not None
    client = Client(
        (address.hostname, address.port), lambda exchange: ended.update({exchange.number: exchange})
    )
    for number, (target, ask) in enumerate(questions):
        encoded = encode(target, ask)
        request = Destination(target, {}).request(encoded.path, encoded.body, (*encoded.headers, *headers))
        client.send(Exchange(number, 0.0, request), timeout_s, leave_after_s)
    async with asyncio.timeout(PATIENCE_S):
        while len(ended) < len(questions):
            await asyncio.sleep(0.01)
    await client.close()
    return [
        read(target, ask, ended[number].raw(0.0), warmup=False)
        for number, (target, ask) in enumerate(questions)
    ]


async def test_each_way_of_erring_is_told_over_sockets() -> None:
    """Whatever the stand-ins do wrong, the verdict and the tokens are what they are for the bytes alone."""
    async with serving() as server:
        records = await asked(*((standin.target_at(server), ASK) for standin in STANDINS))
    found = {
        standin.name: (record.verdict, record.output_tokens)
        for standin, record in zip(STANDINS, records, strict=True)
    }
    assert found == {standin.name: (standin.verdict, standin.tokens) for standin in STANDINS}


async def test_waiting_is_seen_where_it_was() -> None:
    """A late head delays the first byte and all behind it; a stall shows between two chunks and nowhere else."""
    late, stalling = (next(each for each in STANDINS if each.name == name) for name in ("late-head", "stall"))
    async with serving((late, stalling)) as server:
        held_up, stalled = await asked((late.target_at(server), ASK), (stalling.target_at(server), ASK))
    assert held_up.sent_s is not None
    assert held_up.first_byte_s is not None
    assert held_up.first_byte_s - held_up.sent_s >= late.head_after_s * 0.99
    assert stalled.sent_s is not None
    assert stalled.first_byte_s is not None
    gaps = [stalled.chunk_s[0] - stalled.first_byte_s]
    gaps += [after - before for before, after in zip(stalled.chunk_s, stalled.chunk_s[1:], strict=False)]
    assert max(gaps) >= stalling.stall_s * 0.99
    assert stalled.verdict is held_up.verdict is Verdict.OK


# --- servers that are not even HTTP -----------------------------------------------------------------------


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[Target]:
    """A stand-in that does with each connection what `serve` says."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield Target(base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", model="m")
    finally:
        server.close()
        await server.wait_closed()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""


async def speak_otherwise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()


async def begin_and_wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Half an answer, until the client has left."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b'data: {"choices": [{"delta": {"content": "one"}}]}\n\n'
    writer.write(head + b"%x\r\n%b\r\n" % (len(chunk), chunk))
    await reader.read()


async def test_connections_that_come_to_nothing() -> None:
    """Nobody listens, hangs up without a byte, speaks another protocol: told apart, with a reason each."""
    async with listening(hang_up) as target:
        [record] = await asked((target, ASK))
    assert (record.verdict, bool(record.reason)) == (Verdict.CONNECT, True)
    [record] = await asked((target, ASK))  # its port is closed now
    assert (record.verdict, record.sent_s) == (Verdict.CONNECT, None)
    async with listening(speak_otherwise) as target:
        [record] = await asked((target, ASK))
    assert record.verdict is Verdict.MALFORMED
    assert "SSH-2.0" in record.reason


async def test_who_lost_patience_is_told_apart() -> None:
    """The same half answer is a timeout where time ran out, and abandoned where the client left as planned."""
    async with listening(begin_and_wait) as target:
        [late] = await asked((target, ASK), timeout_s=0.15)
        [left] = await asked((target, ASK), leave_after_s=0.15)
    assert (late.verdict, late.failed, late.output_tokens) == (Verdict.TIMEOUT, True, 1)
    assert (left.verdict, left.failed, left.output_tokens) == (Verdict.ABANDONED, False, 1)


# --- the simulated engine ---------------------------------------------------------------------------------


def question(engine: str, api: Api = "chat", **target: object) -> tuple[Target, Ask]:
    ask = Ask(number=0, due_s=0.0, text="Count to twelve.", output_tokens=ASKED)
    plain = Target(base_url=f"{engine}/v1", model="simulated", api=api)
    return msgspec.structs.replace(plain, **target), ask


async def test_the_simulated_engine_is_understood_in_all_its_apis() -> None:
    """Streamed and in one body: OK, the wanted number of tokens, and the best source for it that the API has."""
    wanted: Sequence[tuple[Api, dict[str, object], str]] = (
        ("chat", {}, "usage_per_chunk"),
        ("chat", {"usage_per_chunk": False}, "usage"),
        ("chat", {"usage_per_chunk": False, "extra": {"return_token_ids": True}}, "ids"),
        ("chat", {"length_field": "max_completion_tokens"}, "usage_per_chunk"),
        ("chat", {"stream": False}, "usage"),
        ("completions", {}, "usage_per_chunk"),
        ("completions", {"stream": False}, "usage"),
        ("responses", {}, "usage"),
        ("responses", {"stream": False}, "usage"),
        ("messages", {}, "usage"),
        ("messages", {"stream": False}, "usage"),
    )
    async with running_simulated_engine() as engine:
        records = await asked(*(question(engine, api, **target) for api, target, _ in wanted))
        [embedded] = await asked(question(engine, "embeddings"))
    for (api, target, source), record in zip(wanted, records, strict=True):
        found = (record.verdict, record.output_tokens, record.token_source)
        assert found == (Verdict.OK, ASKED, source), (api, target, record.reason)
        assert sum(record.chunk_tokens) == pytest.approx(ASKED)
        assert record.input_tokens
    assert (embedded.verdict, embedded.token_source) == (Verdict.OK, "none")


@pytest.mark.parametrize(
    ("fault", "verdict", "tokens"),
    [
        ("error_status;after_tokens=5", Verdict.STREAM_ERROR, 5),
        ("error_status;status=503", Verdict.HTTP_ERROR, 0),
        ("cut;after_tokens=5", Verdict.TRUNCATED, 5),
        ("bad_bytes;after_tokens=5;where=event", Verdict.MALFORMED, 5),
        ("bad_bytes;after_tokens=5", Verdict.MALFORMED, 5),
        ("stall;after_tokens=5;seconds=0.05", Verdict.OK, ASKED),
    ],
)
@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages"])
async def test_an_engine_that_fails_on_the_way_is_told(
    api: Api, fault: str, verdict: Verdict, tokens: int
) -> None:
    """Each fault of the simulated engine, in each API: the same verdict, and the tokens that came until then."""
    async with running_simulated_engine() as engine:
        [record] = await asked(question(engine, api), headers=(("x-simulate-fault", fault),))
    assert (record.verdict, record.output_tokens) == (verdict, tokens), record.reason


# --- a whole run ------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_run_over_a_server_that_errs_counts_each_verdict() -> None:
    """Two worker processes, all of chat's ways to err in turn, each three times: none is lost, none is misjudged."""
    errs = tuple(each for each in STANDINS if each.api == "chat" and each.stream and not each.extra)
    sent = 3 * len(errs)
    async with serving(errs) as server:
        plan = RunPlan(
            target=Target(base_url=f"{server}/{IN_TURN}", model="m"),
            arrivals=Constant(rate=100),
            workload=Synthetic(
                input_tokens=Lengths(mean=8), output_tokens=Lengths(mean=ASK.output_tokens or 0)
            ),
            duration_s=sent / 100,
            requests_max=sent,
            processes=2,
        )
        record = await run(plan)
    assert Counter(each.verdict for each in record.requests) == Counter(each.verdict for each in errs * 3)
