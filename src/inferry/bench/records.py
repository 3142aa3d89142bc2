"""What is known of each request of a run: when things happened, what came, and how it is judged.

All times are seconds of the monotonic clock since the run's start, the same in all worker processes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from inferry.bench.plan import Api


class Verdict(StrEnum):
    """All but OK and ABANDONED are failures, and infinitely late."""

    OK = "ok"
    ABANDONED = "abandoned"  # by the client, as planned: in no percentile, and no failure
    CONNECT = "connect"  # no connection, or lost before the answer began
    HTTP_ERROR = "http_error"  # a status other than 200
    STREAM_ERROR = "stream_error"  # an error frame in the stream, whatever came after it
    TRUNCATED = "truncated"  # the connection ended before the answer did
    NO_FINISH = "no_finish"  # a proper end of the stream, and nobody said why the answer ends
    EMPTY = "empty"  # ended well, and said nothing
    WRONG_LENGTH = (
        "wrong_length"  # not as many tokens as asked for, though the end was said to be the length's
    )
    MALFORMED = "malformed"  # not HTTP, not JSON, not the API's form
    TIMEOUT = "timeout"
    UNSENT = "unsent"  # was due, and the client did not get to it


TokenSource = Literal["usage_per_chunk", "ids", "usage", "asked", "chunks", "none"]
"""How the tokens of a chunk are known: usage in every chunk; token ids; spread by the text over what usage says in
the end, or over what was asked for, of an answer that only its length ended; a chunk taken for a token, since nobody
says; no tokens in this API."""


class Ask(Struct, frozen=True, kw_only=True):
    """One request that is to be sent. Made from plan and seed alone, the same in every process."""

    number: int
    """From 0, in the order of the run."""
    due_s: float | None
    """When it is to be sent; None: when a user of the closed loop is free, or `think_s` after request `after`."""
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    """Instead of a text, for APIs that take them."""
    messages: tuple[tuple[str, str], ...] | None = None
    """Instead of a text: pairs of role and content. A text alone is one message of the user."""
    input_tokens: int | None = None
    """As asked for by the workload; None: not known."""
    output_tokens: int | None = None
    """At most, and with ignore_eos exactly. None: the engine's default."""
    shared_tokens: int = 0
    """Of the prompt's beginning, that an earlier request of the run had too: what a cache could have."""
    session: int | None = None
    after: int | None = None
    think_s: float = 0.0
    abandon_after_s: float | None = None


class Raw(Struct, frozen=True, kw_only=True):
    """An exchange as the client saw it, before anybody has read it. Bodies are read after the run's busy time."""

    number: int
    due_s: float
    """Of a closed loop: when its user was free."""
    sent_s: float | None = None
    """When the request was written to an open connection."""
    connect_s: float = 0.0
    """Spent on a new connection, before `sent_s`; 0: one was open."""
    resent: bool = False
    """The server closed an idle connection just then, and the request went out once more; `sent_s` is the first."""
    status: int | None = None
    content_type: str = ""
    pieces: tuple[tuple[float, bytes], ...] = ()
    """The body as it came, with the time of each read. Chunked framing is taken off."""
    first_byte_s: float | None = None
    """Of the head."""
    ended_s: float | None = None
    whole: bool = False
    """HTTP's own end was seen: Content-Length reached, or the last chunk."""
    trouble: Verdict | None = None
    """CONNECT, TIMEOUT, MALFORMED, ABANDONED, UNSENT: what the client itself knows."""
    reason: str = ""


