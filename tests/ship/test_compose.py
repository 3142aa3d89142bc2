"""Docker Compose: what is rendered is what was reviewed, Compose takes it, and it is really brought up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from inferry.cli.rendered_files import write_folder
from inferry.core.config_file import parse_text
from inferry.render.compose import render_compose
from inferry.render.shipment import Shipment
from tests.e2e.inferry_process import wait_for
from tests.ship.golden import check_golden
from tests.ship.images import container_env, gateway_image, podman, podman_socket
from tests.ship.shipments import ENVIRON, everything_shipment, shipment_of, small_shipment, vllm_shipment
from tests.ship.test_proxies_live import free_port
from tests.ship.tools import passes, run, tool


def services_of(shipment: Shipment) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(render_compose(shipment)["compose.yaml"])["services"]
    return services


@pytest.mark.parametrize("make", [vllm_shipment, everything_shipment])
def test_what_was_reviewed_is_what_is_rendered(make: Callable[[], Shipment]) -> None:
    """Compose's own files (those of the image have their test); no secret in them."""
    files = {name: text for name, text in render_compose(make()).items() if name in OWN}
    check_golden(f"compose-{make.__name__.removesuffix('_shipment')}", files)
    assert not [value for value in ENVIRON.values() if value in "".join(files.values())]


OWN = ("compose.yaml", "inferry.yaml", ".env.example")


@pytest.mark.parametrize("make", [small_shipment, vllm_shipment, everything_shipment])
def test_compose_takes_it_and_would_not_take_everything(make: Callable[[], Shipment], tmp_path: Path) -> None:
    """With each variable of .env.example set; without them, and with a wrong word, it refuses."""
    write_folder(tmp_path, render_compose(make()))
    path, example = tmp_path / "compose.yaml", (tmp_path / ".env.example").read_text()
    command = (tool("docker-compose"), "--file", str(path), "config", "--quiet")
    if "=" in example.replace("# ", ""):
        assert run(*command).returncode != 0 or "_KEY=" not in example
    (tmp_path / ".env").write_text(example.replace("=\n", "=x\n"))
    passes(*command)
    path.write_text(path.read_text().replace("cap_drop", "cap_dropp"))
    assert "cap_dropp" in run(*command).stderr


def test_nobody_is_root_and_nothing_is_open() -> None:
    """Each service: no capability, no new privileges, nothing writable but what is named, bounds; engines on a network
    without a way out unless they fetch their model, and no port of theirs is published."""
    services = services_of(everything_shipment())
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert "privileged" not in service, name
    engines = {name: each for name, each in services.items() if name[-1].isdigit()}
    assert sorted(engines) == ["chat-0", "chat-1", "embed-0", "local-0"]
    for name, service in engines.items():
        assert service["user"] == "10001:10001", name
        assert "ports" not in service, name
        assert service["image"].rpartition(":")[2] not in ("", "latest"), name
        assert service["healthcheck"]["start_period"] == "600s", name
        assert service["logging"]["options"]["max-size"], name
    assert engines["local-0"]["networks"] == ["engines"]
    assert services["gateway"]["ports"][0] == "8000:8000"  # it speaks TLS
    assert services_of(small_shipment())["gateway"]["ports"] == ["127.0.0.1:8000:8000"]


