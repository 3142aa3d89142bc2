"""`inferry up` and its verbs, with the real embedded engine."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from .inferry_process import Inferry, process_gone, wait_for

pytestmark = pytest.mark.engine

QUESTION = {
    "model": "chat",
    "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}],
    "temperature": 0,
    "max_tokens": 16,
}


@pytest.fixture
def inferry(tmp_path: Path, sample_model: Path) -> Inferry:
    inferry = Inferry(tmp_path)
    inferry.write(
        f"deployments:\n  chat:\n    engine: llamacpp\n    model: file:{sample_model}\n"
        "    replicas: 2\n    context_tokens: 1024\n"
    )
    return inferry


@pytest.mark.slow  # where nothing else runs: it looks at a clock
def test_up_answers_and_first_token_comes_within_5_s(inferry: Inferry) -> None:
    """From `inferry up` to the first streamed token under 5 s; stream and plain answers are the model's."""
    began_s = time.monotonic()
    with inferry.up() as up:
        url = up.wait_ready()
        with httpx.stream("POST", f"{url}/v1/chat/completions", json={**QUESTION, "stream": True}) as answer:
            lines = answer.iter_lines()
            first = next(line for line in lines if '"content"' in line)
            first_token_s = time.monotonic() - began_s
            rest = list(lines)
        assert first.startswith("data: {")
        assert [line for line in rest if line][-1] == "data: [DONE]"
        assert first_token_s < 5.0
        plain = httpx.post(f"{url}/v1/chat/completions", json=QUESTION, timeout=30).json()
        assert "Paris" in plain["choices"][0]["message"]["content"]
        assert plain["model"] == "chat"
        assert "curl" in up.output()


def test_verbs_show_what_runs(inferry: Inferry) -> None:
    """status, status --json, logs, chat and down work on a running instance."""
    with inferry.up() as up:
        url = up.wait_ready()
        status = inferry.status()
        [deployment] = status["deployments"]
        assert (deployment["name"], deployment["engine"], deployment["status"]) == (
            "chat",
            "llamacpp",
            "ready",
        )
        assert [replica["id"] for replica in deployment["replicas"]] == ["chat-0", "chat-1"]
        for replica in deployment["replicas"]:
            assert {"id", "state", "pid", "url", "restarts"} <= replica.keys()
            assert replica["state"] == "ready"
            os.kill(replica["pid"], 0)
        assert status["url"] == url

        table = inferry.run("status").stdout
        assert "DEPLOYMENT" in table
        assert table.count("ready") >= 3
        assert "model loaded" in inferry.run("logs", "chat-0").stdout
        wrong = inferry.run("logs", "chat-7")
        assert (wrong.returncode, "Did you mean 'chat-" in wrong.stderr) == (1, True)
        said = inferry.run("chat", "Where is the Eiffel Tower?", "--temperature", "0", "--max-tokens", "16")
        assert "Paris" in said.stdout

        down = inferry.run("down")
        assert (down.returncode, "Stopped" in down.stdout) == (0, True)
        assert up.process.wait(10) == 0
        assert "Nothing is running" in inferry.run("status").stderr


def test_killed_replica_is_restarted_and_costs_no_request(inferry: Inferry) -> None:
    """kill -9 of one replica under load: the other one serves what had not begun; a new one comes by itself."""
    with inferry.up() as up:
        url = up.wait_ready()
        before = up.replicas()
        victim = before["chat-0"]["pid"]
        statuses: list[int] = []

        def ask(number: int) -> int:
            return httpx.post(
                f"{url}/v1/chat/completions", json={**QUESTION, "seed": number}, timeout=60
            ).status_code

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            running = [pool.submit(ask, number) for number in range(40)]
            wait_for("some answers", lambda: sum(each.done() for each in running) >= 6)
            os.kill(victim, signal.SIGKILL)
            statuses = [each.result() for each in running]
        assert statuses == [200] * 40

        def restarted() -> bool:
            now = up.replicas()["chat-0"]
            return bool(now["state"] == "ready" and now["restarts"] == 1 and now["pid"] != victim)

        wait_for("chat-0 is back", restarted)
        assert up.replicas()["chat-1"]["pid"] == before["chat-1"]["pid"]
        assert "killed by SIGKILL" in up.output()