class RequestRecord(Struct, frozen=True, kw_only=True):
    """One request, read and judged."""

    number: int
    verdict: Verdict
    reason: str = ""
    """Of a failure, for people."""
    warmup: bool = False
    due_s: float
    sent_s: float | None = None
    connect_s: float = 0.0
    resent: bool = False
    """As in Raw."""
    first_byte_s: float | None = None
    first_token_s: float | None = None
    """Text, reasoning or tool call; not a role, not an empty piece."""
    first_answer_s: float | None = None
    """The first that is no reasoning."""
    last_token_s: float | None = None
    ended_s: float | None = None
    status: int | None = None
    input_tokens: int | None = None
    """As the server counts them, else as asked."""
    input_asked: int | None = None
    output_tokens: int = 0
    """With the reasoning's."""
    output_asked: int | None = None
    reasoning_tokens: int = 0
    hidden_tokens: int = 0
    """Of the reasoning, what was counted and never shown. Part of the first chunk's tokens, as of `output_tokens`."""
    cached_tokens: int | None = None
    """Of the prompt, as the server says; None: it does not."""
    shared_tokens: int = 0
    finish_reason: str | None = None
    token_source: TokenSource = "none"
    chunk_s: tuple[float, ...] = ()
    """When chunks with tokens came."""
    chunk_tokens: tuple[float, ...] = ()
    """How many each had; whole numbers unless spread by the text."""
    session: int | None = None

    @property
    def failed(self) -> bool:
        return self.verdict not in (Verdict.OK, Verdict.ABANDONED)


class ClientAudit(Struct, frozen=True, kw_only=True):
    """How one worker process did its own part. Milliseconds; shares from 0 to 1."""

    process: int
    wall_s: float
    """Of the seconds in which there was load, see loop_lag; waiting for a last answer is none."""
    cpu_s: float
    """In those seconds; the lag's percentiles too."""
    lag_ms_p50: float
    lag_ms_p99: float
    lag_ms_max: float
    """By how much a timer of the event loop was late, looked at every few milliseconds; the most, of all seconds in
    which anything was sent or came."""
    slip_ms_p50: float
    slip_ms_p99: float
    slip_ms_max: float
    """From when requests were due to when they were sent, connecting not counted. Closed loops: 0."""
    connections: int
    """Opened in all."""
    unsent: int = 0
    idle_share: float = 0.0
    """Closed loops: of their users' time, that in which they were free and the client had made no request for them."""


class GpuSample(Struct, frozen=True, kw_only=True):
    """One look at one GPU: all that it draws, whoever computes there."""

    gpu: int
    """Its number on its machine."""
    power_w: float | None = None
    users: int = 1
    """Process groups that compute on it."""


class EngineSample(Struct, frozen=True, kw_only=True):
    """One look at one engine's metrics during a run, under our names."""

    at_s: float
    replica: str
    running: int | None = None
    waiting: int | None = None
    kv_cache_use: float | None = None
    preemptions: int | None = None
    """Since the engine's start, as are the hits and queries."""
    prefix_hit_tokens: int | None = None
    prefix_query_tokens: int | None = None
    power_w: float | None = None
    """Of all GPUs that it computes on; None: one of them does not tell, or nobody named them."""
    gpus: tuple[GpuSample, ...] = ()
    """Those GPUs: replicas that share one have it both, so powers of replicas have no sum."""


class RunRecord(Struct, frozen=True, kw_only=True):
    """All of one run: what the report is made from."""

    api: Api
    started_wall_s: float
    """For people; nothing is computed from it."""
    duration_s: float
    """From the first request that was due to the last end."""
    requests: tuple[RequestRecord, ...]
    audits: tuple[ClientAudit, ...] = ()
    samples: tuple[EngineSample, ...] = ()
    notes: tuple[str, ...] = ()
    stopped_early: bool = False
    """By a person: what was under way then is ABANDONED, what was not yet due is not here."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is, about once a second: all workers together."""

    at_s: float
    """Since the run's start; negative: it has not begun."""
    sent: int = 0
    ended: int = 0
    """With those that failed."""
    failed: int = 0
    """As far as the client knows before it has read any body."""
    under_way: int = 0
    unsent: int = 0
    first_piece_ms: float | None = None
    """Median, since the last look, from sending to the body's first bytes; None: nothing came."""
    reading: bool = False
    """All answers are in, and are now read and judged."""


class Calibration(Struct, frozen=True, kw_only=True):
    """What the client adds by itself: the same workload's shape against a server that answers at once."""

    overhead_ms_p50: float
    """From sending to the answer's first bytes: the client, that server, and the loopback between them."""
    overhead_ms_p99: float
    requests_per_s: float
    """At which this was measured."""
    requests_per_s_max: float
    """Ended per second with all connections kept busy: client and server shared the machine, so alone the client
    does more."""
    tokens_per_s_max: float
    """At the same time."""
    output_tokens: int
    """Of each answer."""
    processes: int
