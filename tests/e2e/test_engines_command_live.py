"""The printed command of an engine, pasted into a shell: it starts the engine that `inferry up` would start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from .inferry_process import Inferry, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

KEY = "k3y-of-this-test"
ASK = {"model": "chat", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def arguments_of_all() -> list[bytes]:
    """Of every process that can be seen; empty where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(path.read_bytes())
    return found


def test_the_pasted_command_serves(tmp_path: Path, sample_model: Path) -> None:
    """With the key set outside, the pasted text becomes a real engine under the deployment's name, which answers
    with that key and refuses others; the key is in none of its arguments."""
    inferry = Inferry(tmp_path)
    file = inferry.write(
        f"deployments:\n  chat: {{engine: llamacpp, model: 'file:{sample_model}', context_tokens: 512, parallel: 1}}\n"
    )
    port = free_port()
    printed = inferry.run("engines", "command", "--file", str(file), "--port", str(port))
    assert printed.returncode == 0, printed.stderr
    environ = {**os.environ, "INFERRY_ENGINE_KEY": KEY}
    engine = subprocess.Popen(
        ["sh", "-eu", "-c", printed.stdout], env=environ, cwd=tmp_path, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for("the engine is healthy", lambda: healthy(url), 60)
        right = httpx.post(
            f"{url}/v1/completions", json=ASK, headers={"Authorization": f"Bearer {KEY}"}, timeout=60
        )
        wrong = httpx.post(f"{url}/v1/completions", json=ASK, headers={"Authorization": "Bearer x"})
        assert not [each for each in arguments_of_all() if KEY.encode() in each]
    finally:
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()
        assert engine.stdin is not None
        engine.stdin.close()
    assert right.status_code == 200
    assert "Paris" in right.json()["choices"][0]["text"]
    assert wrong.status_code == 401
