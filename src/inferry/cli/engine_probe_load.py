"""Sends an engine requests of exact shapes and times them: prompts are token ids, answers as long as asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError
from inferry.core.replica import Endpoint
from inferry.planner.host_speed import Probe

TIMEOUT_S = 300.0
TOKEN_IDS = (100, 2000)
"""Ordinary words in every vocabulary that is known here, no control tokens."""


@dataclass(frozen=True, slots=True)
class Shape:
    input_tokens: int
    output_tokens: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Taken:
    """One round of a shape: means over its requests."""

    shape: Shape
    ttft_ms: float
    itl_ms: float
    output_tokens_per_s: float


async def take_rounds(
    endpoint: Endpoint,
    model: str,
    shapes: Sequence[Shape],
    rounds: int,
    rng: random.Random,
    on_round: Callable[[int], None] = lambda number: None,
) -> list[Taken]:
    """Every shape once a round, so that a busy moment of the machine hits all alike. Raises ConfigError."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S, limits=limits) as client:
        sender = _Sender(client, endpoint, model, rng)
        await sender.take(Shape(shapes[0].input_tokens, 4, 1))  # opens what is lazy
        taken = []
        for number in range(rounds):
            on_round(number + 1)
            taken += [await sender.take(shape) for shape in shapes]
        return taken


def probes_of(taken: Sequence[Taken]) -> list[Probe]:
    """Each shape's better half, its median: other processes only ever make a round slower."""
    shapes = dict.fromkeys(each.shape for each in taken)
    return [
        Probe(
            shape.input_tokens,
            shape.output_tokens,
            shape.concurrency,
            _quarter([each.ttft_ms for each in taken if each.shape == shape]),
            _quarter([each.itl_ms for each in taken if each.shape == shape]),
        )
        for shape in shapes
    ]


class _Sender:
    def __init__(self, client: httpx.AsyncClient, endpoint: Endpoint, model: str, rng: random.Random) -> None:
        self._client = client
        self._endpoint = endpoint
        self._model = model
        self._rng = rng
        self._clock = SystemClock()

    async def take(self, shape: Shape) -> Taken:
        began_s = self._clock.now_s()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._request(shape)) for _ in range(shape.concurrency)]
        times = [task.result() for task in tasks]
        wall_s = max(each[-1] for each in times) - began_s
        # Tokens that come in one piece are one time: the first and the last are what counts.
        ttft = sum(each[0] - began_s for each in times) / shape.concurrency
        steps = max(shape.output_tokens - 1, 1)
        itl = sum((each[-1] - each[0]) / steps for each in times) / shape.concurrency
        return Taken(shape, 1e3 * ttft, 1e3 * itl, shape.concurrency * shape.output_tokens / wall_s)

    async def _request(self, shape: Shape) -> list[float]:
        """When each piece of the answer came."""
        body = {
            "model": self._model,
            "prompt": [self._rng.randrange(*TOKEN_IDS) for _ in range(shape.input_tokens)],
            "max_tokens": shape.output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        url, headers = self._endpoint.address("/v1/completions"), dict(self._endpoint.headers)
        times = []
        try:
            async with self._client.stream("POST", url, json=body, headers=headers) as response:
                if response.status_code != 200:
                    said = (await response.aread())[:300].decode(errors="replace")
                    raise ConfigError(f"The engine refuses a probe ({response.status_code}): {said}")
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        times.append(self._clock.now_s())
        except httpx.HTTPError as error:
            raise ConfigError(f"The engine broke off a probe: {error or type(error).__name__}") from error
        if not times:
            raise ConfigError("The engine answered a probe with nothing.")
        return times


def _quarter(values: Sequence[float]) -> float:
    """The first quartile."""
    return sorted(values)[len(values) // 4]