def test_kill_9_of_inferry_leaves_no_engine(inferry: Inferry) -> None:
    """When inferry itself is killed with -9, no engine process is left after 5 s, and up works again."""
    with inferry.up() as up:
        up.wait_ready()
        engines = [replica["pid"] for replica in up.replicas().values()]
        up.process.kill()
        up.process.wait()
        wait_for("all engines are gone", lambda: all(process_gone(pid) for pid in engines), 5.0)
    assert "Nothing is running" in inferry.run("status").stderr
    with inferry.up() as again:
        again.wait_ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_drain_and_stop_everything(inferry: Inferry, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C let a stream under way finish, then end the engines and exit 0."""
    with inferry.up() as up:
        url = up.wait_ready()
        engines = [replica["pid"] for replica in up.replicas().values()]
        body = {**QUESTION, "stream": True, "max_tokens": 60, "ignore_eos": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            up.process.send_signal(number)
            text = list(lines)
        assert [line for line in text if line][-1] == "data: [DONE]"
        assert up.process.wait(20) == 0
        assert all(process_gone(pid) for pid in engines)


def test_detached_instance_outlives_its_starter(inferry: Inferry) -> None:
    """`up --detach` returns when everything is ready; `down` ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = inferry.run("up", "--detach", "--port", str(port))
    try:
        assert started.returncode == 0, started.stderr
        assert "in the background" in started.stdout
        assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "ready"
        second = inferry.run("up", "--detach", "--port", str(port))
        assert second.returncode == 1
        assert f"Inferry serves {inferry.folder / 'inferry.yaml'} there already" in second.stderr
    finally:
        assert inferry.run("down").returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")


# --- each mistake gives one clear message, a non-zero exit code, and no traceback ---------------------


def assert_clear(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_bad_file_is_explained(inferry: Inferry) -> None:
    """A wrong key names file, line, key and the right key; nothing is started."""
    inferry.write("deployments:\n  chat:\n    engine: simulated\n    replica: 2\n")
    assert_clear(inferry.run("up"), "inferry.yaml:4", "deployments.chat.replica", "Did you mean 'replicas'?")


def test_missing_file_is_explained(inferry: Inferry) -> None:
    """No file: the message says how to get one."""
    assert_clear(inferry.run("up", "nowhere.yaml"), "nowhere.yaml does not exist", "inferry init")


def test_busy_port_is_explained(inferry: Inferry) -> None:
    """A taken port is found before any engine is started, and another one is proposed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_clear(inferry.run("up", "--port", str(port)), f"127.0.0.1:{port} is taken", "--port")


def test_missing_model_is_explained(inferry: Inferry) -> None:
    """A model that is not there names the deployment's key and the path."""
    inferry.write("deployments:\n  chat: {engine: llamacpp, model: 'file:no/such.gguf'}\n")
    assert_clear(inferry.run("up", "--port", "0"), "deployments.chat.model", "no/such.gguf")


def test_engine_that_dies_at_start_is_explained(inferry: Inferry) -> None:
    """A model file that is none ends `up` with the engine's own words and the log's place."""
    broken = inferry.folder / "broken.gguf"
    broken.write_bytes(b"this is no model")
    inferry.write("deployments:\n  chat: {engine: llamacpp, model: 'file:broken.gguf', replicas: 2}\n")
    done = inferry.run("up", "--port", "0")
    assert_clear(done, "chat-0", "broken.gguf", ".log")
    assert not list(inferry.home.glob("run/*/instance.json"))


def test_bad_requests_have_openai_shape(inferry: Inferry) -> None:
    """The official shape for a wrong model and a wrong value, from the running gateway."""
    with inferry.up() as up:
        url = up.wait_ready()
        unknown = httpx.post(f"{url}/v1/chat/completions", json={**QUESTION, "model": "gpt-4"})
        assert unknown.status_code == 404
        assert "Known: chat" in unknown.json()["error"]["message"]
        wrong = httpx.post(f"{url}/v1/chat/completions", json={**QUESTION, "temperature": "hot"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "temperature")
        assert json.dumps("hot") in wrong.json()["error"]["message"]
