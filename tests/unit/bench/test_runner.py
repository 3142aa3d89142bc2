"""Whole runs: real worker processes, against the null server or a stand-in."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.bench_truth import measured, true
from benchmarks.exact_server import running_exact_server

from inferry.bench.calibration import calibrate, null_server
from inferry.bench.http_framing import ResponseReader
from inferry.bench.http_request import Destination
from inferry.bench.judging import read
from inferry.bench.null_answers import streamed, whole
from inferry.bench.plan import Api, Closed, Constant, Lengths, Poisson, RunPlan, Sessions, Synthetic, Target
from inferry.bench.records import Ask, Progress, Raw, Verdict
from inferry.bench.runner import run
from inferry.bench.tokens import Wording
from inferry.bench.worker_line import WorkerLine
from inferry.bench.worker_messages import Job
from inferry.core.errors import BadBenchPlan, BenchClientFailed, EngineUnreachable

SHORT = Synthetic(input_tokens=Lengths(mean=10), output_tokens=Lengths(mean=5))


def target_at(port: int, api: Api = "chat") -> Target:
    return Target(base_url=f"http://127.0.0.1:{port}/v1", model="null", api=api)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """A stand-in that takes requests and never answers."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)


async def test_a_run_sends_all_that_is_due_from_all_processes() -> None:
    """Two processes share the requests; each comes back once, in order, judged, on one clock; each process is audited."""
    seen: list[Progress] = []
    async with null_server(1) as port:
        plan = RunPlan(
            target=target_at(port),
            arrivals=Constant(rate=50),
            workload=SHORT,
            duration_s=1.0,
            warmup_s=0.5,
            processes=2,
        )
        record = await run(plan, progress=seen.append)
    assert [request.number for request in record.requests] == list(range(len(record.requests)))
    assert 49 <= len(record.requests) <= 51
    assert {request.verdict for request in record.requests} == {Verdict.OK}
    assert {request.output_tokens for request in record.requests} == {5}
    assert all(late.due_s - early.due_s == pytest.approx(0.02) for early, late in pairwise(record.requests))
    assert all(request.warmup == (request.due_s < 0.5) for request in record.requests)
    assert [audit.process for audit in record.audits] == [0, 1]
    assert all(audit.cpu_s > 0 and audit.connections > 0 and not audit.unsent for audit in record.audits)
    assert not record.stopped_early
    assert (seen[-1].sent, seen[-1].ended, seen[-1].under_way, seen[-1].failed) == (
        len(record.requests),
    ) * 2 + (0, 0)


@pytest.mark.slow
async def test_a_stopped_run_hands_in_what_there_is() -> None:
    """Stopped in the middle: what was under way is ABANDONED, and the record says that it was stopped."""
    stop = asyncio.Event()
    async with silent_server() as port:
        plan = RunPlan(target=target_at(port), arrivals=Constant(rate=20), workload=SHORT, duration_s=60)

        def stop_soon(progress: Progress) -> None:
            if progress.sent:
                stop.set()

        record = await run(plan, progress=stop_soon, stop=stop)
    assert record.stopped_early
    assert record.requests
    assert {request.verdict for request in record.requests} == {Verdict.ABANDONED}


async def test_a_worker_that_dies_is_an_error_that_says_so() -> None:
    """Killed before its work is done: no run, no silence, but its number and how it ended."""
    line = await WorkerLine.open(3)
    line.kill()
    with pytest.raises(BenchClientFailed, match="Load worker 3 was ended by SIGKILL"):
        await line.hear()
    await line.close()


async def test_a_worker_dies_with_its_runner() -> None:
    """When the runner's end of the line is closed, the worker ends by itself, whatever it was doing."""
    async with silent_server() as port:
        line = await WorkerLine.open(0)
        plan = RunPlan(target=target_at(port), arrivals=Closed(concurrency=2), workload=SHORT, duration_s=60)

        line.say(Job(plan, 0, ("127.0.0.1", port), Wording(), "nonce"))
        await line.hear()  # Ready
        line._writer.close()
        async with asyncio.timeout(10):
            assert await line._process.wait() == 3
        await line.close()


