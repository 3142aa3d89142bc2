"""Asks replicas how they are, over HTTP: probes, the warm-up request, metrics. Never raises for their sake."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import httpx
import structlog

from inferry.core.name_lookup import NameLookup
from inferry.core.replica import Endpoint
from inferry.engines.adapter import EngineAdapter, EngineMetrics, ProbeReading, WarmupRequest
from inferry.engines.own_metrics import own_metrics

BODY_BYTES_MAX = 4 * 1024 * 1024
"""Of any answer; a remote's list of models or a metrics page may be long, and a wrong port may never end."""


log = structlog.get_logger()

REFUSES = "refuses connections"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No HTTP answer at all."""

    reason: str
    silent: bool = False
    """Nothing came within the time, not even a refusal."""


@dataclass(frozen=True, slots=True)
class WarmUpTrouble:
    """Why a warm-up request did not go well."""

    reason: str
    missing: bool = False
    """The engine answers, and does not have what was asked for."""


class Prober(Protocol):
    """What the keepers need of the network."""

    async def probe(
        self, adapter: EngineAdapter, endpoint: Endpoint, timeout_s: float
    ) -> ProbeReading | Unreachable: ...

    async def warm_up(
        self, endpoint: Endpoint, request: WarmupRequest, timeout_s: float
    ) -> WarmUpTrouble | None:
        """None if it went well."""

    async def metrics(
        self, adapter: EngineAdapter, endpoint: Endpoint, timeout_s: float, own: Collection[str] = ()
    ) -> EngineMetrics | None:
        """None if the engine has none, or can't be asked now. `own`: more of them, by the engine's names."""

    async def close(self) -> None: ...


class HttpProber:
    """A `Prober` that opens a new connection each time.

    That is what the next client will do; and llama.cpp reserves a thread for each idle connection.
    """

    def __init__(self, verify: ssl.SSLContext | bool = True) -> None:
        """`verify`: whom replicas' certificates are to be from."""
        self._client = httpx.AsyncClient(
            verify=verify,
            trust_env=False,  # the gateway goes to replicas directly, so probes do too
            follow_redirects=False,
            timeout=None,  # each request below has one deadline for all of it
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._names: NameLookup | None = None
        """Made on the event loop that asks."""

    async def probe(
        self, adapter: EngineAdapter, endpoint: Endpoint, timeout_s: float
    ) -> ProbeReading | Unreachable:
        answer = await self._ask("GET", endpoint, adapter.probe_path, None, timeout_s)
        if isinstance(answer, Unreachable):
            return answer
        return adapter.read_probe(*answer)

    async def warm_up(
        self, endpoint: Endpoint, request: WarmupRequest, timeout_s: float
    ) -> WarmUpTrouble | None:
        answer = await self._ask("POST", endpoint, request.path, request.body, timeout_s)
        if isinstance(answer, Unreachable):
            return WarmUpTrouble(answer.reason)
        status, body = answer
        if status == 200:
            return None
        reason = f"{request.path} answers {status}: {body[:300].decode(errors='replace')}"
        return WarmUpTrouble(reason, missing=status == 404)

    async def metrics(
        self, adapter: EngineAdapter, endpoint: Endpoint, timeout_s: float, own: Collection[str] = ()
    ) -> EngineMetrics | None:
        if adapter.metrics_path is None:
            return None
        answer = await self._ask("GET", endpoint, adapter.metrics_path, None, timeout_s)
        if isinstance(answer, Unreachable) or answer[0] != 200:
            return None
        page = answer[1].decode(errors="replace")
        metrics = adapter.read_metrics(page)
        return replace(metrics, own=own_metrics(page, own)) if own else metrics

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(
        self, method: str, endpoint: Endpoint, path: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, bytes] | Unreachable:
        """Status and (the beginning of) the body."""
        headers = [*endpoint.headers, ("Connection", "close")]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        try:
            async with asyncio.timeout(timeout_s):
                *others, last = await self._addresses(endpoint)
                for address in others:
                    with contextlib.suppress(httpx.ConnectError):
                        return await self._ask_at(address, method, endpoint, path, headers, body)
                return await self._ask_at(last, method, endpoint, path, headers, body)
        except TimeoutError:
            return Unreachable(f"gives no answer within {timeout_s:g} s", silent=True)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            return Unreachable(_in_words(error))
        except (AttributeError, RuntimeError) as error:
            # Out of httpx's network layer, when the peer dies between the connect and the first use of its
            # socket: "'NoneType' object has no attribute 'getpeername'". Seen once in some hundred kills.
            log.info("probe_broke", url=endpoint.url, error=repr(error))
            return Unreachable("its connection broke while it was opened")

    async def _addresses(self, endpoint: Endpoint) -> tuple[str, ...]:
        if self._names is None:
            self._names = NameLookup(asyncio.get_running_loop())
        return await self._names.addresses(endpoint.host)

    async def _ask_at(
        self,
        address: str,
        method: str,
        endpoint: Endpoint,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
    ) -> tuple[int, bytes]:
        """At one of its addresses, under the name that its certificate and its virtual host know."""
        async with self._client.stream(
            method,
            replace(endpoint, host=address).address(path),
            headers=[("Host", _host_header(endpoint)), *headers],
            content=body,
            extensions={"sni_hostname": endpoint.host} if endpoint.tls else None,
        ) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) >= BODY_BYTES_MAX:
                    break
            return response.status_code, bytes(content)


def _host_header(endpoint: Endpoint) -> str:
    """As every client of its URL sends it."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return host if endpoint.port == (443 if endpoint.tls else 80) else f"{host}:{endpoint.port}"


def _in_words(error: Exception) -> str:
    """The library's own words for a refused connection are 'All connection attempts failed'."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return REFUSES
        if isinstance(cause, OSError) and cause.strerror:
            return f"can't be reached: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ReadError):
        return "closes the connection without an answer"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"answers with something that is not HTTP: {error}"
    return str(error) or type(error).__name__
