"""The rendered monitoring at work: a real Prometheus and Alertmanager watch `inferry up`, and somebody is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from inferry.render.prometheus.rendering import render_prometheus
from inferry.render.prometheus.rules import rule_groups
from inferry.render.shipment import Shipment
from tests.e2e.inferry_process import Inferry, wait_for
from tests.ship.shipments import shipment_of
from tests.ship.test_grafana import exported, names_in, names_on, queries
from tests.ship.tools import tool

COMMON = """\
gateway:
  auth: keys
tenants:
  search: {limits: {tokens_per_day: 1000000, cost_per_month: 50}}
deployments:
  inside:
    engine: simulated
    scaling: {min: 1, max: 2, slo: {ttft_ms: 800, itl_ms: 60, requests_per_s: 50}}
  chat:
    price: {prompt_per_mtok: 1, completion_per_mtok: 2}
"""
RUNS = (
    COMMON
    + """\
    engine: simulated
    endpoints: [ENGINES]
"""
)
"""The engines run elsewhere, as in containers of their own. They are simulated ones, with vLLM's metrics."""
SHIPPED = (
    COMMON
    + """\
    engine: vllm
    version: "0.11.0"
    model: hf:meta-llama/Llama-3.1-8B-Instruct
    replicas: 2
"""
)
"""What is rendered: the same with vLLM, for which the simulated engines stand."""
NOT_YET = {
    # Series begin with the first such event, and none of them happened.
    "deployment:inferry_refused:rate5m",
}

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Told(BaseHTTPRequestHandler):
    """Takes what Alertmanager sends."""

    alerts: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.alerts.extend(json.loads(body)["alerts"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def webhook() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Its port, and the alerts that came."""
    alerts: list[dict[str, Any]] = []
    handler = type("Here", (Told,), {"alerts": alerts})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], alerts
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running(log_path: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, until the block ends."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(argv, cwd=log_path.parent, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def hurry(text: str, file: dict[str, Any], **more: Any) -> str:
    """The same with seconds in place of minutes, so that a test can wait for it."""
    assert file == yaml.safe_load(text)
    for group in file.get("groups", ()):
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "3s"
    return yaml.safe_dump(file | more)


def write(folder: Path, shipment: Shipment, ports: dict[str, int], engines: list[str], key: str) -> None:
    """The rendered files, with this machine's addresses."""
    files = dict(render_prometheus(shipment))
    config = yaml.safe_load(files["prometheus.yml"])
    files["prometheus.yml"] = hurry(
        files["prometheus.yml"],
        config,
        **{"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}},
        alerting={
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]}]
        },
        scrape_configs=[each for each in config["scrape_configs"] if "gpus" not in each["job_name"]],
    )
    files["rules/alerts.yml"] = hurry(files["rules/alerts.yml"], yaml.safe_load(files["rules/alerts.yml"]))
    [of_chat] = yaml.safe_load(files["targets/engines.yml"])
    assert len(of_chat["targets"]) == len(engines)
    files["targets/engines.yml"] = yaml.safe_dump([of_chat | {"targets": engines}])
    files["alertmanager.yml"] = (
        files["alertmanager.yml"]
        .replace("127.0.0.1:9099", f"127.0.0.1:{ports['webhook']}")
        .replace("group_wait: 30s", "group_wait: 1s")
        .replace("group_interval: 5m", "group_interval: 1s")
    )
    files["secrets/metrics-key"] = key
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


