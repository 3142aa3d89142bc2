"""HPA and ScaledObject, reckoned by their documented formulas, over what a running gateway really exports."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from inferry.render.kubernetes.autoscaling import OPEN_REQUESTS
from inferry.render.kubernetes.rendering import render_kubernetes
from tests.e2e.inferry_process import Inferry
from tests.ship.shipments import vllm_shipment
from tests.standins.kubernetes.scaling import NoSuchMetric, hpa_wants, scaled_object_wants

pytestmark = pytest.mark.slow

OPEN = 60
FILE = "deployments: {chat: {engine: simulated, parallel: 16, ttft_ms: 20, itl_ms: 200}}\n"
QUESTION = {
    "model": "chat",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 100,
    "stream": True,
}


def answer(query: str, page: str) -> float:
    """What Prometheus would say to a sum of sums over gauges of this page."""
    sums = re.findall(r'sum\((\w+)\{deployment="(\w+)"\}\)', query)
    assert " + ".join(f'sum({name}{{deployment="{label}"}})' for name, label in sums) == query
    total = 0.0
    for name, label in sums:
        samples = [
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and sample.labels.get("deployment") == label
        ]
        assert samples, f"{name} is not exported"
        total += sum(samples)
    return total


async def page_under_load(url: str) -> str:
    """The metrics while so many streams are open, those that wait among them."""

    async def stream(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/chat/completions", json=QUESTION) as opened:
            async for _ in opened.aiter_raw():
                pass

    limits = httpx.Limits(max_connections=OPEN + 1)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client, asyncio.timeout(60):
        tasks = [asyncio.create_task(stream(client)) for _ in range(OPEN)]
        try:
            while True:
                page = (await client.get("/metrics")).text
                values = re.findall(
                    r'^inferry_requests_(?:in_flight|waiting)\{deployment="chat".*\} (\S+)$', page, re.M
                )
                if sum(map(float, values)) == OPEN:
                    return page
                await asyncio.sleep(0.1)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_both_scale_on_what_the_gateway_exports(tmp_path: Path) -> None:
    """60 open requests at 20 per replica make 3 replicas for both; none at all makes the least; and where the metric is
    not there, neither is zero."""
    inferry = Inferry(tmp_path)
    inferry.write(FILE)
    with inferry.up() as up:
        url = up.wait_ready()
        idle = httpx.get(f"{url}/metrics").text
        busy = asyncio.run(page_under_load(url))
    files = render_kubernetes(vllm_shipment())
    hpa, keda = (yaml.safe_load(files[f"options/{name}.yaml"]) for name in ("hpa", "keda"))
    query = keda["spec"]["triggers"][0]["metadata"]["query"]
    for page, wanted in ((busy, 3), (idle, 2)):
        figure = answer(query, page)
        assert hpa_wants(hpa, {OPEN_REQUESTS: figure}, 2) == wanted
        assert scaled_object_wants(keda, {query: figure}, 2) == wanted
    with pytest.raises(NoSuchMetric):
        hpa_wants(hpa, {}, 2)
