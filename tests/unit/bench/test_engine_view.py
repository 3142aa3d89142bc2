"""What engines say of their load during a run."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from inferry.admin.readings_api import make_readings_router
from inferry.bench.engine_view import (
    ENGINES,
    EngineAt,
    engine_of,
    find_page,
    pages,
    reader_of,
    readings,
    watching,
)
from inferry.bench.records import EngineSample, GpuSample
from inferry.core.errors import ConfigError
from inferry.core.replica import GpuPower, ReplicaLoad, ReplicaState, ReplicaView

PAGE = """# HELP vllm:num_requests_running requests
vllm:num_requests_running{engine="0"} 3
vllm:num_requests_waiting{engine="0"} 5
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:num_preemptions_total{engine="0"} 2
vllm:prefix_cache_queries_total{engine="0"} 100
vllm:prefix_cache_hits_total{engine="0"} 40
"""


@pytest.fixture
def server() -> Iterator[str]:
    """A stand-in that has vLLM's metrics page, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/v1"
        running.shutdown()
        thread.join()


def test_engines_are_told_by_their_names() -> None:
    """A metrics page says by its names whose it is; a page of something else says nothing."""
    assert engine_of(PAGE) == "vllm"
    assert engine_of("sglang:num_running_reqs 1\n") == "sglang"
    assert engine_of("tgi_queue_size 1\n") == "tgi"
    assert engine_of("# about vllm:num_requests_running\nprocess_cpu_seconds_total 4\n") is None


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_that_can_be_named_can_be_read(engine: str) -> None:
    """Every engine of the list has a reader, which takes a page of other names for one that says nothing."""
    assert reader_of(engine)("other 1\n").running is None


async def test_a_page_is_found_and_read(server: str) -> None:
    """The page beside an API's URL is found, and read under our names."""
    engine = await find_page(server, None)
    assert engine is not None
    async with pages([engine]) as look:
        [sample] = await look()
    assert (sample.running, sample.waiting, sample.kv_cache_use, sample.preemptions) == (3, 5, 0.25, 2)
    assert (sample.prefix_hit_tokens, sample.prefix_query_tokens) == (40, 100)


async def test_nobody_there_is_no_error() -> None:
    """A server without a page, or that is gone, leaves a run without the engine's view, and goes on."""
    assert await find_page("http://127.0.0.1:9/v1", None) is None
    async with pages([EngineAt(replica="a", page_url="http://127.0.0.1:9/metrics", engine="vllm")]) as look:
        assert list(await look()) == []


async def test_an_engine_that_nobody_can_read() -> None:
    """An unknown --engine is refused with those there are."""
    with pytest.raises(ConfigError, match="must be one of vllm"):
        await find_page("http://127.0.0.1:9/v1", "llama")


async def test_samples_are_on_the_runs_clock() -> None:
    """Times count from the run's start; what was seen before it is left out."""
    times = iter([99.0, 100.5, 101.0])

    async def look() -> list[EngineSample]:
        return [EngineSample(at_s=at_s, replica="a") for at_s in [next(times, None)] if at_s is not None]

    async with watching(look) as watched:
        watched.add(await look())
        watched.add(await look())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [each.at_s for each in watched.from_start(100.0)] == [0.5, 1.0]


async def test_readings_of_a_running_inferry(tmp_path: Path) -> None:
    """Through the control socket come the replicas of the one deployment, each reading once."""
    views = [
        ReplicaView(name, name[0], "vllm", False, ReplicaState.READY, None, 0.0, 0) for name in ("a-0", "b-0")
    ]
    loads = {view.id: ReplicaLoad(view.id, 7.0, running=4, preemptions=1) for view in views}
    app = FastAPI()
    app.include_router(make_readings_router(lambda: [(view, loads[view.id]) for view in views]))
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        control = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(control.serve(sockets=[listener]))
        async with readings(path, "a") as look:
            while not control.started:
                await asyncio.sleep(0.01)
            first, second = await look(), await look()
            powers = (GpuPower(0, 300.0, users=1), GpuPower(1, 250.5, users=2))
            loads["a-0"] = ReplicaLoad("a-0", 8.0, gpus=powers)
            third = await look()
            loads["a-0"] = ReplicaLoad("a-0", 9.0, gpus=(powers[0], GpuPower(1, None, users=2)))
            fourth = await look()
        control.should_exit = True
        await serving
    assert [(each.replica, each.at_s, each.running, each.preemptions) for each in first] == [
        ("a-0", 7.0, 4, 1)
    ]
    assert list(second) == []
    assert [(each.at_s, each.running, each.power_w) for each in third] == [(8.0, None, 550.5)]
    assert third[0].gpus[1] == GpuSample(gpu=1, power_w=250.5, users=2)
    assert [each.power_w for each in fourth] == [None]
    assert first[0].gpus == ()
