"""Sends one request until it is over: the only file here that knows HTTP.

Every try carries the same `x-request-id` and `idempotency-key`, also after a resume: the ledger shows them together,
and a service that keeps answers by that key can give the first one again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import Random

import httpx

from inferry.batch import patience
from inferry.batch.input_file import BatchRequest
from inferry.batch.record import (
    WORDS_MAX,
    Failure,
    Record,
    answered_entry,
    error_text,
    failed_entry,
    is_json_object,
    request_id,
)
from inferry.core.clock import Clock
from inferry.gateway.usage import Usage, read_usage

CONNECT_S = 10.0
ANSWER_BYTES_MAX = 256 * 1024 * 1024
"""An answer that never ends must not fill the memory; a thousand long embeddings are about 100 MB."""

CostOf = Callable[[str, Usage], int | None]
"""The cost of a model's tokens in billionths; None: no price is known."""
Pause = Callable[[float], Awaitable[bool]]
"""Waits so many seconds; False: the run is ending, and there is no next try."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run asks."""

    base_url: str
    """Without /v1."""
    headers: Mapping[str, str]
    retries_max: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Unsent:
    """The request is as good as never sent: it stays for later."""

    words: str
    """Why, by the service."""
    is_certain: bool = False
    """Other requests would fare alike."""
    is_refusal: bool = False
    """The service is there, and has answered so for a whole deadline."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class _Trouble:
    """No whole answer, and why."""

    end: patience.TryEnd
    failure: Failure


class Sender:
    """Asks one service over pooled connections."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        settings: Settings,
        run: str,
        clock: Clock,
        dice: Random,
        cost_of: CostOf,
    ) -> None:
        self._client = client
        self._settings = settings
        self._run = run
        self._clock = clock
        self._dice = dice
        self._cost_of = cost_of

    async def send(self, request: BatchRequest, pause: Pause) -> Record | Unsent:
        """The request's record, once it has an answer or has failed for good; Unsent, if it was not taken."""
        deadline_s = self._settings.deadline_s
        tries = refusals = 0
        taken_since_s = refused_since_s = self._clock.now_s()
        while True:
            now_s = self._clock.now_s()
            got = await self._try(request, max(0.0, deadline_s - (now_s - taken_since_s)))
            now_s = self._clock.now_s()
            so_far = patience.SoFar(tries, refusals, now_s - taken_since_s, now_s - refused_since_s)
            step = patience.decide_next(
                self._end_of(got), so_far, retries_max=self._settings.retries_max, deadline_s=deadline_s, dice=self._dice
            )  # fmt: skip
            match step:
                case patience.Done():
                    return self._record(request, got)
                case patience.KeyRefused():
                    return Unsent(_words(got), is_certain=True)
                case patience.NotTaken(is_certain=certain):
                    return Unsent(_words(got), certain, is_refusal=isinstance(got, _Reply))
                case patience.Wait(wait_s=wait_s, counts=counts):
                    if not await pause(wait_s):
                        return Unsent(_words(got))
                    if counts:
                        tries, refusals = tries + 1, 0
                        refused_since_s = self._clock.now_s()
                    else:
                        refusals += 1
                        taken_since_s = self._clock.now_s()

    async def _try(self, request: BatchRequest, left_s: float) -> _Reply | _Trouble:
        id = request_id(self._run, request.line)
        headers = {
            **self._settings.headers,
            "content-type": "application/json",
            "x-request-id": id,
            "idempotency-key": id,
        }
        url = self._settings.base_url + request.path
        try:
            async with asyncio.timeout(left_s):
                async with self._client.stream("POST", url, content=request.body, headers=headers) as answer:
                    body = await _read(answer)
                    return _Reply(answer.status_code, answer.headers, body)
        except TimeoutError:
            text = f"There was no whole answer within {self._settings.deadline_s:g} s."
            return _Trouble(patience.BrokeOff(), Failure("deadline_exceeded", text))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Trouble(patience.Unreachable(), Failure("unreachable", f"Nobody listens ({error})."))
        except httpx.InvalidURL as error:
            return _Trouble(
                patience.Unsendable(), Failure("bad_url", f"It has no URL that can be asked: {error}.")
            )
        except (httpx.HTTPError, _TooLarge) as error:
            text = f"The answer broke off: {error or type(error).__name__}."
            return _Trouble(patience.BrokeOff(), Failure("answer_broke", text))

    def _end_of(self, got: _Reply | _Trouble) -> patience.TryEnd:
        if isinstance(got, _Trouble):
            return got.end
        wait_s = retry_after_s(got.headers, self._clock.wall_s())
        return patience.Answered(got.status, wait_s, is_json_object(got.body))

    def _record(self, request: BatchRequest, got: _Reply | _Trouble) -> Record:
        if isinstance(got, _Trouble):
            return self._failed(request, got.failure)
        is_good = 200 <= got.status < 300
        if is_good and not is_json_object(got.body):
            text = f"The answer is no JSON object: {got.body[:WORDS_MAX].decode('utf-8', 'replace')}"
            return self._failed(request, Failure("bad_answer", text))
        seen_id = got.headers.get("x-request-id", request_id(self._run, request.line))
        entry = answered_entry(self._run, request.line, request.custom_id, got.status, seen_id, got.body)
        if not is_good:
            return Record(request.line, entry, str(got.status))
        usage = read_usage([got.body]) or Usage()
        cost_nano = self._cost_of(request.model, usage)
        return Record(
            request.line, entry, None, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, cost_nano
        )  # fmt: skip

    def _failed(self, request: BatchRequest, failure: Failure) -> Record:
        entry = failed_entry(self._run, request.line, request.custom_id, failure)
        return Record(request.line, entry, failure.code)


class _TooLarge(Exception):
    """The answer is longer than ANSWER_BYTES_MAX."""


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise _TooLarge(f"longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def retry_after_s(headers: Mapping[str, str], now_wall_s: float) -> float | None:
    """The seconds of `Retry-After` (RFC 9110, 10.2.3: a number or a date), never below 0; None: it says nothing."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now_wall_s
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _words(got: _Reply | _Trouble) -> str:
    """What a person is told of it."""
    if isinstance(got, _Trouble):
        return got.failure.message
    return f"{got.status}: {error_text(got.body)}"
