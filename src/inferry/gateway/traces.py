"""OpenTelemetry spans, made after the fact from a request's outcome and sent in batches from a thread.

    POST /v1/chat/completions   server span: from the whole request received to its end
    ├── queue                   waiting for its turn, if it waited
    └── chat NAME               client span: the engine's part; the engine's own spans hang below it
        └── stream              from the first event sent on to the last

Names of attributes: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ and .../http/http-spans/;
ours begin with `inferry.`. Prompts, answers and credentials are in none of them.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from inferry import __version__
from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import Traces as TraceSettings
from inferry.core.outcome import Ending, Outcome
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from inferry.gateway.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanKind
    from opentelemetry.util.types import AttributeValue

log = structlog.get_logger()

WAITING_MAX = 8192
"""Requests whose spans are not sent yet: about 10 MB. More push out the oldest."""
BATCH = 512
EXPORT_EVERY_S = 1.0
EXPORT_TIMEOUT_S = 5.0
_OPERATIONS = {
    CHAT.path: "chat",
    RESPONSES.path: "chat",
    MESSAGES.path: "chat",
    COMPLETIONS.path: "text_completion",
    EMBEDDINGS.path: "embeddings",
}

_Record = tuple[Outcome, TraceContext, str]


class Traces:
    """Takes outcomes from the event loop and sends their spans from a thread of its own.

    While the collector is away, what waits is bounded and what could not be sent is dropped and counted.
    """

    def __init__(self, settings: TraceSettings) -> None:
        """Starts the thread. Raises ConfigError if the `otel` extra is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        except ImportError as error:
            raise ConfigError(
                "gateway.traces needs the 'otel' extra: pip install 'inferry[otel]'. Or leave gateway.traces out."
            ) from error
        # What goes wrong is logged here, once per change; the library would log every batch.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._endpoint = settings.endpoint
        self._exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_TIMEOUT_S)
        about = {"service.name": "inferry", "service.version": __version__}
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, as everywhere.
        self._resource = Resource(about).merge(OTELResourceDetector().detect())
        self._waiting: deque[_Record] = deque(maxlen=WAITING_MAX)
        self._wake = threading.Event()
        self._bits = random.Random().getrandbits
        self._closing = False
        self._collector_is_away = False
        self.dropped = 0
        """Requests without spans: pushed out while waiting, or refused by the collector."""
        self._thread = threading.Thread(target=self._send_forever, name="inferry-traces", daemon=True)
        self._thread.start()

    def record(self, outcome: Outcome, context: TraceContext, client: str) -> None:
        """Keep a request for sending, if its trace is sampled. Never blocks. `client`: its address."""
        if not context.sampled:
            return
        waiting = self._waiting
        if len(waiting) == WAITING_MAX:
            self.dropped += 1
        waiting.append((outcome, context, client))
        if len(waiting) == BATCH:
            self._wake.set()

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what waits, for at most about `timeout_s`. Blocks: call it from a thread."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # also ends the waiting for another try
        self._thread.join(EXPORT_TIMEOUT_S)

    # --- in the thread --------------------------------------------------------------------------------

    def _send_forever(self) -> None:
        while not self._closing:
            self._wake.wait(EXPORT_EVERY_S)
            self._wake.clear()
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        waiting = self._waiting
        while waiting:
            records = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
            spans = [span for record in records for span in self.spans_of(*record)]
            is_away = self._exporter.export(spans) is not SpanExportResult.SUCCESS
            if is_away:
                self.dropped += len(records)
            if is_away is not self._collector_is_away:
                self._collector_is_away = is_away
                event = "traces_not_accepted" if is_away else "traces_accepted_again"
                log.warning(event, endpoint=self._endpoint, dropped=self.dropped)
            if is_away:
                return

    def spans_of(self, outcome: Outcome, context: TraceContext, client: str) -> Sequence[ReadableSpan]:
        """The spans of one request."""
        from opentelemetry.trace import SpanKind

        # Whole numbers from here on: the wall clock in nanoseconds has more digits than a float.
        start_ns = received_ns = _ns(outcome.received_wall_s)
        end_ns = received_ns + _ns(outcome.duration_s)
        span_id, upstream_id = context.span_id, context.upstream_id
        make = self._span
        name = f"POST {outcome.route}"
        parent_id = context.parent_id
        about = _server_attributes(outcome, client)
        spans = [make(context, span_id, parent_id, name, SpanKind.SERVER, start_ns, end_ns, outcome, about)]
        if outcome.queue_s > 0:
            begun_ns = min(end_ns, received_ns + _ns(outcome.queue_s))
            spans.append(make(context, 0, span_id, "queue", SpanKind.INTERNAL, start_ns, begun_ns))
            start_ns = begun_ns
        if outcome.attempts > 0:
            name = f"{_operation(outcome)} {outcome.deployment}"
            about = _engine_attributes(outcome)
            spans.append(
                make(context, upstream_id, span_id, name, SpanKind.CLIENT, start_ns, end_ns, outcome, about)
            )
            if outcome.ttft_s is not None:
                first_ns = min(end_ns, received_ns + _ns(outcome.ttft_s))
                spans.append(make(context, 0, upstream_id, "stream", SpanKind.INTERNAL, first_ns, end_ns))
        return spans

    def _span(
        self,
        context: TraceContext,
        span_id: int,
        parent_id: int,
        name: str,
        kind: SpanKind,
        start_ns: int,
        end_ns: int,
        outcome: Outcome | None = None,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

        def in_trace(each: int, is_remote: bool = False) -> SpanContext:
            return SpanContext(context.trace_id, each, is_remote, TraceFlags(TraceFlags.SAMPLED))

        failed = outcome is not None and outcome.ending is Ending.FAILED
        return ReadableSpan(
            name,
            in_trace(span_id or self._bits(64) or 1),
            in_trace(parent_id, parent_id == context.parent_id) if parent_id else None,
            self._resource,
            attributes,
            kind=kind,
            status=Status(StatusCode.ERROR) if failed else Status(StatusCode.UNSET),
            start_time=start_ns,
            end_time=end_ns,
        )


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _operation(outcome: Outcome) -> str:
    return _OPERATIONS.get(outcome.route, outcome.route.rpartition("/")[2])


def _known(attributes: dict[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}


def _server_attributes(outcome: Outcome, client: str) -> dict[str, AttributeValue]:
    return _known(
        {
            "http.request.method": "POST",
            "http.route": outcome.route,
            "url.path": outcome.route,
            "http.response.status_code": outcome.status,
            "client.address": client,
            "error.type": outcome.error_code,
            "inferry.request_id": outcome.request_id,
            "inferry.ending": outcome.ending.value,
            "inferry.deployment": outcome.deployment,
            "inferry.tenant": outcome.tenant,
            "inferry.key_id": outcome.key_id,
        }
    )


def _engine_attributes(outcome: Outcome) -> dict[str, AttributeValue]:
    return _known(
        {
            "gen_ai.operation.name": _operation(outcome),
            "gen_ai.provider.name": outcome.engine,
            "gen_ai.request.model": outcome.model or outcome.deployment,
            "gen_ai.request.stream": outcome.stream,
            "gen_ai.response.finish_reasons": [outcome.finish_reason] if outcome.finish_reason else None,
            "gen_ai.response.time_to_first_chunk": outcome.ttft_s,
            "gen_ai.usage.input_tokens": outcome.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": outcome.cached_tokens,
            "gen_ai.usage.output_tokens": outcome.completion_tokens,
            "gen_ai.usage.reasoning.output_tokens": outcome.reasoning_tokens,
            "error.type": outcome.error_code,
            "inferry.replica": outcome.replica_id,
            "inferry.attempts": outcome.attempts,
            "inferry.resumes": outcome.resumes,
            "inferry.usage_from": outcome.usage_from.value,
        }
    )
