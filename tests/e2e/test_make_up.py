"""What the README promises first: `make up` in a fresh clone, with nothing else installed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from .inferry_process import process_gone, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


def test_make_up_ends_in_a_served_model_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """Clone, `make up`: environment, sample model, two replicas, answers plain and streamed; Ctrl-C leaves none."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("INFERRY", "MAKE", "MFLAGS"))
    }
    log_path = tmp_path / "up.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            ["make", "up", f"PORT={port}"],
            cwd=clone,
            env={**inherited, "INFERRY_HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, log_path.read_text()
            return "Ready after" in log_path.read_text()

        wait_for("make up is ready", ready, 540.0)
        engines = {int(pid) for pid in re.findall(r"ready .* pid (\d+)", log_path.read_text())}
        assert len(engines) == 2
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}],
            "temperature": 0,
        }
        plain = httpx.post(url, json=body, timeout=60).json()
        assert "Paris" in plain["choices"][0]["message"]["content"]
        assert httpx.post(url, json={**body, "stream": True}, timeout=60).text.endswith("data: [DONE]\n\n")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C: to make and all below it
        process.wait(60)
        assert "no engine is left running" in log_path.read_text()
        assert all(process_gone(pid) for pid in engines)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
