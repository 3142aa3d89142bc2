"""What the gateway costs in CPU time, per request and per streamed token, beside nginx on the same load.

    python -m benchmarks.relay_cost [--requests 4000] [--streams 300] [--tokens 200] [--rounds 5]

Three processes on loopback: an upstream that answers as an engine would, the proxy under test, and this
client. Only the proxy's CPU time counts (user and system, from /proc), so the others' slowness does not
matter; the variants take turns within one run, and the medians over the rounds are compared. nginx takes part
if it is installed. Per-token cost is that of a long stream, less that of its request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import httptools
import uvloop

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"chat","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'  # fmt: skip
PLAIN = b'{"id":"c","choices":[{"message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}'  # fmt: skip


# --- the upstream -------------------------------------------------------------------------------------


class _Upstream(asyncio.Protocol):
    """Answers at once, or streams as many events as `max_tokens` says, `interval_s` apart."""

    interval_s = 0.002

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        if b'"stream":true' not in body:
            self.transport.write(  # type: ignore[attr-defined]
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(PLAIN), PLAIN)
            )
            return
        tokens = int(body.partition(b'"max_tokens":')[2].partition(b",")[0].rstrip(b"}"))
        self.transport.write(  # type: ignore[attr-defined]
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._token(tokens)

    def _token(self, left: int) -> None:
        if self.transport.is_closing():
            return
        if left == 0:
            end = b"data: [DONE]\n\n"
            self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))  # type: ignore[attr-defined]
            return
        self.transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))  # type: ignore[attr-defined]
        asyncio.get_running_loop().call_later(self.interval_s, self._token, left - 1)


def _run_upstream(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


# --- the proxies --------------------------------------------------------------------------------------


def _run_gateway(pipe: Connection, upstream_port: int, relay_in_protocol: bool) -> None:
    from inferry.core.clock import SystemClock
    from inferry.core.gateway_settings import Gateway as GatewaySettings
    from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
    from inferry.core.request import ROUTES
    from inferry.gateway.gateway import Gateway
    from inferry.gateway.served import ServedSpec
    from inferry.gateway.server import GatewayServer, bind_sockets

    async def main() -> None:
        served = ServedSpec(
            name="chat", aliases=(), engine="openai", simulated=False, upstream_model="chat",
            routes=frozenset(ROUTES), asks_usage=True, policy="least_connections",
        )  # fmt: skip
        gateway = Gateway(GatewaySettings(), [served], clock=SystemClock(), loop=asyncio.get_running_loop())
        endpoint = Endpoint("127.0.0.1", upstream_port)
        gateway.apply(ReplicaView("chat-0", "chat", "openai", False, ReplicaState.READY, endpoint, 0.0, 0))
        server = GatewayServer(gateway, bind_sockets("127.0.0.1", 0)[0], relay_in_protocol=relay_in_protocol)
        pipe.send(server.port)
        await server.run()

    uvloop.run(main())


NGINX = """
daemon off; master_process off; worker_processes 1; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 1000000;
  upstream engine {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""


@contextlib.contextmanager
def _nginx(upstream_port: int) -> Iterator[tuple[int, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, upstream=upstream_port, port=port))
        process = subprocess.Popen(["nginx", "-c", str(config), "-p", folder])
        try:
            yield process.pid, port
        finally:
            process.terminate()
            process.wait()


# --- the load -----------------------------------------------------------------------------------------


class _Client(asyncio.Protocol):
    """Sends `count` requests one after another on one connection."""

    def __init__(self, request: bytes, end: bytes, count: int, done: asyncio.Future[None]) -> None:
        self.request, self.end, self.left, self.done = request, end, count, done
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-400:]
        if not self.tail.endswith(self.end):
            return
        if b"200 OK" not in self.tail and self.end == PLAIN:
            self.done.set_exception(RuntimeError(f"not a 200: {self.tail!r}"))
            return
        self.tail = b""
        self.left -= 1
        if self.left:
            self.transport.write(self.request)  # type: ignore[attr-defined]
        else:
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("closed in the middle"))


async def _load(port: int, body: bytes, end: bytes, connections: int, each: int) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n" % len(body) + body
    loop = asyncio.get_running_loop()
    waits: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        waits.append(done)
        await loop.create_connection(lambda done=done: _Client(request, end, each, done), "127.0.0.1", port)  # type: ignore[misc]
    for done in waits:
        await done


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def _measure(pid: int, port: int, options: argparse.Namespace) -> tuple[float, float]:
    """(CPU us per plain request, CPU us per streamed token) of the process `pid`."""
    message = b'{"model":"chat","messages":[{"role":"user","content":"' + b"hello " * 50 + b'"}]'
    before = _cpu_s(pid)
    connections = 32
    await _load(port, message + b"}", PLAIN, connections, options.requests // connections)
    request_us = (_cpu_s(pid) - before) / (options.requests // connections * connections) * 1e6
    streamed = (
        message + b',"stream":true,"stream_options":{"include_usage":true},"max_tokens":%d}' % options.tokens
    )
    before = _cpu_s(pid)
    await _load(port, streamed, b"0\r\n\r\n", options.streams, 1)
    stream_us = (_cpu_s(pid) - before) / options.streams * 1e6
    return request_us, (stream_us - request_us) / options.tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("requests", 4000), ("streams", 300), ("tokens", 200), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:

        def start(target: object, *arguments: object) -> tuple[int, int]:
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(theirs, *arguments), daemon=True)  # type: ignore[arg-type]
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
            assert process.pid is not None
            return process.pid, ours.recv()

        _, upstream_port = start(_run_upstream)
        proxies = {
            "inferry": start(_run_gateway, upstream_port, True),
            "inferry, through ASGI": start(_run_gateway, upstream_port, False),
        }
        if shutil.which("nginx"):
            proxies["nginx"] = stack.enter_context(_nginx(upstream_port))
        time.sleep(1.0)
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in proxies}
        for _ in range(options.rounds):
            for name, (pid, port) in proxies.items():
                figures[name].append(uvloop.run(_measure(pid, port, options)))
        sys.stdout.write(f"{'proxy':<24}{'us/request':>12}{'us/token':>12}\n")
        for name, rows in figures.items():
            request_us = statistics.median(row[0] for row in rows)
            token_us = statistics.median(row[1] for row in rows)
            sys.stdout.write(f"{name:<24}{request_us:>12.1f}{token_us:>12.2f}\n")


if __name__ == "__main__":
    main()
