"""Simulated engines behind a real router, a trace replayed at it over HTTP, and what engines and client saw."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from benchmarks.gateway.contenders import free_port, stop, wait_ready
from inferry.core.load_traces import TracedRequest
from inferry.simulate.replay import quantile
from inferry.simulate.timing import EngineTiming

BLOCK_CHARS_PER_TOKEN = 17
"""A space and the 16 letters of the simulated engine's longest token: with 64 tokens per block of a trace, a block
has about 1 KB of text, half of what 512 tokens of English have."""
ANSWER_LIMIT_S = 120.0
_FILLER = " abcdefghijklmnop"
_CACHED = re.compile(rb'"cached_tokens":\s*(\d+)')
_PROMPT_TOTAL = re.compile(r"^vllm:prompt_tokens_total\{[^}]*\} (\S+)", re.MULTILINE)
_CACHED_TOTAL = re.compile(r"^vllm:prompt_tokens_cached_total\{[^}]*\} (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much smaller than the simulation everything is: one token stands for `tokens`, one second for `time`."""

    tokens: int = 8
    time: float = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one request. Seconds since it was due."""

    ttft_s: float | None
    """None: it failed."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one contender, times as in the simulation: stretched back by the scale."""

    name: str
    hit_ratio: float
    imbalance: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    failed: int
    late_p99_s: float
    """How late the client sent requests, of its own doing: not stretched."""


@contextlib.contextmanager
def engines(count: int, scale: Scale, timing: EngineTiming, log: Path) -> Iterator[list[int]]:
    """Ports of `count` simulated engines with empty caches, which are gone afterwards."""
    ports = [free_port() for _ in range(count)]
    started: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as out:
        try:
            for port in ports:
                words = [sys.executable, "-m", "inferry.testing.simulated_engine", "--port", str(port)]
                words += ["--served-name", "bench", "--parallel", str(timing.sequences_max)]
                words += ["--context-tokens", "65536", "--ttft-ms", "0"]
                words += ["--itl-ms", str(timing.step_s * 1000 * scale.tokens / scale.time)]
                words += [
                    "--prefill-tokens-per-s",
                    str(timing.prefill_tokens_per_s / scale.tokens * scale.time),
                ]
                words += ["--kv-tokens", str(timing.kv_tokens // scale.tokens)]
                words += ["--step-tokens-max", str(timing.step_tokens_max // scale.tokens)]
                started.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
            for process, port in zip(started, ports, strict=True):
                wait_ready(process, port, {})
            yield ports
        finally:
            for process in started:
                stop(process)


def body_of(request: TracedRequest, scale: Scale) -> bytes:
    """A chat request whose prompt begins like those of others exactly as far as the trace says."""
    block_tokens = 512 // scale.tokens
    left = max(request.prompt_tokens // scale.tokens, 1)
    parts = []
    for block in request.blocks:
        tokens = min(left, block_tokens)
        parts.append(f" {block:016x}" + _FILLER * (tokens - 1))
        left -= tokens
        if not left:
            break
    answer_tokens = max(request.answer_tokens // scale.tokens, 1)
    return json.dumps(
        {
            "model": "bench",
            "messages": [{"role": "user", "content": "".join(parts)}],
            "max_tokens": answer_tokens,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()


def replay_at(
    port: int, ports: Sequence[int], trace: Sequence[TracedRequest], speed: float, scale: Scale, name: str
) -> Figures:
    """Send the trace's requests when they are due, and read what the engines counted meanwhile."""
    before = [_counted(each) for each in ports]
    outcomes, late_s = asyncio.run(_send_all(port, trace, speed * scale.time, scale))
    after = [_counted(each) for each in ports]
    prompt = [now[0] - then[0] for now, then in zip(after, before, strict=True)]
    cached = [now[1] - then[1] for now, then in zip(after, before, strict=True)]
    computed = [all_of - had for all_of, had in zip(prompt, cached, strict=True)]
    ttfts_s = sorted(each.ttft_s * scale.time for each in outcomes if each.ttft_s is not None)
    return Figures(
        name=name,
        hit_ratio=sum(cached) / sum(prompt),
        imbalance=max(computed) * len(computed) / sum(computed),
        ttft_p50_s=quantile(ttfts_s, 0.5),
        ttft_p90_s=quantile(ttfts_s, 0.9),
        ttft_p99_s=quantile(ttfts_s, 0.99),
        failed=len(outcomes) - len(ttfts_s),
        late_p99_s=quantile(sorted(late_s), 0.99),
    )


def _counted(port: int) -> tuple[float, float]:
    """(prompt tokens, those of them that were cached) of one engine so far."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    prompt, cached = _PROMPT_TOTAL.search(page), _CACHED_TOTAL.search(page)
    assert prompt is not None
    assert cached is not None
    return float(prompt[1]), float(cached[1])


async def _send_all(
    port: int, trace: Sequence[TracedRequest], speed: float, scale: Scale
) -> tuple[list[Outcome], list[float]]:
    tasks: list[asyncio.Task[Outcome]] = []
    late_s: list[float] = []
    async with asyncio.TaskGroup() as group:
        began_s = time.perf_counter()
        for request in trace:
            body = body_of(request, scale)
            due_s = began_s + request.at_s / speed
            await asyncio.sleep(max(due_s - time.perf_counter(), 0.0))
            late_s.append(time.perf_counter() - due_s)
            tasks.append(group.create_task(_send(port, body, due_s)))
    return [task.result() for task in tasks], late_s


async def _send(port: int, body: bytes, due_s: float) -> Outcome:
    """One request on a connection of its own, read to its end."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
                    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                return await _first_token(reader, due_s)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Outcome(None)


async def _first_token(reader: asyncio.StreamReader, due_s: float) -> Outcome:
    """When the first event came; the answer counts if it is a 200 that ends with [DONE]."""
    seen = tail = b""
    ttft_s: float | None = None
    while data := await reader.read(65536):
        tail = (tail + data)[-200:]
        if ttft_s is None:
            seen += data
            if b"data: " in seen:
                ttft_s = time.perf_counter() - due_s
    good = seen.startswith(b"HTTP/1.1 200") and b"[DONE]" in tail
    return Outcome(ttft_s if good else None)
