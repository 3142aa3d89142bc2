"""What engines said, and where they listen."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from inferry.admin.error_pages import install_error_pages
from inferry.admin.readings_api import local_only, make_readings_router
from inferry.core.replica import Endpoint, GpuPower, ReplicaLoad, ReplicaState, ReplicaView

SECRET = Endpoint("127.0.0.1", 9, headers=(("Authorization", "Bearer hush"),))
READY = ReplicaView("a-0", "a", "vllm", False, ReplicaState.READY, SECRET, 0.0, 0)
STARTING = ReplicaView("a-1", "a", "vllm", False, ReplicaState.STARTING, SECRET, 0.0, 0)


def app() -> FastAPI:
    made = FastAPI()
    install_error_pages(made)
    load = ReplicaLoad("a-0", 3.5, running=2, kv_cache_use=0.5, gpus=(GpuPower(1, 80.0, users=2),))
    made.include_router(make_readings_router(lambda: [(READY, load), (STARTING, None)]))
    return made


@pytest.fixture
async def network() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app()), base_url="http://control")


@pytest.fixture
async def local() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(local_only(app())), base_url="http://control")


async def test_readings_are_of_those_that_told(network: httpx.AsyncClient) -> None:
    """A replica that has told nothing yet is left out; what an engine does not tell is null."""
    [told] = (await network.get("/readings")).json()
    assert (told["replica"], told["read_s"], told["running"], told["waiting"]) == ("a-0", 3.5, 2, None)
    assert told["gpus"] == [{"gpu": 1, "power_w": 80.0, "users": 2}]


async def test_secrets_stay_on_the_control_socket(
    network: httpx.AsyncClient, local: httpx.AsyncClient
) -> None:
    """Over the network there are no endpoints, whatever key is shown; on the control socket, those that are ready."""
    refused = await network.get("/endpoints")
    assert refused.status_code == 404
    assert "hush" not in refused.text
    [told] = (await local.get("/endpoints")).json()
    assert (told["replica"], told["url"]) == ("a-0", "http://127.0.0.1:9/v1")
    assert told["headers"] == {"Authorization": "Bearer hush"}