class Prometheus:
    """Asks the running one."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=10)

    def get(self, path: str, **params: str) -> Any:
        """What it answers; None while it does not."""
        try:
            answer = self._client.get(path, params=params)
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.status_code == 200 else None

    def query(self, expr: str) -> list[Any]:
        """The series of an expression, which must be one."""
        found = self.get("/query", query=expr)
        assert found is not None, expr
        result: list[Any] = found["result"]
        return result

    def targets(self) -> list[tuple[str, str]]:
        """Job and state of each, with what is wrong."""
        found = (self.get("/targets") or {"activeTargets": ()})["activeTargets"]
        return sorted((each["labels"]["job"], each["lastError"] or each["health"]) for each in found)

    def firing(self) -> set[str]:
        """Alerts."""
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}

    def close(self) -> None:
        self._client.close()


def ask(url: str, key: str, times: int) -> list[int]:
    """Streams, one after the other; their status."""
    body = {
        "model": "chat",
        "stream": True,
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "hello"}],
    }
    with httpx.Client(
        base_url=url, trust_env=False, timeout=30, headers={"authorization": f"Bearer {key}"}
    ) as client:
        return [client.post("/v1/chat/completions", json=body).status_code for _ in range(times)]


def fault(address: str, **wanted: Any) -> None:
    """Something to go wrong at an engine, on command."""
    answer = httpx.post(f"http://{address}/simulate/fault", json=wanted, trust_env=False)
    assert answer.status_code == 200, answer.text


def test_it_scrapes_records_and_tells(tmp_path: Path) -> None:
    """Gateway and engines are up, every recording rule and dashboard has values, nobody is told anything; then
    failing requests, a sick replica and a gateway that ends, each tell their alert to whoever Alertmanager tells."""
    inferry = Inferry(tmp_path)
    inferry.write(RUNS)
    folder = tmp_path / "monitoring"
    with ExitStack() as stack:
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        folder.mkdir()
        processes = [
            stack.enter_context(
                running(
                    folder / f"engine-{number}.log",
                    *(sys.executable, "-m", "inferry.testing.simulated_engine", "--served-name", "chat"),
                    *("--port", address.rpartition(":")[2], "--ttft-ms", "5", "--itl-ms", "1", "--faults"),
                )
            )
            for number, address in enumerate(addresses)
        ]
        inferry.write(RUNS.replace("ENGINES", ", ".join(f"http://{each}" for each in addresses)))
        until_gateway_ends = stack.enter_context(ExitStack())
        up = until_gateway_ends.enter_context(inferry.up())
        url = up.wait_ready()
        key = up.new_key("search")
        ports = {"alertmanager": free_port(), "prometheus": free_port()}
        ports["webhook"], told = stack.enter_context(webhook())
        shipment = shipment_of(SHIPPED, upstreams=(url.removeprefix("http://"),))
        write(folder, shipment, ports, addresses, up.new_key("monitoring", scopes=["read-only"]))
        assert set(ask(url, key, 5)) == {200}  # a counter that begins at 40 has not grown
        start_servers(stack, folder, ports)
        prometheus = Prometheus(ports["prometheus"])
        stack.callback(prometheus.close)

        wanted = [*[("inferry-engines", "up")] * 2, ("inferry-gateway", "up")]
        try:
            wait_for("targets are up", lambda: prometheus.targets() == wanted)
        except AssertionError:
            assert prometheus.targets() == wanted  # says what is wrong
        assert set(ask(url, key, 40)) == {200}
        page = httpx.get(f"{url}/metrics", trust_env=False).text
        not_here = {  # without TLS, and without backups
            "inferry_certificate_not_after_timestamp_seconds",
            "inferry_backup_last_success_timestamp_seconds",
            "inferry_backup_interval_seconds",
        }
        assert names_on(page) == exported() - not_here
        check_values(prometheus, shipment)
        assert prometheus.firing() == set()
        assert told == []

        for address in addresses:
            fault(address, kind="error_status", status=500, times=None)

        def fails_and_fires() -> bool:
            # A counter is no growth when it is first seen: of 500, and of 503 once both engines are set aside.
            assert 200 not in ask(url, key, 5)
            return "InferryErrorsBurnFast" in prometheus.firing()

        wait_for("errors are seen", fails_and_fires, 60)
        errors = wait_for("errors are told", lambda: first(told, "InferryErrorsBurnFast"))
        assert errors["labels"]["deployment"] == "chat"
        assert errors["annotations"]["summary"].startswith("chat: ")
        assert errors["annotations"]["runbook_url"] == "docs/runbooks/errors.md"

        processes[1].kill()
        down = wait_for("the replica is told", lambda: first(told, "InferryReplicaDown"))
        assert down["labels"]["replica"] == "chat-1"

        until_gateway_ends.close()
        wait_for("the gateway is told", lambda: first(told, "InferryGatewayDown"))
        wait_for("blindness is told", lambda: first(told, "InferryNoMetrics"))


def start_servers(stack: ExitStack, folder: Path, ports: dict[str, int]) -> None:
    """Alertmanager, then Prometheus, as their users start them."""
    here = "127.0.0.1"
    stack.enter_context(
        running(
            folder / "alertmanager.log",
            tool("prometheus-alertmanager"),
            "--config.file=alertmanager.yml",
            f"--web.listen-address={here}:{ports['alertmanager']}",
            "--cluster.listen-address=",
            "--storage.path=alertmanager-data",
        )
    )
    stack.enter_context(
        running(
            folder / "prometheus.log",
            tool("prometheus"),
            "--config.file=prometheus.yml",
            f"--web.listen-address={here}:{ports['prometheus']}",
            "--storage.tsdb.path=prometheus-data",
        )
    )


def check_values(prometheus: Prometheus, shipment: Shipment) -> None:
    """Every rule is evaluated without a fault and has values; so have the dashboards, but for GPUs' figures."""
    groups = rule_groups(shipment)
    records = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}

    def all_there() -> bool:
        return {each for each in records if prometheus.query(each)} >= records - NOT_YET

    wait_for("recording rules have values", all_there)
    for group in prometheus.get("/rules")["groups"]:
        assert [rule for rule in group["rules"] if rule["health"] != "ok"] == []
    empty = set()
    for expr in queries(shipment):
        for name in ("deployment", "tenant"):
            expr = expr.replace(f"${name}", ".*")
        if not prometheus.query(expr):
            empty |= {name for name in names_in(expr) if not name.startswith("DCGM_")}
    assert empty <= NO_SUCH_EVENT, empty
    said = prometheus.query('deployment:inferry_ttft_slow:ratio_rate5m{deployment="chat"}')
    assert 0 <= float(said[0]["value"][1]) < 0.5


NO_SUCH_EVENT = {
    "deployment:inferry_refused:rate5m",
    "inferry_certificate_not_after_timestamp_seconds",
    "inferry_engine_gpu_use",
    "inferry_errors_total",
    "inferry_not_resumed_total",
    "inferry_queue_seconds_bucket",
    "inferry_resumes_total",
    "inferry_retries_total",
}
"""Nothing was refused, failed, queued or resumed; there is no certificate and no GPU."""


def first(told: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The first firing alert of that name."""
    return next(
        (each for each in told if each["labels"]["alertname"] == name and each["status"] == "firing"), None
    )
