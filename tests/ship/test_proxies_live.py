"""nginx, HAProxy and Envoy really started with what is rendered, in front of two gateways of simulated engines."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from inferry.cli.rendered_files import write_folder
from inferry.render.shipment import ProxyWishes
from tests.e2e.inferry_process import Inferry, Up, wait_for
from tests.ship.shipments import shipment_of
from tests.ship.test_proxies import RENDER, certified, nginx_argv
from tests.ship.tools import tool

pytestmark = pytest.mark.slow

FILE = """\
gateway:
  body_max_bytes: 100000
  trusted_proxies: [127.0.0.1]
  access_log: true
deployments:
  chat: {engine: simulated, itl_ms: 40, ttft_ms: 0, parallel: 64}
"""
QUESTION = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 25}
OTHER_CLIENT = "127.0.0.9"
"""Another address of this machine, which no gateway trusts."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stand:
    """Two gateways and a proxy before them."""

    name: str
    url: str
    http_port: int
    gateways: list[Up]
    direct: list[str]
    authority: ssl.SSLContext

    def client(self, source: str | None = None) -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.authority, local_address=source, http2=False)
        return httpx.Client(base_url=self.url, transport=transport, timeout=30)


@pytest.fixture(params=["nginx", "haproxy", "envoy"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    name = request.param
    program = tool(name)
    with ExitStack() as stack:
        gateways = []
        for each in ("one", "two"):
            (tmp_path / each).mkdir()
            inferry = Inferry(tmp_path / each)
            inferry.write(FILE)
            gateways.append(stack.enter_context(inferry.up()))
        direct = [each.wait_ready() for each in gateways]
        wishes = ProxyWishes(free_port(), free_port(), certified(tmp_path))
        upstreams = tuple(each.removeprefix("http://") for each in direct)
        folder = tmp_path / name
        write_folder(
            folder, RENDER[name](shipment_of(FILE, host="127.0.0.1", upstreams=upstreams, proxy=wishes))
        )
        match name:
            case "nginx":
                *argv, globals_ = nginx_argv(folder)
                argv.append(f"{globals_} daemon off;")
            case "haproxy":
                argv = [program, "-C", str(folder), "-f", "haproxy.cfg", "-db"]
            case _:
                path = folder / "envoy.yaml"
                # Its admin port is fixed, and tests run side by side.
                path.write_text(path.read_text().replace("port_value: 9901", f"port_value: {free_port()}"))
                argv = [program, "-c", str(path), "--log-level", "warn", "--use-dynamic-base-id"]
        log = stack.enter_context((tmp_path / "proxy.log").open("wb"))
        proxy = stack.enter_context(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT))
        stack.callback(proxy.kill)
        authority = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        url = f"https://127.0.0.1:{wishes.https_port}"
        found = Stand(name, url, wishes.http_port, gateways, direct, authority)

        def serves() -> bool:
            assert proxy.poll() is None, (tmp_path / "proxy.log").read_text()
            try:
                with found.client() as client:
                    return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(f"{name} serves", serves)
        yield found


def gaps_ms(client: httpx.Client, url: str = "") -> list[float]:
    """Between the pieces of a stream as they come, in milliseconds."""
    came_s = []
    with client.stream("POST", f"{url}/v1/chat/completions", json={**QUESTION, "stream": True}) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_raw():
            came_s.append(time.monotonic())
            last = piece
    assert b"[DONE]" in last
    return [(after - before) * 1e3 for before, after in itertools.pairwise(came_s)]


def test_a_proxy_in_front_of_two_gateways(stand: Stand) -> None:
    """All that it is there for, with one start of everything: TLS, streams as they come, one address per client, what is
    kept out, limits, and a gateway that dies."""
    with stand.client() as client:
        # Chunks come as they are made: as many, and with the pauses that a direct connection has.
        with httpx.Client(timeout=30) as straight:
            before = gaps_ms(straight, stand.direct[0])
        through = gaps_ms(client)
        assert len(through) >= 0.9 * len(before)
        assert statistics.median(through) == pytest.approx(statistics.median(before), rel=0.25)
        assert max(through) < max(before) + 60

        # From HTTP to HTTPS, with method and body.
        redirected = httpx.post(f"http://127.0.0.1:{stand.http_port}/v1/models?a=1")
        assert redirected.status_code == 308
        assert redirected.headers["location"] == f"{stand.url}/v1/models?a=1"

        # What is not for other machines.
        answer = client.get("/metrics")
        assert (answer.status_code, "inferry_" in answer.text) == (404, False)
        assert answer.json()["error"]["code"] == "not_found"

        # Bodies up to the gateway's bound and no further.
        long = {**QUESTION, "user": "x" * 120_000}
        assert client.post("/v1/chat/completions", json=long).status_code == 413
        assert client.post("/v1/chat/completions", json={**long, "user": "x" * 90_000}).status_code == 200

        # A header of the client's own and its id go through; HSTS comes back.
        answer = client.post("/v1/chat/completions", json=QUESTION, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["strict-transport-security"] == "max-age=31536000"

    # Who asks is seen through the proxy.
    with stand.client(OTHER_CLIENT) as other:
        assert other.post("/v1/chat/completions", json=QUESTION).status_code == 200
    wait_for("the client's address is in a log", lambda: OTHER_CLIENT in logged_clients(stand), 10)

    # A flood from one address is held up, in the API's words; another address is not.
    statuses = asyncio.run(flood(stand, 900))
    assert 429 in statuses
    assert set(statuses) <= {200, 429}
    with stand.client(OTHER_CLIENT) as other:
        assert other.get("/v1/models").status_code == 200

    # A gateway dies: nobody who asks then hears of it.
    with stand.client(OTHER_CLIENT) as other:
        stand.gateways[0].process.send_signal(signal.SIGKILL)
        stand.gateways[0].process.wait()
        wait_for("its port is closed", lambda: refused(stand.direct[0]))
        answers = [other.post("/v1/chat/completions", json={**QUESTION, "max_tokens": 2}) for _ in range(20)]
        assert [each.status_code for each in answers] == [200] * 20

        # And both: an error that clients can read.
        stand.gateways[1].process.send_signal(signal.SIGKILL)
        stand.gateways[1].process.wait()
        wait_for("its port is closed", lambda: refused(stand.direct[1]))
        answer = other.post("/v1/chat/completions", json=QUESTION)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "no_gateway"
        assert int(answer.headers["retry-after"]) > 0


def logged_clients(stand: Stand) -> set[str]:
    found = set()
    for up in stand.gateways:
        for path in up.inferry.home.glob("run/*/*.jsonl"):
            for line in path.read_text().splitlines():
                found.add(json.loads(line).get("client"))
    return found


async def flood(stand: Stand, count: int) -> list[int]:
    """As many requests as fast as one client can, over some connections."""
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(
        base_url=stand.url, verify=stand.authority, limits=limits, timeout=30
    ) as client:
        answers = await asyncio.gather(*(client.get("/v1/models") for _ in range(count)))
    refused_ones = [each for each in answers if each.status_code == 429]
    assert all(each.headers["content-type"].startswith("application/json") for each in refused_ones)
    assert all("error" in each.json() and each.headers["retry-after"] for each in refused_ones)
    return [each.status_code for each in answers]


def refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=2)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        pass  # it is just ending
    return False
