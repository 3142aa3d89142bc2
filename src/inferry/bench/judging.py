"""From an ask to the bytes that are sent, and from the bytes that came to a record with its verdict.

Pure. `encode` runs before the run's busy time and `read` after it, so that neither can spoil a clock.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from inferry.bench.dialects import sse
from inferry.bench.dialects.chunk_tokens import Counted, count
from inferry.bench.dialects.form import UNREADABLE, Dialect, Encoded, merged
from inferry.bench.dialects.heard import Heard
from inferry.bench.dialects.registry import DIALECTS
from inferry.bench.dialects.server_errors import error_in, message_of, shortened
from inferry.bench.plan import Target
from inferry.bench.records import Ask, Raw, RequestRecord
from inferry.bench.verdicts import BY_LENGTH, OK_STATUS, judge

_DONE = b"[DONE]"
_STREAM_TYPE = "text/event-stream"


def encode(target: Target, ask: Ask) -> Encoded:
    """The request for `ask`. Raises BadBenchPlan if the target's API can't be asked that."""
    dialect = DIALECTS[target.api]
    fields = merged(dialect.fields(target, ask), target.extra)
    return Encoded(
        path=dialect.path(target),
        body=msgspec.json.encode(fields),
        headers=dialect.headers,
    )


def read(target: Target, ask: Ask, raw: Raw, *, warmup: bool) -> RequestRecord:
    """What became of `ask`. An answer in one body counts as one chunk, at the time its last byte came."""
    dialect = DIALECTS[target.api]
    heard = _listen(dialect, target, raw) if raw.status == OK_STATUS else Heard()
    counted = count(heard, asked=_length(ask, heard)) if dialect.counts_tokens else Counted()
    verdict, reason = judge(
        ask, raw, heard, counted, choices=_choices(target), names_an_end=dialect.names_an_end
    )
    said = heard.said if dialect.counts_tokens else []
    answer = next((piece.at_s for piece in said if piece.answer_bytes), None)
    return RequestRecord(
        number=ask.number,
        verdict=verdict,
        reason=reason,
        warmup=warmup,
        due_s=raw.due_s,
        sent_s=raw.sent_s,
        connect_s=raw.connect_s,
        resent=raw.resent,
        first_byte_s=raw.first_byte_s,
        first_token_s=said[0].at_s if said else None,
        first_answer_s=answer,
        last_token_s=max(said[-1].at_s, counted.at_s[-1]) if said else None,
        ended_s=raw.ended_s,
        status=raw.status,
        input_tokens=ask.input_tokens if heard.input_tokens is None else heard.input_tokens,
        input_asked=ask.input_tokens,
        output_tokens=counted.sum if counted.tokens else max(heard.output_tokens or 0, 0),
        output_asked=ask.output_tokens,
        reasoning_tokens=counted.reasoning_tokens,
        hidden_tokens=counted.hidden_tokens,
        cached_tokens=heard.cached_tokens,
        shared_tokens=ask.shared_tokens,
        finish_reason=next(iter(heard.finishes.values()), None),
        token_source=counted.source,
        chunk_s=counted.at_s,
        chunk_tokens=counted.tokens,
        session=ask.session,
    )


def _length(ask: Ask, heard: Heard) -> int | None:
    """Tokens of an answer that nothing but its wanted length ended, all choices together; None: it was otherwise."""
    reasons = set(heard.finishes.values())
    if ask.output_tokens is None or not reasons or not reasons <= BY_LENGTH:
        return None
    return ask.output_tokens * len(heard.finishes)


def _choices(target: Target) -> int:
    wanted = target.extra.get("n")
    return wanted if isinstance(wanted, int) and wanted > 0 else 1


def _listen(dialect: Dialect, target: Target, raw: Raw) -> Heard:
    heard = Heard()
    if dialect.streams(target):
        _hear_stream(dialect, raw, heard)
    elif raw.pieces:
        heard = _hear_body(dialect, raw)
    return heard


def _hear_stream(dialect: Dialect, raw: Raw, heard: Heard) -> None:
    """Up to the first event that is an error or can't be read; what came before it stays noted."""
    silent = True
    for event in sse.events(raw.pieces, whole=raw.whole):
        silent = False
        if event.data == _DONE:
            heard.end_mark = True
            continue
        heard.error = message_of(event.data) if event.kind == "error" else error_in(event.data)
        if heard.error is None:
            heard.malformed = _misread(dialect.hear, event.data, event.at_s, heard)
        if heard.error is not None or heard.malformed is not None:
            return
    if silent and raw.whole:
        _hear_no_stream(raw, heard)


def _hear_no_stream(raw: Raw, heard: Heard) -> None:
    """A body without a single event: an error in one piece, a server that does not stream, or one that said nothing."""
    body = b"".join(piece for _, piece in raw.pieces)
    heard.error = error_in(body)
    if heard.error is None and body.strip() and not raw.content_type.startswith(_STREAM_TYPE):
        kind = raw.content_type or "no content-type"
        heard.malformed = f"a stream was asked for, and this came ({kind}): {message_of(body)}"


def _hear_body(dialect: Dialect, raw: Raw) -> Heard:
    """One body of JSON. That it can be read proves that it is whole, also where HTTP does not say so."""
    heard = Heard()
    body = b"".join(piece for _, piece in raw.pieces)
    heard.error = error_in(body)
    if heard.error is None:
        heard.malformed = _misread(dialect.hear_whole, body, raw.pieces[-1][0], heard)
    if heard.malformed is not None and not raw.whole:
        return Heard()
    heard.end_mark = heard.malformed is None
    return heard


def _misread(
    hear: Callable[[bytes, float, Heard], None], data: bytes, at_s: float, heard: Heard
) -> str | None:
    """Have `data` read. Returns why it can't be; None if all is well."""
    try:
        hear(data, at_s, heard)
    except UNREADABLE as error:
        return f"not the API's form ({error}): {shortened(data.decode('utf-8', 'replace'))}"
    return None