async def test_nobody_there_is_said_before_anything_starts() -> None:
    """A target that takes no connections is an error with host and port."""
    plan = RunPlan(target=target_at(1), arrivals=Poisson(rate=1), workload=SHORT, duration_s=1)
    with pytest.raises(EngineUnreachable, match=r"127\.0\.0\.1:1: Connection refused"):
        await run(plan)


async def test_a_plan_that_cannot_be_is_refused_before_anything_starts() -> None:
    """What is wrong with a plan is said by its field, not by a worker that died of it."""
    async with silent_server() as port:
        with pytest.raises(BadBenchPlan, match="rate"):
            await run(
                RunPlan(target=target_at(port), arrivals=Constant(rate=-1), workload=SHORT, duration_s=1)
            )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "http://HOST:PORT/v1"),
        ("ftp://host/v1", "http://HOST:PORT/v1"),
        ("http://host:port/v1", "no URL"),
        ("http://me:secret@host/v1", "environment variable"),
        ("http://host/v1?key=1", "more than a host"),
    ],
)
def test_a_base_url_that_cannot_be_is_explained(url: str, words: str) -> None:
    """What is no base URL is refused in words; a password in it is not repeated."""
    with pytest.raises(BadBenchPlan, match=words) as caught:
        Destination(Target(base_url=url, model="m"), {})
    assert "secret" not in str(caught.value)


def test_a_request_has_what_servers_need_and_the_key_from_the_environment() -> None:
    """Host, length, type and key are in the head; the path is below the base URL's."""
    target = Target(base_url="https://[::1]:8443/api/v1/", model="m", api="messages", key_variable="KEY")
    destination = Destination(target, {"KEY": "sk-1"})
    head, _, body = destination.request("/messages", b"{}", (("anthropic-version", "x"),)).partition(
        b"\r\n\r\n"
    )
    first, *fields = head.split(b"\r\n")
    assert first == b"POST /api/v1/messages HTTP/1.1"
    assert {
        b"Host: [::1]:8443",
        b"Content-Length: 2",
        b"Content-Type: application/json",
        b"Authorization: Bearer sk-1",
        b"x-api-key: sk-1",
        b"anthropic-version: x",
    } <= set(fields)
    assert body == b"{}"
    assert (destination.host, destination.port, destination.tls) == ("::1", 8443, True)


@pytest.mark.parametrize("environ", [{}, {"KEY": " "}, {"KEY": "two words"}, {"KEY": "x\r\nHost: evil"}])
def test_a_key_that_cannot_be_sent_is_refused_unseen(environ: dict[str, str]) -> None:
    """Missing, empty or with signs that no header takes: the variable is named, the key is not."""
    with pytest.raises(BadBenchPlan, match="KEY") as caught:
        Destination(Target(base_url="http://host/v1", model="m", key_variable="KEY"), environ)
    assert "evil" not in str(caught.value)
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages", "tgi", "embeddings"])
def test_the_null_servers_answers_are_proper(api: Api, stream: bool) -> None:
    """Each API's answer is judged good by the bench's own strict reading, with the tokens that were asked for."""
    streams = stream and api != "embeddings"
    writes = streamed(api, 7) if streams else (whole(api, 7),)
    reader = ResponseReader()
    pieces = tuple((float(at_s), reader.feed(data)) for at_s, data in enumerate(writes))
    raw = Raw(
        number=0,
        due_s=0,
        sent_s=0,
        status=reader.status,
        content_type=reader.content_type,
        pieces=pieces,
        first_byte_s=0,
        ended_s=9,
        whole=reader.complete,
    )
    target = Target(base_url="http://host/v1", model="null", api=api, stream=stream)
    record = read(target, Ask(number=0, due_s=0, text="x", output_tokens=7), raw, warmup=False)
    assert (record.verdict, record.reason) == (Verdict.OK, "")
    assert record.output_tokens == (0 if api == "embeddings" else 7)
    assert len(writes) == (7 if streams else 1)


