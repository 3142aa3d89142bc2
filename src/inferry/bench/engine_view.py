"""What engines say of their load while a run goes on, on the same clock as the requests: it explains the knee.

Engines at a URL are asked for their own metrics page; those of a running Inferry, whose pages want its secret, are
asked for by Inferry itself once a second, and its control API says what they answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import httpx
import msgspec
from msgspec import Struct

from inferry.bench.records import EngineSample, GpuSample
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.server_engines import SglangDeployment, TensorRtLlmDeployment, TgiDeployment, VllmDeployment
from inferry.engines.adapter import EngineAdapter, EngineMetrics
from inferry.engines.llamacpp import LlamaCppAdapter
from inferry.engines.sglang import SglangAdapter
from inferry.engines.tensorrt_llm import TensorRtLlmAdapter
from inferry.engines.tgi import TgiAdapter
from inferry.engines.vllm import VllmAdapter

EVERY_S = 0.5
"""A page takes an engine about a millisecond; queues of seconds show their shape."""
TIMEOUT_S = 2.0
PAGES = ("/metrics", "/prometheus/metrics")
"""The second is TensorRT-LLM's."""
_PREFIXES = {
    "vllm": "vllm:", "sglang": "sglang:", "llamacpp": "llamacpp:", "tgi": "tgi_", "tensorrt-llm": "trtllm_",
}  # fmt: skip
"""How each engine's names begin. The simulated engine has vLLM's."""
ENGINES = tuple(_PREFIXES)

_NO_HEADERS: Mapping[str, str] = {}
_clock = SystemClock()

Look = Callable[[], Awaitable[Sequence[EngineSample]]]
"""What is known now; `at_s` on the monotonic clock. Empty where nobody answered."""


class EngineAt(Struct, frozen=True, kw_only=True):
    """An engine with a metrics page."""

    replica: str
    page_url: str
    engine: str


async def find_page(
    base_url: str, engine: str | None, headers: Mapping[str, str] = _NO_HEADERS
) -> EngineAt | None:
    """The metrics page beside an API's base URL; None: there is none that we can read. `engine`: as named by a person.
    `headers`: with the API's key, which some servers want for this page too.

    Raises ConfigError for an engine whose page nobody can read.
    """
    if engine is not None and engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: must be one of {', '.join(ENGINES)}, or none.")
    root = base_url.removesuffix("/v1")
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S, headers=headers) as client:
        for path in PAGES:
            page = await _page(client, root + path)
            if page is not None and (named := engine or engine_of(page)) is not None:
                return EngineAt(replica=root.partition("://")[2], page_url=root + path, engine=named)
    return None


def engine_of(page: str) -> str | None:
    """Whose names a metrics page has; None: of no engine that is known here."""
    names = {
        line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if not line.startswith("#")
    }
    for engine, prefix in _PREFIXES.items():
        if any(name.startswith(prefix) for name in names):
            return engine
    return None


def reader_of(engine: str) -> Callable[[str], EngineMetrics]:
    """Reads that engine's page under our names. `engine` is one of ENGINES."""
    adapter: EngineAdapter
    match engine:
        case "vllm":
            adapter = VllmAdapter("bench", VllmDeployment.model_construct(engine="vllm", model="-"))
        case "sglang":
            adapter = SglangAdapter("bench", SglangDeployment.model_construct(engine="sglang", model="-"))
        case "llamacpp":
            adapter = LlamaCppAdapter(
                "bench", LlamaCppDeployment.model_construct(engine="llamacpp", model="-")
            )
        case "tgi":
            adapter = TgiAdapter("bench", TgiDeployment.model_construct(engine="tgi", model="-"))
        case "tensorrt-llm":
            adapter = TensorRtLlmAdapter(
                "bench", TensorRtLlmDeployment.model_construct(engine="tensorrt-llm", model="-")
            )
        case _:
            raise AssertionError(f"no adapter for {engine}")
    return adapter.read_metrics


# --- two ways to look ---------------------------------------------------------------------------------


