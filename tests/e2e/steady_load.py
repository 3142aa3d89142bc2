"""Constant load on a running gateway, each answer checked to its last token: what hot reload must not disturb."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from types import TracebackType
from urllib.parse import urlsplit

PLAIN_TOKENS = 4
STREAM_TOKENS = 40


class SteadyLoad:
    """Clients that ask one after the other, each on connections of its own, until the block ends.

    `faults` holds one line for each answer that was not exactly what was asked for. The simulated engine's
    answers have as many tokens as `max_tokens` says, so that one which was cut anywhere is found.
    """

    def __init__(self, url: str, key: str | None = None, *, plain: int = 2, streams: int = 4) -> None:
        self._place = urlsplit(url).netloc
        self._headers = {"content-type": "application/json"}
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"
        self._done = threading.Event()
        self.answered: Counter[str] = Counter()
        self.faults: list[str] = []
        self.generations: set[int] = set()
        self._threads = [
            threading.Thread(target=self._ask_forever, args=(number >= plain,))
            for number in range(plain + streams)
        ]

    def __enter__(self) -> SteadyLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)

    def _ask_forever(self, stream: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        asked = 0
        while not self._done.is_set():
            # New connections now and then, so that all gateway processes are met.
            if connection is None or asked % 5 == 0:
                if connection is not None:
                    connection.close()
                connection = http.client.HTTPConnection(self._place, timeout=60)
            asked += 1
            kind = "stream" if stream else "plain"
            try:
                problem = self._ask_stream(connection) if stream else self._ask_plain(connection)
            except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
                problem = repr(error)
                connection = None
            if problem is None:
                self.answered[kind] += 1
            else:
                self.faults.append(f"{kind}: {problem}")
        if connection is not None:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, **fields: object) -> http.client.HTTPResponse:
        messages = [{"role": "user", "content": "Tell me a story about the sea."}]
        body = json.dumps({"model": "chat", "messages": messages, "ignore_eos": True, **fields})
        connection.request("POST", "/v1/chat/completions", body, self._headers)
        answer = connection.getresponse()
        self.generations.add(int(answer.headers.get("x-inferry-generation", "0")))
        return answer

    def _ask_plain(self, connection: http.client.HTTPConnection) -> str | None:
        answer = self._send(connection, max_tokens=PLAIN_TOKENS)
        body = answer.read()
        if answer.status != 200:
            return f"{answer.status} {body[:300]!r}"
        found = json.loads(body)
        reason, tokens = found["choices"][0]["finish_reason"], found["usage"]["completion_tokens"]
        return None if (reason, tokens) == ("length", PLAIN_TOKENS) else f"{reason}, {tokens} tokens"

    def _ask_stream(self, connection: http.client.HTTPConnection) -> str | None:
        answer = self._send(
            connection, max_tokens=STREAM_TOKENS, stream=True, stream_options={"include_usage": True}
        )
        text = answer.read().decode()
        if answer.status != 200:
            return f"{answer.status} {text[:300]}"
        events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        if events[-1] != "[DONE]":
            return f"ends with {events[-1][:300]}"
        usage = json.loads(events[-2])["usage"]
        reason = json.loads(events[-3])["choices"][0]["finish_reason"]
        tokens = usage["completion_tokens"]
        return None if (reason, tokens) == ("length", STREAM_TOKENS) else f"{reason}, {tokens} tokens"
