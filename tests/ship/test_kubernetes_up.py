"""A whole Inferry whose replicas are pods, on a stand-in for an API server that runs pods as processes. Not Kubernetes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from inferry.runtime.kubernetes.objects import deployment_object
from inferry.runtime.kubernetes.permissions import RULES
from tests.e2e.inferry_process import Inferry, Up, wait_for
from tests.ship.test_ray import COUNTING, counted, ready
from tests.ship.tools import tool
from tests.standins.kubernetes import StandinKubernetes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY = "a-key-of-this-test"
ROBOT = "system:serviceaccount:default:gateway"
GROUP = "rbac.authorization.k8s.io"
FILE = """\
gateway: {{auth: none}}
runtime: {{kind: kubernetes, kubeconfig: kubeconfig{more}}}
deployments:
  chat:
    engine: llamacpp
    model: file:/in/the/pods.gguf
    api_key: ${{CHAT_KEY}}
    replicas: {replicas}
    health: {{interval_s: 1}}
    restart: {{backoff_initial_s: 0.5, backoff_max_s: 2, crashes_max: 100}}
"""


def objects(model: Path) -> list[dict[str, Any]]:
    """What an operator applies: the engine's Deployment and its key, and the gateway's Role."""
    child = [sys.executable, "-P", "-m", "inferry.engines.llamacpp_child"]
    args = [
        "--model",
        str(model),
        "--host",
        "0.0.0.0",
        "--port",
        "8000",
        "--alias",
        "chat",
        "--context-tokens",
        "1024",
    ]
    key = {"secretKeyRef": {"name": "chat-secrets", "key": "key"}}
    container = {
        "name": "engine",
        "image": "engine:1",
        "command": child,
        "args": [*args, "--parallel", "1", "--threads", "1"],
        "env": [{"name": "INFERRY_ENGINE_KEY", "valueFrom": key}],
    }
    rules = [
        {"apiGroups": list(r.groups), "resources": list(r.resources), "verbs": list(r.verbs)} for r in RULES
    ]
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "chat-secrets"}, "stringData": {"key": KEY}},
        dict(deployment_object("inferry", "chat", {"containers": [container], "terminationGracePeriodSeconds": 5})),
        {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": "gateway"}, "rules": rules},
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "gateway"},
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "gateway"},
            "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": "default"}],
        },
    ]  # fmt: skip


class Cluster:
    """The stand-in, with real kubectl as its administrator."""

    def __init__(self, standin: StandinKubernetes, folder: Path) -> None:
        self.standin = standin
        self._config = standin.kubeconfig(folder / "admin")

    def kubectl(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [tool("kubectl"), "--kubeconfig", str(self._config), *words],
            input=stdin, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wanted(self) -> int:
        """As kubectl sees it."""
        return int(self.kubectl("get", "deployment", "inferry-chat", "-o", "jsonpath={.spec.replicas}"))

    def pods(self) -> set[str]:
        return {str(each["metadata"]["name"]) for each in self.standin.objects("pods")}


@pytest.fixture
def cluster(tmp_path: Path, sample_model: Path) -> Iterator[Cluster]:
    with StandinKubernetes(
        rbac=True, pods="processes", folder=tmp_path / "standin", images={"engine": []}
    ) as standin:
        made = Cluster(standin, tmp_path)
        made.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects(sample_model)))
        standin.kubeconfig(tmp_path / "kubeconfig", user=ROBOT)
        yield made


def inferry_in(folder: Path, replicas: int, more: str = "") -> Inferry:
    made = Inferry(folder)
    made.environ["CHAT_KEY"] = KEY
    made.write(FILE.format(replicas=replicas, more=more))
    return made


def pod_at(cluster: Cluster, up: Up, replica: str) -> str:
    host = httpx.URL(str(up.replicas()[replica]["url"])).host
    [found] = [p for p in cluster.standin.objects("pods") if p["status"].get("podIP") == host]
    return str(found["metadata"]["name"])


def test_a_pod_that_dies_in_mid_stream_costs_no_word(cluster: Cluster, tmp_path: Path) -> None:
    """The real engine in two pods, under the gateway's own Role. One is killed while it streams: the answer goes on at the
    other, whole, and the replica comes back in the same pod. `inferry scale` is the Deployment's number. When the gateway
    ends, pods stay, and the next gateway has them at once."""
    inferry = inferry_in(tmp_path, 2)
    with inferry.up() as up:
        url = up.wait_ready()
        ready(up, 2)
        assert cluster.wanted() == 2
        undisturbed, _ = counted(url)
        killed: list[str] = []

        def kill(count: int, replica: str) -> None:
            if count == 50:
                killed.append(pod_at(cluster, up, replica))
                cluster.standin.kill_pod(killed[0])

        text, events = counted(url, kill)
        assert killed
        assert text == undisturbed
        [usage] = [each["usage"] for each in events if each.get("usage")]
        assert usage["completion_tokens"] == COUNTING["max_tokens"]
        wait_for("it is back", lambda: sum(each["restarts"] for each in ready(up, 2).values()) >= 1, 60)
        assert killed[0] in cluster.pods()
        for number in (1, 2):
            scaled = inferry.run("scale", "chat", str(number), timeout_s=90)
            assert scaled.returncode == 0, scaled.stderr
            ready(up, number)
            assert cluster.wanted() == number
        pods = cluster.pods()
        up.process.terminate()
        up.process.wait(30)
        assert "pods stay" in up.output()
    assert cluster.pods() == pods
    assert cluster.wanted() == 2
    with inferry.up() as up:
        counted(up.wait_ready())
        ready(up, 2)
        assert cluster.pods() == pods


def test_an_autoscaler_of_the_cluster_is_followed(cluster: Cluster, tmp_path: Path) -> None:
    """`scaled_by: others`: kubectl says how many, up and down, and the fleet has as many; it never says so itself."""
    inferry = inferry_in(tmp_path, 1, ", scaled_by: others")
    cluster.kubectl("scale", "deployment/inferry-chat", "--replicas=2")
    with inferry.up() as up:
        url = up.wait_ready()
        ready(up, 2)
        cluster.kubectl("scale", "deployment/inferry-chat", "--replicas=1")
        ready(up, 1)
        wait_for("one pod is left", lambda: len(cluster.pods()) == 1, 60)
        assert counted(url)[0]
        assert cluster.wanted() == 1


def test_of_two_gateways_one_decides_and_the_other_takes_over(cluster: Cluster, tmp_path: Path) -> None:
    """By a Lease. The follower has what the leader decided; when the leader is gone, it decides itself."""
    homes = [tmp_path / name for name in ("a", "b")]
    gateways = []
    for home in homes:
        home.mkdir()
        cluster.standin.kubeconfig(home / "kubeconfig", user=ROBOT)
        gateways.append(inferry_in(home, 1, ", lease: inferry"))
    with gateways[1].up() as second, gateways[0].up() as first:
        first.wait_ready()
        second.wait_ready()

        def holder() -> str:
            lease = cluster.standin.object("leases", "inferry")
            return "" if lease is None else str(lease["spec"].get("holderIdentity") or "")

        wait_for("somebody leads", holder, 30)
        ready(first, 1)
        ready(second, 1)
        leader, other = (first, second) if f"process {first.process.pid}," in holder() else (second, first)
        assert f"process {leader.process.pid}," in holder()
        scaled = leader.inferry.run("scale", "chat", "2", timeout_s=90)
        assert scaled.returncode == 0, scaled.stderr
        assert cluster.wanted() == 2
        ready(leader, 2)
        ready(other, 2)
        leader.process.kill()
        wait_for("the other leads", lambda: f"process {other.process.pid}," in holder(), 60)
        assert cluster.wanted() == 2
        scaled = other.inferry.run("scale", "chat", "1", timeout_s=90)
        assert scaled.returncode == 0, scaled.stderr
        wait_for("it decides", lambda: cluster.wanted() == 1, 30)
        ready(other, 1)


def test_what_is_wrong_is_said_before_anything_is_started(cluster: Cluster, tmp_path: Path) -> None:
    """No such kubeconfig; two who say who leads."""
    inferry = inferry_in(tmp_path, 1)
    (tmp_path / "kubeconfig").unlink()
    done = inferry.run("up", "--port", "0")
    assert done.returncode != 0
    assert "kubeconfig" in done.stderr
    assert "Traceback" not in done.stderr
    inferry.write(FILE.format(replicas=1, more=", lease: inferry") + "host: {fleet: inferry}\n")
    done = inferry.run("config", "check", "inferry.yaml")
    assert done.returncode != 0
    assert "both say who decides" in done.stderr
    assert json.dumps(KEY) not in done.stderr
