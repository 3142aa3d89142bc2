"""Engines that run elsewhere and whose own words Inferry speaks: `endpoints` of an engine that it could start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inferry.cli.config_warnings import warnings_of
from inferry.core.config_file import parse_text
from inferry.core.errors import ConfigError
from inferry.core.file_change import needs_new_engines
from inferry.engines.adapter import LaunchableAdapter, RemoteAdapter, Verdict
from inferry.engines.registry import adapter_for, launcher_for

CHAT = "deployments:\n  chat:\n    engine: vllm\n    model: hf:org/big\n"
TWO = "    endpoints: [http://10.0.0.7:8000, https://far.example/gpu/]\n"
ENVIRON = {"ENGINE_KEY": "k3y"}


def read(more: str, text: str = CHAT) -> Any:
    return parse_text(text + more, Path("inferry.yaml"), ENVIRON).config.deployments["chat"]


def test_it_is_found_there_and_spoken_to_in_its_own_words() -> None:
    """One replica for each endpoint, with the key; health, metrics, continuation as the engine's adapter has them."""
    deployment = read(TWO + "    api_key: ${ENGINE_KEY}\n")
    adapter, own = adapter_for("chat", deployment), launcher_for("chat", deployment)
    assert isinstance(adapter, RemoteAdapter)
    assert not isinstance(adapter, LaunchableAdapter)
    near, far = adapter.endpoints()
    assert near.url == "http://10.0.0.7:8000"
    assert far.target("/metrics") == "/gpu/metrics"
    assert far.headers == (("Authorization", "Bearer k3y"),)
    assert "k3y" not in repr(near)
    assert deployment.replicas == 2
    assert isinstance(own, LaunchableAdapter)
    for said in (
        "engine",
        "routes",
        "metrics_path",
        "probe_path",
        "continuation",
        "warmups",
        "tokenize_field",
    ):
        assert getattr(adapter, said) == getattr(own, said), said
    assert adapter.read_metrics("vllm:num_requests_running 3\n").running == 3
    assert adapter.read_probe(200, b"").verdict is Verdict.READY


def test_without_a_key_none_is_sent_and_it_is_said_where_one_belongs() -> None:
    """The engine that wants one is not well, and the operator reads which key of the file to set."""
    adapter = adapter_for("chat", read(TWO))
    assert isinstance(adapter, RemoteAdapter)
    assert adapter.endpoints()[0].headers == ()
    reading = adapter.read_probe(401, b"")
    assert reading.verdict is Verdict.UNWELL
    assert "set deployments.chat.api_key" in reading.reason


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("    endpoints: [http://h:1/v1]\n", "must not end in /v1"),
        ("    endpoints: [h:1]\n", "write http://HOST:PORT"),
        ("    endpoints: ['http://u:p@h:1']\n", "put a key into 'api_key'"),
        ("    endpoints: [http://h:1, http://h:1/]\n", "an endpoint stands here twice"),
        ("    endpoints: []\n", "endpoints"),
        (TWO + "    replicas: 3\n", "'replicas' is 3, and there are 2 endpoints"),
        (TWO + "    standby: 1\n", "'standby' needs an engine that Inferry starts"),
        (TWO + "    load: on_demand\n", "'load: on_demand' needs an engine that Inferry starts"),
        (
            TWO + "    scaling: {min: 1, max: 2, slo: {ttft_ms: 10}}\n",
            "'scaling' needs an engine that Inferry",
        ),
        (TWO + "    api_key: clear\n", "stored in clear"),
        ("    api_key: ${ENGINE_KEY}\n", "'api_key' needs 'endpoints'"),
    ],
)
def test_what_contradicts_is_refused_with_the_way_out(more: str, complaint: str) -> None:
    """By the name of the key, with what to write instead."""
    with pytest.raises(ConfigError) as caught:
        read(more)
    assert complaint in caught.value.message
    assert "inferry.yaml" in caught.value.message


def test_keys_for_a_launch_are_warned_of() -> None:
    """Those that only matter to whoever starts the engine, and no others."""
    more = TWO + "    binary: vllm\n    gpus: [0]\n    context_tokens: 4096\n    rollout: {canary_s: 5}\n"
    warned = warnings_of(parse_text(CHAT + more, Path("inferry.yaml"), ENVIRON))
    assert [line.split()[1] for line in warned] == [
        f"deployments.chat.{key}" for key in ("binary", "gpus", "rollout")
    ]
    assert all("has no effect beside 'endpoints'" in line for line in warned)


def test_another_key_or_place_means_other_engines() -> None:
    """What is sent to an engine is its own matter, not the gateway's side."""
    bare, there = read(""), read(TWO)
    assert needs_new_engines(bare, there)
    assert needs_new_engines(there, read(TWO + "    api_key: ${ENGINE_KEY}\n"))


def test_llama_server_needs_no_program_here() -> None:
    """Neither the embedded engine nor a program is asked for, as nothing is started."""
    text = "deployments:\n  chat:\n    engine: llamacpp\n    model: file:/m.gguf\n"
    adapter = adapter_for("chat", read("    endpoints: [http://h:1]\n", text))
    assert isinstance(adapter, RemoteAdapter)
    assert adapter.metrics_path == "/metrics"
