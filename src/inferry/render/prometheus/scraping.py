"""Whom Prometheus asks for figures, and where it sends alerts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inferry.render.prometheus.alerts import engines_job, gateway_job
from inferry.render.proxying import gateway_addresses
from inferry.render.shipment import ENGINE_PORT, Shipment, ShippedEngine
from inferry.render.yaml_text import Why

METRICS_KEY_PATH = "secrets/metrics-key"
"""The gateway's key for Prometheus, below the folder of prometheus.yml."""
DCGM_PORT = 9400
_PATHS = {
    "llamacpp": "/metrics",
    "sglang": "/metrics",
    "simulated": "/metrics",
    "tensorrt-llm": "/prometheus/metrics",
    "tgi": "/metrics",
    "vllm": "/metrics",
}
"""Of the engines that have a page for Prometheus; Ollama and transformers have none."""


def prometheus_config(shipment: Shipment) -> dict[str, Any]:
    """prometheus.yml. All paths are below its own folder."""
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]},
        "scrape_configs": list(_jobs(shipment)),
    }


def _jobs(shipment: Shipment) -> Iterable[Any]:
    gateway: dict[str, Any] = {"job_name": gateway_job(shipment)}
    if shipment.config.gateway.tls is not None:
        gateway["scheme"] = "https"
        gateway["tls_config"] = Why(
            "Targets are named otherwise than the certificate. With a certificate of your own authority, add ca_file.",
            {"server_name": shipment.host},
        )
    if shipment.config.gateway.auth == "keys":
        gateway["authorization"] = Why(
            "Only the figures, no inference: 'inferry keys create --tenant monitoring --scope read-only'. The file "
            "holds nothing but the key.",
            {"credentials_file": METRICS_KEY_PATH},
        )
    gateway["file_sd_configs"] = Why(
        "Read again by itself when it changes: gateways come and go without a restart of Prometheus.",
        [{"files": ["targets/gateways.yml"]}],
    )
    yield gateway
    if engine_targets(shipment):
        yield {
            "job_name": engines_job(shipment),
            "file_sd_configs": [{"files": ["targets/engines.yml"]}],
        }
    if _has_gpus(shipment):
        yield Why(
            "NVIDIA's DCGM exporter, one for each machine with GPUs.",
            {
                "job_name": f"{shipment.name}-gpus",
                "file_sd_configs": [{"files": ["targets/gpus.yml"]}],
            },
        )


def gateway_targets(shipment: Shipment) -> list[Any]:
    """What targets/gateways.yml holds."""
    return [{"targets": [str(address) for address in gateway_addresses(shipment)]}]


def engine_targets(shipment: Shipment) -> list[Any]:
    """Each engine in a container of its own that has figures, with its deployment's name as a label."""
    kinds = {name: deployment.engine for name, deployment in shipment.config.deployments.items()}
    return [_engine(each, kinds[each.name]) for each in shipment.engines if kinds[each.name] in _PATHS]


def gpu_targets(shipment: Shipment) -> list[Any]:
    """Where DCGM exporters are expected."""
    return [{"targets": [f"dcgm-exporter:{DCGM_PORT}"]}] if _has_gpus(shipment) else []


def _engine(engine: ShippedEngine, kind: str) -> dict[str, Any]:
    labels = {"deployment": engine.name, "engine": kind}
    if _PATHS[kind] != "/metrics":
        labels["__metrics_path__"] = _PATHS[kind]
    targets = [f"{engine.name}-{number}:{ENGINE_PORT}" for number in range(engine.replicas)]
    return {"targets": targets, "labels": labels}


def _has_gpus(shipment: Shipment) -> bool:
    return any(each.plan.needs.gpus for each in shipment.engines)


def alertmanager_config() -> dict[str, Any]:
    """An example: whom to tell is everybody's own. It keeps one cause from telling many times."""
    return {
        "route": {
            "receiver": "team",
            "group_by": Why(
                "One message for all replicas of a deployment.", ["alertname", "deployment", "tenant"]
            ),
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                {"receiver": "on-call", "matchers": ['severity = "critical"'], "repeat_interval": "1h"}
            ],
        },
        "inhibit_rules": [
            Why(
                "That a deployment is down says all that its replicas, errors and queue could say.",
                {
                    "source_matchers": ['alertname = "InferryDeploymentDown"'],
                    "target_matchers": [
                        'alertname =~ "InferryReplica.*|InferryErrors.*|InferryQueueGrows|InferryRefuses|InferryScaling.*"'
                    ],
                    "equal": ["deployment"],
                },
            ),
            *(
                {
                    "source_matchers": [f'alertname = "Inferry{each}BurnFast"'],
                    "target_matchers": [f'alertname = "Inferry{each}BurnSlow"'],
                    "equal": ["deployment"],
                }
                for each in ("Errors", "Ttft", "Itl")
            ),
            {
                "source_matchers": ['alertname = "InferryCertificateEnds"'],
                "target_matchers": ['alertname = "InferryCertificateEndsSoon"'],
                "equal": ["instance"],
            },
        ],
        "receivers": [
            Why(
                "Put in your own: Slack, e-mail, PagerDuty. These addresses are placeholders.",
                {"name": "team", "webhook_configs": [{"url": "http://127.0.0.1:9099/team"}]},
            ),
            {"name": "on-call", "webhook_configs": [{"url": "http://127.0.0.1:9099/on-call"}]},
        ],
    }
