"""Trace contexts, and spans as a collector gets them."""

from __future__ import annotations

import contextlib
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import structlog

from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import Traces as TraceSettings
from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.gateway.trace_context import TraceContext, TraceContexts

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def begin(*headers: tuple[bytes, bytes], sample: float = 1.0) -> TraceContext:
    return TraceContexts(sample, random.Random(7)).begin(headers)


# --- contexts -----------------------------------------------------------------------------------------


def test_the_callers_trace_goes_on() -> None:
    """Same trace id, the caller's span as parent, and the engine is told of a span of ours."""
    context = begin((b"traceparent", PARENT), (b"tracestate", b"a=1"), (b"tracestate", b"b=2"))
    assert context.trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
    assert context.parent_id == 0x00F067AA0BA902B7
    line, state = context.lines.decode().splitlines()
    match = re.fullmatch(r"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-([0-9a-f]{16})-01", line)
    assert match is not None
    assert int(match[1], 16) == context.upstream_id
    assert len({context.parent_id, context.span_id, context.upstream_id}) == 3
    assert state == "tracestate: a=1,b=2"


@pytest.mark.parametrize(("flags", "sampled"), [(b"01", True), (b"00", False), (b"03", True), (b"02", False)])
@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_the_callers_decision_to_sample_counts(flags: bytes, sampled: bool, sample: float) -> None:
    """Whether a trace is recorded is decided once, by whoever began it; our share has no say."""
    context = begin((b"traceparent", PARENT[:-2] + flags), sample=sample)
    assert context.sampled is sampled
    assert context.lines.endswith(b"-01\r\n" if sampled else b"-00\r\n")


def test_our_share_decides_for_traces_that_begin_here() -> None:
    """About `sample` of the requests without a caller's trace are recorded."""
    contexts = TraceContexts(0.25, random.Random(1))
    count = sum(contexts.begin([]).sampled for _ in range(4000))
    assert 850 < count < 1150
    assert not any(TraceContexts(0.0).begin([]).sampled for _ in range(100))
    assert all(TraceContexts(1.0).begin([]).sampled for _ in range(100))


@pytest.mark.parametrize(
    "junk",
    [
        b"", b"00-ab", PARENT.upper(), PARENT + b"-x", b"ff" + PARENT[2:], PARENT[:-3],
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        PARENT + b"\r\nx: y", b" " + PARENT,
    ],
)  # fmt: skip
def test_a_broken_parent_begins_a_new_trace(junk: bytes) -> None:
    """What is no traceparent is dropped, with the state that belongs to it."""
    context = begin((b"traceparent", junk), (b"tracestate", b"a=1"))
    assert context.parent_id == 0
    assert context.state == b""
    assert context.lines.count(b"\r\n") == 1


def test_two_parents_are_none() -> None:
    """A request with two traceparent headers begins a new trace."""
    assert begin((b"traceparent", PARENT), (b"traceparent", PARENT)).parent_id == 0


def test_later_versions_are_read_as_far_as_they_are_known() -> None:
    """A higher version may carry more; its first fields mean what they mean today."""
    context = begin((b"traceparent", b"01" + PARENT[2:] + b"-more"))
    assert context.parent_id == 0x00F067AA0BA902B7
    assert context.lines.startswith(b"traceparent: 00-")


def test_ids_differ() -> None:
    """No two requests share an id, nor do two gateways that started alike."""
    seen = {TraceContexts(1.0).begin([]).trace_id for _ in range(100)}
    one = TraceContexts(1.0)
    seen |= {one.begin([]).trace_id for _ in range(100)}
    assert len(seen) == 200


# --- spans at a collector -----------------------------------------------------------------------------


