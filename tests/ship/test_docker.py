"""The gateway's image: what is rendered is what was reviewed, linters take it, and it is really built and run."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from inferry.cli.rendered_files import write_folder
from inferry.render.docker import render_docker
from tests.e2e.inferry_process import wait_for
from tests.ship.golden import check_golden
from tests.ship.images import gateway_image, podman
from tests.ship.shipments import ENVIRON, everything_shipment, small_shipment, vllm_shipment
from tests.ship.test_proxies_live import free_port
from tests.ship.tools import passes, run, tool

ROOT = Path(__file__).parents[2]


def test_what_was_reviewed_is_what_is_rendered() -> None:
    """The text of the golden files, the lock apart, which has a test of its own; no secret in it."""
    files = dict(render_docker(vllm_shipment()))
    files.pop("requirements.txt")
    check_golden("docker", files)
    every = "".join(render_docker(everything_shipment()).values())
    assert not [value for value in ENVIRON.values() if value in every]


def test_only_who_embeds_an_engine_gets_it() -> None:
    """The engine's package and its library are in one image and not in the other; all else is the same."""
    with_engine, without = render_docker(small_shipment()), render_docker(vllm_shipment())
    assert "xllamacpp==" in with_engine["requirements.txt"]
    assert "libgomp1" in with_engine["Dockerfile"]
    assert "xllamacpp==" not in without["requirements.txt"]
    assert "libgomp1" not in without["Dockerfile"]
    kept = re.sub(r"xllamacpp==.*\n(    .*\n)*", "", with_engine["requirements.txt"])
    assert kept == without["requirements.txt"]


def test_the_image_has_the_versions_that_are_tested() -> None:
    """Its lock and those of the checkout agree, and each package has a hash."""
    entries = re.split(r"\n(?=\S)", render_docker(everything_shipment())["requirements.txt"].strip())[1:]
    assert len(entries) > 60
    assert [each for each in entries if "--hash=sha256:" not in each] == []
    local = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "locks/local.txt").read_text(), re.MULTILINE))
    for entry in entries:
        name, version = entry.split()[0].split("==")
        assert local.get(name, version) == version


def test_linters_take_it_and_would_not_take_everything(tmp_path: Path) -> None:
    """hadolint and trivy find nothing; both find what is put in for them."""
    write_folder(tmp_path, render_docker(small_shipment()))
    path = tmp_path / "Dockerfile"
    scan: tuple[str, ...] = (tool("trivy"), "config", "--skip-check-update", "--quiet", "--exit-code", "1")
    scan += ("--severity", "HIGH,CRITICAL", str(tmp_path))
    passes(tool("hadolint"), str(path))
    passes(*scan)
    path.write_text(path.read_text().replace("USER 10001:10001\n", "RUN cd /x\nUSER root\n"))
    assert "DL3003" in run(tool("hadolint"), str(path)).stdout
    assert run(*scan).returncode == 1


# --- really built, and really run -----------------------------------------------------------------------


@pytest.fixture
def container(tmp_path: Path, sample_model: Path) -> Iterator[tuple[str, str]]:
    """Name and address of a gateway that is locked in as far as it goes, with the embedded engine."""
    image, port, name = gateway_image(), free_port(), f"inferry-test-{tmp_path.name}"
    config = tmp_path / "inferry.yaml"
    config.write_text(
        f'gateway: {{listen: "127.0.0.1:{port}", auth: keys}}\n'
        "deployments:\n  chat: {engine: llamacpp, model: file:/model.gguf, context_tokens: 512}\n"
    )
    tmp_path.chmod(0o755)
    podman(
        "run", "--detach", "--name", name, "--network", "host", "--read-only", "--cap-drop", "all",
        "--security-opt", "no-new-privileges", "--tmpfs", "/tmp",
        "--volume", f"{config}:/etc/inferry/inferry.yaml:ro", "--volume", f"{sample_model}:/model.gguf:ro", image,
    )  # fmt: skip
    try:
        yield name, f"http://127.0.0.1:{port}"
    finally:
        podman("rm", "--force", "--time", "20", "--volumes", name)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_it_is_built_and_serves_without_root(container: tuple[str, str]) -> None:
    """As user 10001 on a read-only root: healthy by its own check, a key made inside, an answer of the real model, no
    key in what it says, and it leaves in order."""
    name, url = container
    wait_for("the gateway is well", lambda: _is_up(url), timeout_s=60)
    assert podman("exec", name, "id", "-u") == "10001"
    assert run(tool("podman"), "exec", name, "touch", "/opt/inferry/x").returncode != 0
    _, *check = json.loads(podman("inspect", name, "--format", "{{json .Config.Healthcheck.Test}}"))
    assert run(tool("podman"), "exec", name, *check).returncode != 0  # asks the port that it was rendered for
    podman("exec", name, *(word.replace("127.0.0.1:8000", url.removeprefix("http://")) for word in check))
    made = json.loads(podman("exec", name, "inferry", "keys", "create", "--tenant", "a", "--json"))
    key = max(
        (str(value) for value in made.values() if str(value).startswith("inf-")), key=len
    )  # not its prefix
    question = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    address = f"{url}/v1/chat/completions"
    assert httpx.post(address, json=question, timeout=60).status_code == 401
    answer = httpx.post(address, json=question, headers={"authorization": f"Bearer {key}"}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    assert "inf-" not in podman("logs", name)
    began_s = time.monotonic()
    podman("stop", "--time", "30", name)
    assert time.monotonic() - began_s < 25
    assert podman("inspect", name, "--format", "{{.State.ExitCode}}") == "0"


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