@asynccontextmanager
async def pages(engines: Sequence[EngineAt], headers: Mapping[str, str] = _NO_HEADERS) -> AsyncIterator[Look]:
    """Asks each engine's own page."""
    readers = {each.replica: reader_of(each.engine) for each in engines}
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S, headers=headers) as client:

        async def look() -> list[EngineSample]:
            found = []
            for each in engines:
                at_s = _clock.now_s()
                page = await _page(client, each.page_url)
                if page is not None:
                    found.append(_sample(each.replica, at_s, readers[each.replica](page)))
            return found

        yield look


class _Reading(Struct, frozen=True):
    """One of the control API's GET /readings."""

    replica: str
    deployment: str
    read_s: float
    running: int | None = None
    waiting: int | None = None
    kv_cache_use: float | None = None
    preemptions: int | None = None
    prefix_query_tokens: int | None = None
    prefix_hit_tokens: int | None = None
    gpus: tuple[GpuSample, ...] = ()

    @property
    def power_w(self) -> float | None:
        """Of its GPUs together."""
        watts = [gpu.power_w for gpu in self.gpus if gpu.power_w is not None]
        return sum(watts) if watts and len(watts) == len(self.gpus) else None


_readings = msgspec.json.Decoder(list[_Reading])


@asynccontextmanager
async def readings(socket: str, deployment: str) -> AsyncIterator[Look]:
    """Asks the Inferry behind a control socket for the replicas of one deployment. What it had said before is left out."""
    transport = httpx.AsyncHTTPTransport(uds=socket)
    said: dict[str, float] = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://control", timeout=TIMEOUT_S) as client:

        async def look() -> list[EngineSample]:
            try:
                answer = await client.get("/readings")
                every = _readings.decode(answer.content) if answer.is_success else []
            except (httpx.HTTPError, msgspec.MsgspecError):
                return []
            news = [
                each
                for each in every
                if each.deployment == deployment and said.get(each.replica) != each.read_s
            ]
            said.update({each.replica: each.read_s for each in news})
            return [_of_reading(each) for each in news]

        yield look


def _of_reading(reading: _Reading) -> EngineSample:
    return EngineSample(
        at_s=reading.read_s,
        replica=reading.replica,
        running=reading.running,
        waiting=reading.waiting,
        kv_cache_use=reading.kv_cache_use,
        preemptions=reading.preemptions,
        prefix_hit_tokens=reading.prefix_hit_tokens,
        prefix_query_tokens=reading.prefix_query_tokens,
        power_w=reading.power_w,
        gpus=reading.gpus,
    )


def _sample(replica: str, at_s: float, metrics: EngineMetrics) -> EngineSample:
    return EngineSample(
        at_s=at_s,
        replica=replica,
        running=metrics.running,
        waiting=metrics.waiting,
        kv_cache_use=metrics.kv_cache_use,
        preemptions=metrics.preemptions,
        prefix_hit_tokens=metrics.prefix_hit_tokens,
        prefix_query_tokens=metrics.prefix_query_tokens,
    )


async def _page(client: httpx.AsyncClient, url: str) -> str | None:
    try:
        answer = await client.get(url)
    except httpx.HTTPError:
        return None
    return answer.text if answer.status_code == 200 else None


# --- watching -----------------------------------------------------------------------------------------


class Watched:
    """Samples of one run. `from_start` puts them on the run's clock."""

    def __init__(self) -> None:
        self._samples: list[EngineSample] = []

    def add(self, samples: Sequence[EngineSample]) -> None:
        self._samples += samples

    def from_start(self, start_s: float) -> tuple[EngineSample, ...]:
        """`start_s`: the run's, on the monotonic clock. Those from before it are left out."""
        shifted = (msgspec.structs.replace(each, at_s=each.at_s - start_s) for each in self._samples)
        return tuple(each for each in shifted if each.at_s >= 0)


@asynccontextmanager
async def watching(look: Look | None) -> AsyncIterator[Watched]:
    """Looks every EVERY_S until the block ends; None: at nothing."""
    watched = Watched()

    async def watch(look: Look) -> None:
        while True:
            watched.add(await look())
            await asyncio.sleep(EVERY_S)

    if look is None:
        yield watched
        return
    task = asyncio.create_task(watch(look))
    try:
        yield watched
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
