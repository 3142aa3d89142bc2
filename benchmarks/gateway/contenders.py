"""How each proxy is started: one worker, round robin over the two endpoints, its log at warnings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.gateway.cores import Cores
from benchmarks.gateway.installs import PINNED, environment
from benchmarks.gateway.processes import serving, tree

START_LIMIT_S = 90.0
BENCH_KEY = "sk-bench-0123456789abcdef"
"""For LiteLLM, whose key is what its file says."""


class NotStarted(Exception):
    """A contender can't take part; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a contender's starter is given."""

    ports: tuple[int, int]
    cache: Path
    folder: Path
    cores: Cores
    workers: int = 1

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]


@dataclass(slots=True)
class Running:
    """A proxy that answers."""

    name: str
    version: str
    port: int
    process: subprocess.Popen[bytes]
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)

    def pids(self) -> list[int]:
        return tree(self.process.pid)

    def serving_pids(self) -> list[int]:
        """The processes that serve requests: those that accept a connection, of many that are opened."""
        with contextlib.ExitStack() as stack:
            for _ in range(64):
                stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=10))
            time.sleep(0.5)
            return serving(self.pids(), self.port) or [self.process.pid]


Start = Callable[[Plan, IO[bytes]], Running]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spawn(command: list[str], plan: Plan, log: IO[bytes], **environ: str) -> subprocess.Popen[bytes]:
    """`command` on the proxy's cores, in a session of its own, with `environ` added to ours."""
    with plan.cores.proxy():
        return subprocess.Popen(
            command, cwd=plan.folder, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def ask(port: int, headers: dict[str, str], limit_s: float = 10.0) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to one chat request; raises OSError."""
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "hello"}]}).encode()
    request = Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json", **headers}
    )
    try:
        with urlopen(request, timeout=limit_s) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except HTTPError as error:
        with error:
            return error.code, {}


def wait_ready(process: subprocess.Popen[bytes], port: int, headers: dict[str, str]) -> None:
    """Until ten requests in a row are answered; raises NotStarted."""
    deadline = time.monotonic() + START_LIMIT_S
    good = 0
    last = "nothing listens"
    while good < 10:
        if process.poll() is not None:
            raise NotStarted(f"it ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise NotStarted(f"not ready after {START_LIMIT_S:g} s: {last}")
        try:
            status, _ = ask(port, headers)
        except OSError as error:
            good, last = 0, str(error)
        else:
            good, last = (good + 1, "") if status == 200 else (0, f"status {status}")
        if not good:
            time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started."""
    pids = tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for pid in pids:
        if pid != process.pid or process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
    process.wait(15)


def end_in_order() -> None:
    """From now on, SIGTERM and SIGHUP end this program as Ctrl-C does, and what it started ends with it."""

    def end(number: int, frame: object) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)  # once is enough: the end itself takes a moment
        sys.exit(128 + number)

    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, end)


@contextlib.contextmanager
def run(name: str, start: Start, plan: Plan) -> Iterator[Running]:
    """The proxy, ready; raises NotStarted or NotInstalled with the reason."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    log_path = plan.folder / "log"
    with log_path.open("wb") as log:
        try:
            running = start(plan, log)
        except NotStarted as error:
            text = log_path.read_text(errors="replace").strip()
            last = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[-1:] or ["without a word"]
            raise NotStarted(f"{error}; it said last: {last[0].strip()[:300]}") from None
        try:
            yield running
        finally:
            stop(running.process)


def _ready(name: str, version: str, port: int, process: subprocess.Popen[bytes], **headers: str) -> Running:
    try:
        wait_ready(process, port, headers)
    except BaseException:
        stop(process)
        raise
    return Running(name, version, port, process, headers)


# --- nginx --------------------------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 65536;
error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
  upstream engine {{
    server 127.0.0.1:{first}; server 127.0.0.1:{second};
    keepalive 4096; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


def start_nginx(plan: Plan, log: IO[bytes]) -> Running:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise NotStarted("nginx is not installed here")
    version = (
        subprocess.run([program, "-v"], check=False, capture_output=True, text=True)
        .stderr.strip()
        .rpartition("/")[2]
    )
    port = free_port()
    first, second = plan.ports
    config = plan.folder / "nginx.conf"
    config.write_text(NGINX.format(folder=plan.folder, first=first, second=second, port=port))
    process = spawn([program, "-c", str(config), "-p", str(plan.folder)], plan, log)
    return _ready("nginx", version, port, process)


# --- routers ------------------------------------------------------------------------------------------


def _pinned_version(name: str) -> str:
    return PINNED[name].rpartition("==")[2]


def _start_router(name: str, command: list[str], warnings: str, plan: Plan, log: IO[bytes]) -> Running:
    port = free_port()
    words = [
        "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *plan.urls, "--policy", "round_robin",
        "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()), "--log-level", warnings,
    ]  # fmt: skip
    return _ready(name, _pinned_version(name), port, spawn([*command, *words], plan, log))


def start_sglang_router(plan: Plan, log: IO[bytes]) -> Running:
    python = environment("sglang-router", plan.cache) / "python"
    command = [str(python), "-m", "sglang_router.launch_router"]
    return _start_router("sglang-router", command, "warn", plan, log)


def start_smg(plan: Plan, log: IO[bytes]) -> Running:
    return _start_router("smg", [str(environment("smg", plan.cache) / "smg"), "launch"], "warn", plan, log)


def start_vllm_router(plan: Plan, log: IO[bytes]) -> Running:
    program = environment("vllm-router", plan.cache) / "vllm-router"
    return _start_router("vllm-router", [str(program)], "warning", plan, log)


# --- LiteLLM ------------------------------------------------------------------------------------------


def start_litellm(plan: Plan, log: IO[bytes]) -> Running:
    program = environment("litellm", plan.cache) / "litellm"
    models = [
        {
            "model_name": "bench",
            "litellm_params": {"model": "openai/bench", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for url in plan.urls
    ]
    config = plan.folder / "config.yaml"
    config.write_text(  # JSON is YAML
        json.dumps(
            {
                "model_list": models,
                "router_settings": {"routing_strategy": "simple-shuffle"},
                "general_settings": {"master_key": BENCH_KEY},
                "litellm_settings": {"telemetry": False, "set_verbose": False},
            }
        )
    )
    port = free_port()
    command = [
        str(program),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    process = spawn(command, plan, log, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR")
    return _ready("litellm", _pinned_version("litellm"), port, process, authorization=f"Bearer {BENCH_KEY}")
