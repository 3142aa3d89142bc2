"""The upstream and the client in Python, for machines without a C compiler: same words, same answers, slower.

fallback.py upstream
fallback.py load PORT CONNECTIONS REQUESTS TOKENS STREAM RATE_PER_S < request
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httptools
import uvloop

_CHUNK = b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":['
_TOKEN = _CHUNK + b'{"index":0,"delta":{"content":" tok~"},"logprobs":null,"finish_reason":%b}]}\n\n'
_PLAIN = b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there tok~"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":50,"total_tokens":53,"completion_tokens":3}}'  # fmt: skip
_MODELS = (
    b'{"object":"list","data":[{"id":"bench","object":"model","created":1700000000,"owned_by":"bench"}]}'
)


class _State:
    def __init__(self) -> None:
        self.interval_s = 0.01
        self.counts = [0, 0]
        self.open = 0
        self.number = 0


class _Upstream(asyncio.Protocol):
    def __init__(self, state: _State, endpoint: int) -> None:
        self._state, self._endpoint = state, endpoint
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body, url, state = self._body, self._url, self._state
        self._body = self._url = b""
        if url.startswith(b"/bench/interval/"):
            state.interval_s = int(url[16:]) / 1e6
        if url == b"/bench/counts":
            self._answer(json.dumps({"requests": state.counts, "streams_open": state.open}).encode())
        elif url.startswith(b"/v1/models"):
            self._answer(_MODELS)
        elif not url.startswith(b"/v1/chat/completions"):
            self._answer(b'{"status":"ok","model_path":"bench"}')
        else:
            state.counts[self._endpoint] += 1
            self._chat(json.loads(body))

    def _answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)

    def _chat(self, asked: dict[str, Any]) -> None:
        if not asked.get("stream"):
            self._answer(_PLAIN)
            return
        tokens = asked.get("max_tokens") or asked.get("max_completion_tokens") or 16
        usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        state = self._state
        state.open += 1
        state.number += 1
        wait_s = state.number * 0.6180339887 % 1 * state.interval_s
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        asyncio.get_running_loop().call_later(wait_s, self._token, head, tokens, tokens, usage)

    def _token(self, before: bytes, left: int, tokens: int, usage: bool) -> None:
        if self._transport.is_closing():
            self._state.open -= 1
            return
        last = left == 1
        parts = [before, _chunk(_TOKEN % (b'"length"' if last else b"null"))]
        if last:
            counts = b"%d,%b:%d,%b:%d" % (50, b'"total_tokens"', 50 + tokens, b'"completion_tokens"', tokens)
            if usage:
                parts.append(_chunk(_CHUNK + b'],"usage":{"prompt_tokens":' + counts + b"}}\n\n"))
            parts += [_chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]
            self._state.open -= 1
        self._transport.write(b"".join(parts))
        if not last:
            loop = asyncio.get_running_loop()
            loop.call_later(self._state.interval_s, self._token, b"", left - 1, tokens, usage)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _upstream() -> None:
    loop, state = asyncio.get_running_loop(), _State()
    servers = [await loop.create_server(lambda at=at: _Upstream(state, at), "127.0.0.1", 0) for at in (0, 1)]  # type: ignore[misc]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until whoever started this is gone
    for server in servers:
        server.close()


class _Client(asyncio.Protocol):
    """One connection. Told to begin a request, it says when the answer is over."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._due_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def begin(self, due_s: float) -> None:
        self._due_s, self._first_s, self._body = due_s, 0.0, bytearray()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        self._first_s = self._first_s or time.monotonic()
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        assert self._due_s is not None
        due_s, self._due_s = self._due_s, None
        run, status, tokens = self._run, self._parser.get_status_code(), self._body.count(b"~")
        failure = ""
        if status != 200:
            failure = f"status {status}, ending in {bytes(self._body[-64:]).decode(errors='replace')}"
        elif tokens != run.tokens:
            failure = f"{tokens} tokens of {run.tokens}"
        elif run.is_stream and b"[DONE]" not in self._body[-64:]:
            failure = "no [DONE]"
        run.over(self, due_s, self._first_s, tokens, failure)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due_s is not None:
            self._run.over(None, self._due_s, 0.0, 0, "the connection closed before the answer was whole")


class _Run:
    def __init__(self, words: list[str], request: bytes) -> None:
        self._port, self._connections, self._wanted, self.tokens, stream = map(int, words[:5])
        self.is_stream, self._rate_per_s, self.request = bool(stream), float(words[5]), request
        self._begun = self._ended = self._failed = self._tokens_seen = 0
        self._first_failure = ""
        self._latencies_s: list[float] = []
        self._firsts_s: list[float] = []
        self._idle: list[_Client] = []
        self._done = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        clients = [
            (await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._port))[1]
            for _ in range(self._connections)
        ]
        self._start_s = time.monotonic()
        for client in clients:
            self._go_on(client)
        if self._rate_per_s:
            self._begin_due()
        await self._done.wait()
        wall_s = time.monotonic() - self._start_s
        return {
            "requests": self._ended, "failed": self._failed, "first_failure": self._first_failure, "reconnects": 0,
            "tokens": self._tokens_seen, "wall_s": wall_s, "cpu_s": time.process_time(),
            "p50_us": _percentile_us(self._latencies_s, 0.5), "p99_us": _percentile_us(self._latencies_s, 0.99),
            "max_us": _percentile_us(self._latencies_s, 1.0), "first_p50_us": _percentile_us(self._firsts_s, 0.5),
            "first_p99_us": _percentile_us(self._firsts_s, 0.99),
        }  # fmt: skip

    def over(self, client: _Client | None, due_s: float, first_s: float, tokens: int, failure: str) -> None:
        self._ended += 1
        self._tokens_seen += tokens
        if failure:
            self._failed += 1
            self._first_failure = self._first_failure or failure
        else:
            self._latencies_s.append(time.monotonic() - due_s)
            self._firsts_s.append(first_s - due_s)
        if self._ended == self._wanted or client is None:
            self._failed += self._wanted - self._ended
            self._done.set()
        else:
            self._go_on(client)

    def _go_on(self, client: _Client) -> None:
        if self._rate_per_s:
            self._idle.append(client)
        elif self._begun < self._wanted:
            self._begun += 1
            client.begin(time.monotonic())

    def _begin_due(self) -> None:
        while self._begun < self._wanted and self._idle:
            due_s = self._start_s + self._begun / self._rate_per_s
            if due_s > time.monotonic():
                break
            self._begun += 1
            self._idle.pop().begin(due_s)
        if self._begun < self._wanted:
            asyncio.get_running_loop().call_later(0.0005, self._begin_due)


def _percentile_us(values_s: list[float], share: float) -> float:
    ordered = sorted(values_s)
    return ordered[int(share * (len(ordered) - 1) + 0.5)] * 1e6 if ordered else 0.0


async def _load(words: list[str], request: bytes) -> None:
    print(json.dumps(await _Run(words, request).run()))


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        uvloop.run(_upstream())
    else:
        uvloop.run(_load(sys.argv[2:], sys.stdin.buffer.read()))