def test_each_replica_has_gpus_of_its_own() -> None:
    """Counted through, or as the file says; what is on the CPU reserves none."""
    services = services_of(everything_shipment())

    def gpus(name: str) -> list[str]:
        [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
        found: list[str] = device["device_ids"]
        return found

    assert gpus("chat-0") == ["0", "1", "2", "3"]
    assert gpus("chat-1") == ["4", "5", "6", "7"]
    assert gpus("embed-0") == ["8"]
    text = (
        "deployments:\n  chat:\n    engine: vllm\n    model: hf:org/big\n    replicas: 2\n    gpus: [3, 5]\n"
    )
    services = services_of(shipment_of(text))
    assert (gpus("chat-0"), gpus("chat-1")) == (["3"], ["5"])


def test_the_gateways_file_is_right_and_finds_every_replica() -> None:
    """It reads without an error; each engine is where Compose has its service, with a key that is only named; each
    service has the variables that it needs and no others."""
    files = render_compose(everything_shipment())
    keys = {"CHAT_ENGINE_KEY": "k1", "EMBED_ENGINE_KEY": "k2", "LOCAL_ENGINE_KEY": "k3"}
    config = parse_text(files["inferry.yaml"], Path("/etc/inferry/inferry.yaml"), ENVIRON | keys).config
    found = config.deployments
    assert found["chat"].endpoints == ["http://chat-0:8000", "http://chat-1:8000"]
    assert found["inside"].endpoints is None
    services = yaml.safe_load(files["compose.yaml"])["services"]
    assert sorted(services["gateway"]["environment"]) == sorted({*keys, "LEDGER_URL", "OUTSIDE_KEY"})
    assert services["chat-0"]["environment"]["VLLM_API_KEY"] == "${CHAT_ENGINE_KEY:?set it in .env}"
    assert not {"LEDGER_URL", "OUTSIDE_KEY"} & set(services["chat-0"]["environment"])


def test_where_replicas_run_is_for_the_rendered_files_to_say() -> None:
    """A gateway in a container starts no replica on a cluster: its file has no `runtime`."""
    text = "runtime: {kind: ray, address: auto}\ndeployments: {a: {engine: simulated}}\n"
    assert "runtime" not in yaml.safe_load(render_compose(shipment_of(text))["inferry.yaml"])


def test_backups_have_a_volume_of_their_own() -> None:
    """Where the image's user may write; without `backup`, there is none."""
    text = "backup: {folder: kept, keep: 3}\ndeployments: {a: {engine: simulated}}\n"
    files = render_compose(shipment_of(text))
    project = yaml.safe_load(files["compose.yaml"])
    inside = yaml.safe_load(files["inferry.yaml"])["backup"]
    assert inside == {"folder": "/var/backups/inferry", "keep": 3}
    assert {"type": "volume", "source": "backups", "target": inside["folder"]} in project["services"][
        "gateway"
    ]["volumes"]
    assert "backups" in project["volumes"]
    assert inside["folder"] in files["Dockerfile"]
    assert "backups" not in yaml.safe_load(render_compose(small_shipment())["compose.yaml"])["volumes"]


# --- really brought up ----------------------------------------------------------------------------------

FILE = """\
gateway: {listen: "127.0.0.1:PORT", auth: none, allow_unauthenticated: true}
backup: {folder: kept}
deployments:
  chat:
    engine: vllm
    version: "0.11.0"
    model: hf:org/big
    replicas: 2
    health: {interval_s: 1, timeout_s: 5}
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Project and address, brought up by Compose through podman. vLLM's image is not to be had here: a simulated engine
    stands in for it, under vLLM's keys and on its port."""
    image, port = gateway_image(), free_port()
    name = f"inferrytest{os.getpid()}"
    shipment = shipment_of(FILE.replace("PORT", str(port)), name=name, image=image)
    write_folder(tmp_path, render_compose(shipment))
    tmp_path.chmod(0o755)
    (tmp_path / "inferry.yaml").chmod(0o644)
    (tmp_path / ".env").write_text("CHAT_ENGINE_KEY=a-key-of-this-test\n")
    simulated = {
        "image": image,
        "entrypoint": ["python", "-m", "inferry.testing.simulated_engine"],
        "command": ["--host", "0.0.0.0", "--port", "8000", "--served-name", "chat", "--itl-ms", "20"],
        "environment": {"INFERRY_ENGINE_KEY": "${CHAT_ENGINE_KEY}"},
    }
    services = list(yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"])
    lines = ["services:"]
    for each in services:
        own = simulated if each[-1].isdigit() else {}
        # This machine refuses Docker's default number of open files, and has no GPU.
        body = json.dumps(own | {"ulimits": {"nofile": 4096, "nproc": 4096}, "pull_policy": "never"})
        reset = "" if not own else ', "deploy": !reset null'
        lines.append(f"  {each}: {body[:-1]}{reset}}}")
    (tmp_path / "here.yaml").write_text("\n".join(lines) + "\n")
    files = ("--file", str(tmp_path / "compose.yaml"), "--file", str(tmp_path / "here.yaml"))
    with podman_socket() as url:
        env = {"DOCKER_HOST": url, **container_env()}
        compose = (tool("docker-compose"), "--project-directory", str(tmp_path), *files)
        try:
            done = run(*compose, "up", "--detach", "--no-build", timeout_s=90, env=env)
            said = run(*compose, "logs", "--tail", "20", env=env).stdout if done.returncode else ""
            assert done.returncode == 0, f"{done.stderr[-3000:]}\n{said[-3000:]}"
            yield name, f"http://127.0.0.1:{port}"
        finally:
            run(*compose, "down", "--volumes", "--timeout", "3", timeout_s=120, env=env)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_it_is_brought_up_and_outlives_an_engine(up: tuple[str, str]) -> None:
    """All healthy by their own checks; a stream comes through; a backup is made; one engine's container is killed, and no answer is missed."""
    project, url = up
    question = {
        "model": "chat",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 20,
        "stream": True,
    }

    def ask() -> str:
        return httpx.post(f"{url}/v1/chat/completions", json=question, timeout=30).text

    def unwell() -> list[str]:
        said = podman("ps", "--filter", f"name={project}", "--format", "{{.Names}} {{.Status}}")
        return [line for line in said.splitlines() if "(healthy)" not in line]

    wait_for("all are healthy", lambda: not unwell(), timeout_s=30)
    ready = lambda: httpx.get(f"{url}/health").json()["deployments"]["chat"]["ready"] == 2  # noqa: E731
    wait_for("both replicas are ready", ready, timeout_s=60)
    assert ask().rstrip().endswith("data: [DONE]")
    running = podman("ps", "--filter", f"name={project}", "--format", "{{.Names}}").splitlines()
    gateway = next(each for each in running if "gateway" in each)

    def kept() -> list[str]:
        return podman("exec", gateway, "ls", "/var/backups/inferry").split()

    wait_for("a backup is made", lambda: len(kept()) == 1, timeout_s=60)
    assert "is right" in podman(
        "exec", gateway, "inferry", "backup", "--check", f"/var/backups/inferry/{kept()[0]}"
    )
    victim = next(each for each in running if "chat-0" in each)
    podman("kill", victim)
    for _ in range(5):  # at once, though looking up the name of the one that is gone may hang
        assert ask().rstrip().endswith("data: [DONE]")
    # For long enough that its probes, too, have asked for that name again and again.
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        assert ask().rstrip().endswith("data: [DONE]")