@pytest.mark.slow
async def test_ctrl_c_stops_in_order() -> None:
    """SIGINT to the runner's process: the run ends early with what there is, and the next Ctrl-C is ours again."""
    before, interrupted = signal.getsignal(signal.SIGINT), list[Progress]()
    async with silent_server() as port:
        plan = RunPlan(target=target_at(port), arrivals=Constant(rate=20), workload=SHORT, duration_s=60)

        def interrupt(progress: Progress) -> None:
            if progress.sent and not interrupted:
                interrupted.append(progress)
                os.kill(os.getpid(), signal.SIGINT)

        record = await run(plan, progress=interrupt)
    assert record.stopped_early
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
async def test_conversations_and_leaving_clients_in_a_whole_run() -> None:
    """Turns come after the turns before them, in one process; clients leave as planned and count as no failure."""
    async with null_server(1) as port:
        plan = RunPlan(
            target=target_at(port),
            arrivals=Poisson(rate=10),
            workload=Sessions(
                turns=Lengths(mean=3),
                first_tokens=Lengths(mean=10),
                turn_tokens=Lengths(mean=5),
                output_tokens=Lengths(mean=2),
                think_s=0.05,
            ),
            duration_s=2,
            processes=2,
        )
        talk = await run(plan)
    assert {request.verdict for request in talk.requests} == {Verdict.OK}
    by_session: dict[int | None, list[float]] = {}
    for request in talk.requests:
        by_session.setdefault(request.session, []).append(request.due_s)
    assert max(len(dues) for dues in by_session.values()) == 3
    assert all(dues == sorted(dues) for dues in by_session.values())
    async with silent_server() as port:
        leaving = RunPlan(
            target=target_at(port),
            arrivals=Constant(rate=20),
            workload=SHORT,
            duration_s=1,
            abandon_share=1.0,
            abandon_after_s=0.05,
        )
        left = await run(leaving)
    assert {request.verdict for request in left.requests} == {Verdict.ABANDONED}


@pytest.mark.slow
async def test_calibration_measures_the_client_alone() -> None:
    """The null server's overhead and the most that client and server do together are positive and in proportion."""
    plan = RunPlan(target=target_at(1), arrivals=Poisson(rate=20), workload=SHORT, duration_s=60)
    found = await calibrate(plan, seconds=0.5)
    assert 0 < found.overhead_ms_p50 <= found.overhead_ms_p99
    assert found.requests_per_s_max > found.requests_per_s > 10
    assert found.tokens_per_s_max == pytest.approx(5 * found.requests_per_s_max, rel=0.01)
    assert (found.output_tokens, found.processes) == (5, 1)


@pytest.mark.slow
async def test_measured_times_are_the_servers_own(tmp_path: Path) -> None:
    """Against a server that writes down when it sent each token: no median is off by more than what two processes
    on a busy machine keep each other waiting, and every gap and stream is there."""
    try:
        with running_exact_server(tmp_path, seed=7, ttft_ms=100, itl_ms=20) as server:
            plan = RunPlan(
                target=Target(base_url=server.base_url, model="exact"),
                arrivals=Poisson(rate=20),
                workload=Synthetic(input_tokens=Lengths(mean=20), output_tokens=Lengths(mean=40)),
                duration_s=5,
                processes=2,
            )
            record = await run(plan)
            server.stop()
            facts = true(server.truth())
    except RuntimeError as error:
        pytest.skip(str(error))
    assert {request.verdict for request in record.requests} == {Verdict.OK}
    for name, found in measured(record).items():
        assert len(found) == len(facts[name]) > 0, name
        ours, servers = found.percentile(0.5), facts[name].percentile(0.5)
        assert ours is not None
        assert servers is not None
        assert abs(ours - servers) < max(2.0, 0.1 * servers), name
