"""The rendered gateway really run as a pod, by podman, with an embedded engine inside that answers."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from inferry.render.kubernetes.gateway import config_map
from inferry.render.kubernetes.rendering import render_kubernetes
from inferry.render.shipment import GATEWAY_USER, MODELS_PATH
from inferry.render.yaml_text import without_reasons
from tests.e2e.inferry_process import wait_for
from tests.ship.images import gateway_image, podman
from tests.ship.shipments import shipment_of

pytestmark = pytest.mark.slow


def address() -> str:
    """The pod's own, on podman's bridge."""
    infra = podman("pod", "inspect", "inferry-gateway-0", "--format", "{{.InfraContainerID}}")
    networks = json.loads(podman("inspect", infra))[0]["NetworkSettings"]["Networks"]
    return next(str(each["IPAddress"]) for each in networks.values())


def as_pod(text: str) -> dict[str, Any]:
    """The workload's pod, as a controller would make it: podman knows neither StatefulSets nor their claims."""
    [workload] = [each for each in yaml.safe_load_all(text) if each["kind"] in ("StatefulSet", "Deployment")]
    template = workload["spec"]["template"]
    template["spec"]["volumes"].append(
        {"name": "home", "persistentVolumeClaim": {"claimName": "inferry-home"}}
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "inferry-gateway-0"},
        "spec": template["spec"],
    }


@contextmanager
def volume(name: str, folder: Path, owner: int) -> Iterator[None]:
    """A claim that is bound: what a cluster's storage and fsGroup do is done here."""
    archive = folder.with_suffix(".tar")
    with tarfile.open(archive, "w") as made:
        for path in sorted(folder.iterdir()):
            made.add(path, path.name)
        top = tarfile.TarInfo(".")
        top.type, top.mode, top.uid, top.gid = tarfile.DIRTYPE, 0o755, owner, owner
        made.addfile(top)
    podman("volume", "create", name)
    try:
        podman("volume", "import", name, str(archive))
        yield
    finally:
        podman("volume", "rm", "--force", name)


def test_the_rendered_pod_serves_a_real_model(sample_model: Path, tmp_path: Path) -> None:
    """As user 10001 on a read-only root, with the model from the claim and the file from the ConfigMap: it makes a key,
    answers a chat, streams, keeps its ledger on its volume, and ends by itself when it is told to."""
    text = f"""\
deployments:
  chat: {{engine: llamacpp, model: "file:{sample_model}", context_tokens: 512}}
"""
    shipment = shipment_of(text, image=gateway_image())
    [model] = shipment.model_mounts
    assert model.inside.startswith(MODELS_PATH)
    models, home = tmp_path / "models", tmp_path / "home"
    models.mkdir()
    home.mkdir()
    shutil.copy(sample_model, models / Path(model.inside).name)
    (models / Path(model.inside).name).chmod(0o644)
    pod = as_pod(render_kubernetes(shipment)["gateway.yaml"])
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(yaml.safe_dump_all([without_reasons(config_map(shipment)), pod]))
    with volume("inferry-models", models, 0), volume("inferry-home", home, GATEWAY_USER):
        podman("kube", "play", str(manifest))
        try:
            talk_to(f"http://{address()}:8000")
        finally:
            said = podman("logs", "inferry-gateway-0-gateway")
            podman("kube", "down", str(manifest))
    assert "chat-0 ready" in said
    assert "inf-" not in said, "a key in a log"


def talk_to(url: str) -> None:
    name = "inferry-gateway-0-gateway"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for("the pod is ready", ready, 120)
    except AssertionError as error:
        raise AssertionError(podman("logs", name)) from error
    assert podman("exec", name, "id", "-u") == str(GATEWAY_USER)
    with pytest.raises(AssertionError, match="Read-only file system"):
        podman("exec", name, "touch", "/etc/x")
    made = json.loads(podman("exec", name, "inferry", "keys", "create", "--tenant", "test", "--json"))
    headers = {"authorization": f"Bearer {made['key']}"}
    question = {"model": "chat", "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 8}
    assert httpx.post(f"{url}/v1/chat/completions", json=question).status_code == 401

    def answered() -> httpx.Response | None:
        found = httpx.post(f"{url}/v1/chat/completions", json=question, headers=headers, timeout=60)
        return None if found.status_code == 401 else found  # the key is known within a second

    answer = wait_for("the key is known", answered)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    stream = httpx.post(
        f"{url}/v1/chat/completions", json={**question, "stream": True}, headers=headers, timeout=60
    )
    assert stream.text.rstrip().endswith("data: [DONE]")
    usage = json.loads(podman("exec", name, "inferry", "usage", "--json"))
    assert "test" in json.dumps(usage)