@dataclass
class Collector:
    """An OTLP/HTTP sink. `status` is what it answers; while `hold` is clear, it does not answer at all."""

    url: str = ""
    status: int = 200
    hold: threading.Event = field(default_factory=threading.Event)
    requests: int = 0
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline_s, "the collector did not get it"
            time.sleep(0.01)

    def named(self, name: str) -> Any:
        [span] = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.proto", reason="needs the 'otel' extra")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    state = Collector()
    state.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.requests += 1
            body = self.rfile.read(int(self.headers["content-length"]))
            state.hold.wait(20)
            if state.status == 200:
                sent = ExportTraceServiceRequest.FromString(body)
                for resource in sent.resource_spans:
                    state.resources.append(attributes(resource.resource))
                    for scope in resource.scope_spans:
                        state.spans += scope.spans
            with contextlib.suppress(OSError):
                self.send_response(state.status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        state.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def sending(url: str, close_s: float = 0.5) -> Iterator[Any]:
    from inferry.gateway.traces import Traces

    traces = Traces(TraceSettings(endpoint=url))
    try:
        yield traces
    finally:
        traces.close(timeout_s=close_s)
        assert not traces._thread.is_alive()


def attributes(of: Any) -> dict[str, Any]:
    found = {}
    for each in of.attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        found[each.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


def outcome(**changes: Any) -> Outcome:
    facts: dict[str, Any] = {
        "id": "o-1", "request_id": "req-1", "route": "/v1/chat/completions", "ending": Ending.COMPLETED,
        "status": 200, "received_wall_s": 1_700_000_000.0, "duration_s": 2.0, "deployment": "chat", "model": "gpt-4o",
        "engine": "vllm", "replica_id": "chat-0", "tenant": "team", "key_id": "key_1", "stream": True,
        "queue_s": 0.25, "ttft_s": 0.5, "attempts": 1, "prompt_tokens": 7, "cached_tokens": 3,
        "completion_tokens": 9, "usage_from": UsageFrom.ENGINE, "finish_reason": "stop",
    }  # fmt: skip
    return Outcome(**facts | changes)


def test_a_request_becomes_a_tree_of_spans(collector: Collector) -> None:
    """Server span below the caller's, queue and engine below it, stream below the engine's; times from the outcome."""
    context = begin((b"traceparent", PARENT))
    with sending(collector.url) as traces:
        traces.record(outcome(), context, "203.0.113.9")
        collector.wait_for(lambda: len(collector.spans) == 4)
    server, queue = collector.named("POST /v1/chat/completions"), collector.named("queue")
    engine, stream = collector.named("chat chat"), collector.named("stream")
    assert {span.trace_id.hex() for span in collector.spans} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert server.parent_span_id.hex() == "00f067aa0ba902b7"
    assert queue.parent_span_id == engine.parent_span_id == server.span_id
    assert stream.parent_span_id == engine.span_id
    assert int(engine.span_id.hex(), 16) == context.upstream_id
    start = 1_700_000_000 * 10**9
    times = [
        (span.start_time_unix_nano - start, span.end_time_unix_nano - start)
        for span in (server, queue, engine, stream)
    ]
    assert times == [(0, 2 * 10**9), (0, 250_000_000), (250_000_000, 2 * 10**9), (500_000_000, 2 * 10**9)]
    kinds = type(server).SpanKind
    assert (server.kind, engine.kind) == (kinds.SPAN_KIND_SERVER, kinds.SPAN_KIND_CLIENT)
    assert collector.resources[0]["service.name"] == "inferry"


def test_attributes_follow_the_conventions(collector: Collector) -> None:
    """HTTP's names on the server span, gen_ai's on the engine's; no name of ours hides a standard one."""
    with sending(collector.url) as traces:
        traces.record(outcome(), begin(), "203.0.113.9")
        collector.wait_for(lambda: len(collector.spans) == 4)
    server = attributes(collector.named("POST /v1/chat/completions"))
    assert server["http.route"] == "/v1/chat/completions"
    assert server["http.response.status_code"] == 200
    assert server["client.address"] == "203.0.113.9"
    engine = attributes(collector.named("chat chat"))
    assert {name: value for name, value in engine.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.output_tokens": 9,
    }


def test_names_are_the_semantic_conventions_own() -> None:
    """Each gen_ai name that is sent is one of the conventions'."""
    conventions = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    from inferry.gateway.traces import _engine_attributes

    known = {value for name, value in vars(conventions).items() if name.startswith("GEN_AI_")}
    sent = {name for name in _engine_attributes(outcome(reasoning_tokens=1)) if name.startswith("gen_ai.")}
    assert len(sent) == 10
    assert sent <= known


def test_a_refused_request_has_one_span(collector: Collector) -> None:
    """What never reached an engine has a server span only, and a client's mistake is no error of ours."""
    with sending(collector.url) as traces:
        refused = {"queue_s": 0.0, "ttft_s": None, "attempts": 0, "deployment": None}
        traces.record(
            outcome(ending=Ending.REJECTED, status=400, error_code="invalid_request", **refused),
            begin(),
            "::1",
        )
        traces.record(
            outcome(
                ending=Ending.FAILED, status=502, error_code="engine_broke", route="/v1/embeddings", **refused
            ),
            begin(),
            "::1",
        )
        collector.wait_for(lambda: len(collector.spans) == 2)
    codes = type(collector.spans[0].status).StatusCode
    assert collector.named("POST /v1/chat/completions").status.code == codes.STATUS_CODE_UNSET
    failed = collector.named("POST /v1/embeddings")
    assert failed.status.code == codes.STATUS_CODE_ERROR
    assert attributes(failed)["error.type"] == "engine_broke"


def test_traces_that_are_not_sampled_are_not_sent(collector: Collector) -> None:
    """Only the sampled one of two requests arrives."""
    with sending(collector.url) as traces:
        traces.record(outcome(request_id="no"), begin((b"traceparent", PARENT[:-2] + b"00")), "::1")
        traces.record(outcome(request_id="yes"), begin((b"traceparent", PARENT)), "::1")
        collector.wait_for(lambda: len(collector.spans) == 4)
    assert attributes(collector.named("POST /v1/chat/completions"))["inferry.request_id"] == "yes"


def test_what_waits_at_the_end_is_sent(collector: Collector) -> None:
    """close() sends what was recorded just before it."""
    with sending(collector.url, close_s=30) as traces:
        for number in range(1000):
            traces.record(outcome(request_id=f"r{number}"), begin(), "::1")
    assert len(collector.spans) == 4000
    assert traces.dropped == 0


def test_a_collector_that_hangs_costs_no_request_and_bounded_memory(collector: Collector) -> None:
    """While nothing is accepted, recording goes on at once, and at most WAITING_MAX requests are kept."""
    from inferry.gateway.traces import BATCH, WAITING_MAX

    collector.hold.clear()
    many, context = WAITING_MAX * 2, begin()
    with sending(collector.url) as traces:
        for _ in range(BATCH):
            traces.record(outcome(), context, "::1")
        collector.wait_for(lambda: collector.requests > 0)  # the thread waits for the answer from now on
        one = outcome()
        for _ in range(many):
            traces.record(one, context, "::1")
        assert len(traces._waiting) == WAITING_MAX
        assert traces.dropped == many - WAITING_MAX
        traces._waiting.clear()
        collector.hold.set()


def test_a_collector_that_is_away_is_told_once(collector: Collector) -> None:
    """Refusals drop and count; the log has one line when it begins and one when it is over."""
    collector.status = 400
    with structlog.testing.capture_logs() as logs, sending(collector.url) as traces:
        for expected in (1, 2):
            traces.record(outcome(), begin(), "::1")
            collector.wait_for(lambda: traces.dropped == expected)  # noqa: B023 - used within the turn
        collector.status = 200
        traces.record(outcome(), begin(), "::1")
        collector.wait_for(lambda: len(collector.spans) == 4)
    assert [entry["event"] for entry in logs] == ["traces_not_accepted", "traces_accepted_again"]


def test_without_the_extra_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces in the file without OpenTelemetry installed: an error with the line for pip."""
    from inferry.gateway.traces import Traces

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"pip install 'inferry\[otel\]'"):
        Traces(TraceSettings(endpoint="http://127.0.0.1:1/v1/traces"))
