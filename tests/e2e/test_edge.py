"""The edge as clients meet it: browsers, other sites' pages, proxies, TLS, traces and the access log, by both fronts."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trustme

from inferry.core.outcome import Ending

from .gateway_harness import (
    CHAT_BODY,
    Running,
    Seen,
    json_answer,
    post,
    raw,
    running_gateway,
    split_response,
    upstream,
)

Start = Callable[..., AbstractAsyncContextManager[Running]]
PAGE = "https://chat.example"
CORS = {"origins": [PAGE]}


@pytest.fixture(params=["protocol", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """`running_gateway`, by either front."""
    return partial(running_gateway, relay_in_protocol=request.param == "protocol")


async def permissive(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """An engine that would let every page in."""
    writer.write(
        json_answer(b"{}", extra=b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n")
    )
    await writer.drain()


async def ask(running: Running, *headers: str, body: bytes = CHAT_BODY) -> tuple[int, dict[str, str], bytes]:
    return split_response(await raw(running.port, post("/v1/chat/completions", body, *headers)))


async def get(
    running: Running, path: str, *headers: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{running.port}",
        "Connection: close",
        *headers,
        "",
        "",
    ]
    return split_response(await raw(running.port, "\r\n".join(lines).encode()))


async def test_an_allowed_page_may_read_answers_and_errors(start: Start) -> None:
    """Answers, refusals and pages carry the permission of the file, and never the engine's."""
    async with upstream(permissive) as engine, start([engine.port], cors=CORS) as running:
        answers = [
            await ask(running, f"Origin: {PAGE}"),
            await ask(running, f"Origin: {PAGE}", body=b"{}"),
            await get(running, "/v1/models", f"Origin: {PAGE}"),
            await get(running, "/nowhere", f"Origin: {PAGE}"),
        ]
        assert [status for status, _, _ in answers] == [200, 400, 200, 404]
        for _, headers, _ in answers:
            assert headers["access-control-allow-origin"] == PAGE
            assert "x-request-id" in headers["access-control-expose-headers"]
            assert "Origin" in headers["vary"]


async def test_an_engines_permission_never_gets_through(start: Start) -> None:
    """Without gateway.cors, no answer allows anything, whatever the engine says."""
    async with upstream(permissive) as engine, start([engine.port]) as running:
        status, headers, _ = await ask(running)
        assert status == 200
        assert [name for name in headers if name.startswith("access-control-")] == []


async def test_preflights_are_answered_for_every_path(start: Start) -> None:
    """A browser's question gets 204 for an allowed page and 403 for another, and no engine hears of it."""
    async with upstream(permissive) as engine, start([engine.port], cors=CORS) as running:
        for path in ("/v1/chat/completions", "/v1/models"):
            asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
            status, headers, body = await get(running, path, f"Origin: {PAGE}", *asked, method="OPTIONS")
            assert (status, body, headers["access-control-allow-headers"]) == (204, b"", "authorization")
            status, headers, _ = await get(
                running, path, "Origin: https://evil.example", *asked, method="OPTIONS"
            )
            assert status == 403
            assert "access-control-allow-origin" not in headers
        assert engine.seen == []


async def test_pages_of_other_sites_use_nothing(start: Start) -> None:
    """Without keys, a foreign page gets 403 on every route, and the refusal is an outcome like any other."""
    async with upstream(permissive) as engine, start([engine.port]) as running:
        status, _, body = await ask(running, "Origin: https://evil.example")
        assert (status, json.loads(body)["error"]["code"]) == (403, "cross_site_request")
        outcome = await running.outcome()
        assert (outcome.ending, outcome.error_code) == (Ending.REJECTED, "cross_site_request")
        status, _, body = await get(running, "/v1/models", "Origin: https://evil.example")
        assert (status, json.loads(body)["error"]["code"]) == (403, "cross_site_request")
        own = f"Origin: http://127.0.0.1:{running.port}"
        assert (await get(running, "/v1/models", own))[0] == 200
        assert engine.seen == []


async def test_the_access_log_has_one_line_per_request(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Address from the trusted proxy, facts from the outcome; neither prompt nor key is in any log."""
    settings = {"access_log": True, "trusted_proxies": ["127.0.0.1"]}
    with caplog.at_level(logging.INFO):
        async with upstream(permissive) as engine, start([engine.port], **settings) as running:
            secret = ("Authorization: Bearer sk-very-secret", "X-Forwarded-For: 1.1.1.1, 203.0.113.9")
            body = CHAT_BODY.replace(b"hi", b"private words")
            assert (await ask(running, *secret, "X-Request-Id: r-1", body=body))[0] == 200
            assert (await ask(running, *secret, body=b"{}"))[0] == 400
    lines = [
        json.loads(line)
        for record in caplog.records
        if record.name == "inferry.access"
        for line in record.getMessage().split("\n")
    ]
    assert [(line["client"], line["status"], line["ending"]) for line in lines] == [
        ("203.0.113.9", 200, "completed"),
        ("203.0.113.9", 400, "rejected"),
    ]
    assert lines[0]["request_id"] == "r-1"
    assert "very-secret" not in caplog.text
    assert "private words" not in caplog.text


async def test_the_engine_gets_a_trace_of_ours(start: Start) -> None:
    """With traces on, the engine's parent is the gateway's span in the client's trace."""
    pytest.importorskip("opentelemetry.sdk", reason="needs the 'otel' extra")
    traces = {"endpoint": "http://127.0.0.1:1/v1/traces"}  # nobody there: requests don't care
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    async with upstream(permissive) as engine, start([engine.port], traces=traces) as running:
        status, _, _ = await ask(running, f"traceparent: 00-{trace}-{span}-01", "tracestate: a=1")
        assert status == 200
        [seen] = engine.seen
        assert seen.head.lower().count(b"traceparent:") == seen.head.lower().count(b"tracestate:") == 1
        version, trace_id, span_id, flags = str(seen.header("traceparent")).split("-")
        assert (version, trace_id, flags) == ("00", trace, "01")
        assert span_id != span


async def test_https_relays_as_http_does(start: Start, tmp_path: Path) -> None:
    """The whole gateway over TLS: an answer by its own certificate."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    files = {"certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    leaf.cert_chain_pems[0].write_to_path(files["certificate"])
    leaf.private_key_pem.write_to_path(files["key"])
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    tls = {name: str(path) for name, path in files.items()}
    async with upstream(permissive) as engine, start([engine.port], tls=tls) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=trust)
        writer.write(post("/v1/chat/completions", CHAT_BODY))
        async with asyncio.timeout(10):
            status, _, body = split_response(await reader.read())
        writer.close()
        await writer.wait_closed()
        assert (status, body) == (200, b"{}")
