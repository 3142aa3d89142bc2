"""`inferry lora` with vLLM on the CPU, real, and an adapter of random numbers."""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import struct
from array import array
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from .engine_pair import INSTALL_S, START_S, VLLM
from .inferry_process import Inferry, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the recipes are for Linux x86-64",
    ),
]
RANK = 8


def make_adapter(folder: Path, model: Path) -> None:
    """Random numbers for the queries and values of each layer, in PEFT's layout: large enough to be heard."""
    config = json.loads((model / "config.json").read_text())
    hidden, head = config["hidden_size"], config["hidden_size"] // config["num_attention_heads"]
    widths = {"q_proj": hidden, "v_proj": head * config["num_key_value_heads"]}
    draw = random.Random(5)
    header: dict[str, Any] = {}
    weights = bytearray()
    for layer in range(config["num_hidden_layers"]):
        for name, width in widths.items():
            for side, shape in (("A", [RANK, hidden]), ("B", [width, RANK])):
                values = array("f", (draw.gauss(0, 0.2) for _ in range(shape[0] * shape[1]))).tobytes()
                key = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_{side}.weight"
                header[key] = {
                    "dtype": "F32",
                    "shape": shape,
                    "data_offsets": [len(weights), len(weights) + len(values)],
                }
                weights += values
    head_json = json.dumps(header).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(
        struct.pack("<Q", len(head_json)) + head_json + weights
    )
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": RANK,
                "lora_alpha": 2 * RANK,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": list(widths),
                "base_model_name_or_path": "made for a test",
            }
        )
    )


def test_vllm_loads_and_drops_an_adapter(tmp_path: Path, sample_model: Path) -> None:
    """Its answers are others than the model's; a folder that is no adapter is refused in vLLM's own words; after
    kill -9 the adapter is there again without a word; dropped, it is unknown."""
    inferry = Inferry(tmp_path)
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    if kept is not None:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (inferry.home / "engines").symlink_to(kept)
    for words in (
        ("engines", "install", VLLM.environment, "--yes"),
        ("models", "convert", str(sample_model), "weights"),
    ):
        done = inferry.run(*words, timeout_s=INSTALL_S)
        assert done.returncode == 0, done.stderr
    make_adapter(tmp_path / "law", tmp_path / "weights")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("{}")
    chat = {"engine": "vllm", "model": "file:weights", "lora_live": True, **VLLM.keys}
    inferry.write(yaml.safe_dump({"deployments": {"chat": chat}}, sort_keys=False))
    with inferry.up() as up:
        wait_for("vLLM is ready", lambda: "Ready after" in up.output(), START_S)
        client = httpx.Client(base_url=up.wait_ready(), timeout=120)

        def ask(model: str) -> httpx.Response:
            body = {"model": model, "prompt": "The capital of France is", "max_tokens": 12, "temperature": 0}
            return client.post("/v1/completions", json=body)

        def text(model: str) -> str:
            answer = ask(model)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["text"])

        refused = inferry.run("lora", "load", "chat", "broken", "broken")
        assert refused.returncode == 1
        assert "'broken' was not loaded: chat-0: /v1/load_lora_adapter answers" in refused.stderr
        loaded = inferry.run("lora", "load", "chat", "law", "law")
        assert loaded.returncode == 0, loaded.stderr
        plain, changed = text("chat"), text("chat/law")
        assert plain != changed

        os.kill(up.replicas()["chat-0"]["pid"], signal.SIGKILL)
        wait_for("it is gone", lambda: up.replicas()["chat-0"]["state"] != "ready")
        wait_for("it is back", lambda: up.replicas()["chat-0"]["state"] == "ready", START_S)
        assert text("chat/law") == changed
        assert inferry.run("lora", "unload", "chat", "law").stdout == "Dropped at chat-0.\n"
        assert ask("chat/law").status_code == 404
        assert text("chat") == plain
        client.close()
