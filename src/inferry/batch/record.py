"""What is kept of a request that is over: plain data between sender, journal, output and summary."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field

import msgspec

ID_PREFIX = "batch_req_"
WORDS_MAX = 500
"""Characters of a service's own words that a person is shown."""


class Record(msgspec.Struct, omit_defaults=True, frozen=True):
    """One request that is over, answered or given up. Its fields' names are the journal's format."""

    line: int
    entry: msgspec.Raw
    """Its line in the output, without the line's end."""
    failure: str | None = None
    """None: answered with 2xx. Otherwise the answer's status, or the code of what went wrong."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost_nano: int | None = None
    """Billionths of the ledger's currency; None: no price is known."""


class Failure(msgspec.Struct, frozen=True):
    """Why there is no answer at all."""

    code: str
    message: str


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Entry(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: Failure | None


def request_id(run: str, line: int) -> str:
    """The id that one line's request has in every try and after every resume: the ledger shows it."""
    return f"batch-{run}-{line}"


def answered_entry(
    run: str, line: int, custom_id: str, status: int, seen_id: str, body: bytes
) -> msgspec.Raw:
    """The output line of an answer, whatever its status. `body`: what came; text that is no JSON becomes a string."""
    response = _Response(status, seen_id, msgspec.Raw(one_line_json(body)))
    return _encoded(_Entry(f"{ID_PREFIX}{run}_{line}", custom_id, response, None))


def failed_entry(run: str, line: int, custom_id: str, failure: Failure) -> msgspec.Raw:
    """The output line of a request that nobody answered."""
    return _encoded(_Entry(f"{ID_PREFIX}{run}_{line}", custom_id, None, failure))


_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_text = msgspec.json.Decoder(str).decode


def failure_text(record: Record) -> str:
    """One failed request for people, on one line: `line 2 (its id): 400: too long`."""
    try:
        entry = _decode_entry(record.entry)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"line {record.line}: {record.failure}"
    if entry.error is not None:
        words = f"{entry.error.code}: {entry.error.message}"
    elif entry.response is not None:
        body = bytes(entry.response.body)
        with contextlib.suppress(msgspec.MsgspecError):
            body = _decode_text(body).encode()  # what came was no JSON
        words = f"{entry.response.status_code}: {error_text(body)}"
    else:
        words = str(record.failure)
    text = " ".join(f"line {record.line} ({entry.custom_id[:80]}): {words[:WORDS_MAX]}".split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def error_text(body: bytes) -> str:
    """The message of OpenAI's error object, or the beginning of whatever came."""
    try:
        message = msgspec.json.decode(body)["error"]["message"]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        message = body.decode("utf-8", "replace")
    return str(message)[:WORDS_MAX]


def is_json_object(body: bytes) -> bool:
    """Whether an answer's body is what every route of the API answers with."""
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def one_line_json(body: bytes) -> bytes:
    """`body` without line ends, its numbers as they were written."""
    try:
        msgspec.json.decode(body)  # `format` lets through what only looks like JSON
        return msgspec.json.format(body, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode(body.decode("utf-8", "replace"))


def _encoded(entry: _Entry) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(entry))


@dataclass(slots=True)
class Tally:
    """Sums over records."""

    completed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0
    unpriced: int = 0
    """Completed requests whose price is not known."""
    first_failed: Record | None = None
    """In the input's order."""

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def over(self) -> int:
        """Requests that need not be sent any more."""
        return self.completed + self.failed

    def add(self, record: Record) -> None:
        if record.failure is None:
            self.completed += 1
            self.unpriced += record.cost_nano is None
        else:
            self.failures[record.failure] += 1
            if self.first_failed is None or record.line < self.first_failed.line:
                self.first_failed = record
        self.prompt_tokens += record.prompt_tokens or 0
        self.cached_tokens += record.cached_tokens or 0
        self.completion_tokens += record.completion_tokens or 0
        self.cost_nano += record.cost_nano or 0
