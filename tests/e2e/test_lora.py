"""`inferry lora`, with an engine that is a stand-in for SGLang: no real one runs here."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import httpx
import pytest

from .inferry_process import Inferry, wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILE = """\
gateway: {workers: 2}
names:
  chat/taken: {split: [{deployment: chat}]}
deployments:
  chat:
    engine: sglang
    model: file:model
    binary: ./sglang
    replicas: 2
    lora_live: true
    routing: {policy: round_robin}
    restart: {backoff_initial_s: 0}
"""


def test_adapters_come_and_go_while_engines_run(tmp_path: Path) -> None:
    """Loaded by a verb, an adapter is a model for clients at every gateway process and replica, also at one that was
    killed and came back; errors are the engine's; dropped, its name is unknown."""
    inferry = Inferry(tmp_path)
    program = tmp_path / "sglang"
    start = f"exec {shlex.quote(sys.executable)} -m tests.standins.sglang"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} {start} "$@"\n')
    program.chmod(0o755)
    for folder in ("model", "law"):
        (tmp_path / folder).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "law" / "adapter_config.json").write_text("{}")
    inferry.write(FILE)
    with inferry.up() as up:
        # A connection for each request, so that both gateway processes are met.
        client = httpx.Client(base_url=up.wait_ready(), headers={"connection": "close"}, timeout=30)

        def ask(model: str) -> httpx.Response:
            body = {"model": model, "messages": [{"role": "user", "content": "one two"}]}
            return client.post("/v1/chat/completions", json=body)

        assert ask("chat/law").status_code == 404
        taken = inferry.run("lora", "load", "chat", "taken", "law")
        assert "'chat/taken' is in the file already, below 'names'" in taken.stderr
        done = inferry.run("lora", "load", "chat", "law", "law")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "Loaded at chat-0, chat-1. Clients send 'chat/law' as model.\n"
        answers = [ask("chat/law") for _ in range(8)]
        assert [each.status_code for each in answers] == [200] * 8
        assert {each.headers["x-inferry-replica"] for each in answers} == {"chat-0", "chat-1"}
        models = {each["id"] for each in client.get("/v1/models").json()["data"]}
        assert "chat/law" in models

        os.kill(up.replicas()["chat-0"]["pid"], signal.SIGKILL)
        wait_for("it is gone", lambda: up.replicas()["chat-0"]["state"] != "ready")
        wait_for("it is back", lambda: up.replicas()["chat-0"]["state"] == "ready", 60.0)
        assert {ask("chat/law").status_code for _ in range(8)} == {200}
        [shown] = json.loads(inferry.run("lora", "list", "--json").stdout)
        assert (shown["model"], shown["missing"]) == ("chat/law", {})

        dropped = inferry.run("lora", "unload", "chat", "law")
        assert dropped.stdout == "Dropped at chat-0, chat-1.\n"
        assert {ask("chat/law").status_code for _ in range(4)} == {404}
        again = inferry.run("lora", "unload", "chat", "law")
        assert (again.returncode, again.stderr) == (1, "error: 'chat' has no adapter 'law'.\n")
        client.close()
