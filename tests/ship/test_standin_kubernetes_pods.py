"""The stand-in's pods as processes: files, environment, probes, logs, restarts, lost nodes, whole groups."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ship.test_standin_kubernetes import Kubectl, deployment, ready
from tests.ship.tools import passes, tool
from tests.standins.kubernetes import StandinKubernetes
from tests.standins.kubernetes.schemas import definitions_folder

Json = dict[str, Any]
pytestmark = pytest.mark.slow


@pytest.fixture
def k8s(tmp_path: Path) -> Iterator[StandinKubernetes]:
    """One that really runs them."""
    with StandinKubernetes(pods="processes", folder=tmp_path / "k8s", pace=0.05) as running:
        yield running


def read(pod: Json, path: str = "/") -> str:
    """What a pod serves, at its own address."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8000{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_a_pod_has_its_files_and_environment(k8s: StandinKubernetes, tmp_path: Path) -> None:
    """Config maps, secrets and the downward API, in commands, env and files; the log is what it said."""
    k8s.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "hidden"}}
    )
    data = {"word": "hello", "page": "listen: 0.0.0.0, from /etc/thing/page"}
    k8s.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    script = "cat $PAGE; echo; echo $NAME $KEY $BOTH; cd /etc/thing && exec python3 -m http.server --bind 0.0.0.0 8000"
    env = [
        {"name": "PAGE", "value": "/etc/thing/page"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "BOTH", "value": "$(KEY)-$(NAME)"},
    ]
    mounts = [{"name": "config", "mountPath": "/etc/thing"}]
    web = deployment(command=["sh", "-c", script], env=env, volumeMounts=mounts)
    web["spec"]["template"]["spec"]["volumes"] = [{"name": "config", "configMap": {"name": "c"}}]
    k8s.create(web)
    k8s.until(lambda: ready(k8s) == 1)
    pod = k8s.objects("pods")[0]
    name = pod["metadata"]["name"]
    assert read(pod, "/word") == "hello"
    lines = Kubectl(k8s, tmp_path)("logs", name).splitlines()
    assert lines[0].startswith(f"listen: {pod['status']['podIP']}, from {tmp_path}")
    assert lines[1] == f"{name} hidden hidden-{name}"


def test_what_is_missing_or_broken_is_said(k8s: StandinKubernetes) -> None:
    """No config map, no image, a crash loop: the reasons that Kubernetes gives."""

    def reason() -> str:
        pods = k8s.objects("pods")
        states = [each["state"] for pod in pods for each in pod["status"].get("containerStatuses", [])]
        return str(next((state["waiting"]["reason"] for state in states if "waiting" in state), ""))

    k8s.break_image("example/web")
    reference = {"configMapRef": {"name": "later"}}
    k8s.create(deployment(envFrom=[reference]))
    k8s.until(lambda: reason() == "ImagePullBackOff")
    k8s.mend_image("example/web")
    k8s.until(lambda: reason() == "CreateContainerConfigError")
    k8s.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}})
    k8s.until(lambda: ready(k8s) == 1)
    name = k8s.objects("pods")[0]["metadata"]["name"]

    def restarts() -> int:
        status = k8s.objects("pods")[0]["status"]["containerStatuses"][0]
        return int(status["restartCount"])

    k8s.kill_pod(name, reason="OOMKilled")
    k8s.until(lambda: restarts() == 1 and ready(k8s) == 1)
    status = k8s.objects("pods")[0]["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert status["lastState"]["terminated"]["exitCode"] == 137
    k8s.kill_pod(name)
    k8s.until(lambda: reason() == "CrashLoopBackOff")
    k8s.until(lambda: restarts() == 2 and ready(k8s) == 1)


def test_liveness_restarts_and_readiness_does_not(k8s: StandinKubernetes) -> None:
    """A failing readiness probe takes the pod out; a failing liveness probe starts it again."""
    alive = {
        "exec": {"command": ["sh", "-c", "! test -e $HOME/hung"]},
        "periodSeconds": 1,
        "failureThreshold": 2,
    }
    serves = {
        "exec": {"command": ["sh", "-c", "! test -e $HOME/busy"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    script = "rm -f $HOME/hung; echo begun; exec sleep 600"
    k8s.create(deployment(command=["sh", "-c", script], readinessProbe=serves, livenessProbe=alive))
    k8s.until(lambda: ready(k8s) == 1)
    home = next((k8s.folder / "pods").glob("default_web-*/home"))
    (home / "busy").touch()
    k8s.until(lambda: ready(k8s) == 0)
    assert k8s.objects("pods")[0]["status"]["containerStatuses"][0]["restartCount"] == 0
    (home / "busy").unlink()
    k8s.until(lambda: ready(k8s) == 1)
    (home / "hung").touch()
    k8s.until(lambda: k8s.objects("pods")[0]["status"]["containerStatuses"][0]["restartCount"] == 1)
    k8s.until(lambda: ready(k8s) == 1)


def test_prestop_and_grace_come_before_the_end(k8s: StandinKubernetes) -> None:
    """preStop runs while the container lives, TERM follows, and only then the pod is gone."""
    script = "trap 'echo term >> $HOME/../../said; exit 0' TERM; touch $HOME/up; while :; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo stop >> $HOME/../../said"]}}}
    up = {"exec": {"command": ["sh", "-c", "test -e $HOME/up"]}, "periodSeconds": 1}
    k8s.create(deployment(command=["sh", "-c", script], lifecycle=hook, readinessProbe=up))
    k8s.until(lambda: ready(k8s) == 1)
    uid = k8s.objects("pods")[0]["metadata"]["uid"]
    name = k8s.objects("pods")[0]["metadata"]["name"]
    k8s.call(lambda: k8s.store.delete(k8s.store.kinds.named("pods"), "default", name, {}))
    k8s.until(lambda: uid not in [pod["metadata"]["uid"] for pod in k8s.objects("pods")])
    assert (k8s.folder / "pods" / "said").read_text() == "stop\nterm\n"


def test_a_lost_node_is_replaced(k8s: StandinKubernetes) -> None:
    """Its pods are not ready at once, later Terminating, and others run elsewhere; back again, they are gone."""
    k8s.create(deployment(2))
    k8s.until(lambda: ready(k8s) == 2)
    k8s.call(lambda: setattr(k8s.kubelet, "evict_after_s", 0.3))
    k8s.lose_node("node-0")
    assert ready(k8s) == 1
    k8s.until(lambda: ready(k8s) == 2)
    assert {pod["spec"]["nodeName"] for pod in k8s.objects("pods") if not ends(pod)} == {"node-1"}
    assert [pod["spec"]["nodeName"] for pod in k8s.objects("pods") if ends(pod)] == ["node-0"]
    k8s.find_node("node-0")
    k8s.until(lambda: len(k8s.objects("pods")) == 2)


def ends(pod: Json) -> bool:
    """Whether it is Terminating."""
    return "deletionTimestamp" in pod["metadata"]


def test_evictions_obey_budgets(k8s: StandinKubernetes, tmp_path: Path) -> None:
    """Draining a node waits for the disruption budget: never fewer ready than it allows."""
    k8s.create(deployment(2))
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    metadata = {"name": "web"}
    k8s.create(
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": budget}
    )
    k8s.until(lambda: ready(k8s) == 2)
    kubectl = Kubectl(k8s, tmp_path)
    drain = ("drain", "node-0", "--ignore-daemonsets", "--delete-emptydir-data")
    assert "disruption budget" in kubectl.refused(*drain, "--timeout", "2s")
    kubectl("patch", "pdb", "web", "--type", "merge", "-p", '{"spec": {"minAvailable": 1}}')
    kubectl(*drain, "--timeout", "20s")
    assert {pod["spec"]["nodeName"] for pod in k8s.objects("pods") if not ends(pod)} == {"node-1"}


def test_an_evicted_pod_is_replaced(k8s: StandinKubernetes) -> None:
    """It stays as Failed, with the reason; the ReplicaSet makes another."""
    k8s.create(deployment())
    k8s.until(lambda: ready(k8s) == 1)
    name = k8s.objects("pods")[0]["metadata"]["name"]
    k8s.evict_pod(name)
    k8s.until(lambda: ready(k8s) == 1)
    old = k8s.object("pods", name)
    assert old is not None
    assert (old["status"]["phase"], old["status"]["reason"]) == ("Failed", "Evicted")


def test_a_leader_worker_set_lives_and_ends_as_groups(k8s: StandinKubernetes) -> None:
    """Two groups of two; a worker that falls takes its whole group along, and no other."""
    if not definitions_folder().is_dir():
        pytest.skip(f"{definitions_folder()} has the definitions of custom kinds, and is not here")
    container = {
        "name": "main",
        "image": "x",
        "command": ["sh", "-c", "echo $LWS_WORKER_INDEX; exec sleep 600"],
    }
    template = {"spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    k8s.create(
        {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {"name": "big"},
            "spec": {"replicas": 2, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}},
        }
    )

    def groups() -> Any:
        found = k8s.object("leaderworkersets", "big")
        assert found is not None
        return (found.get("status") or {}).get("readyReplicas")

    k8s.until(lambda: groups() == 2)
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in k8s.objects("pods")}
    assert sorted(before) == ["big-0", "big-0-1", "big-1", "big-1-1"]
    k8s.kill_pod("big-0-1")

    def changed() -> set[str]:
        after = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in k8s.objects("pods")}
        return {name for name in before if after.get(name) not in {None, before[name]}}

    k8s.until(lambda: changed() == {"big-0", "big-0-1"} and groups() == 2)


@pytest.mark.parametrize("name", ["helm", "helm3"])
def test_helm_installs_waits_and_uninstalls(name: str, tmp_path: Path) -> None:
    """Real Helm keeps its release in a Secret here, waits for readiness, upgrades and takes all away."""
    program = tool(name)
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: web\nversion: 0.1.0\n")
    (chart / "values.yaml").write_text("replicas: 1\n")
    text = yaml.safe_dump(deployment(987)).replace("987", "{{ .Values.replicas }}")
    (chart / "templates" / "web.yaml").write_text(text)
    with StandinKubernetes(folder=tmp_path / "k8s") as k8s:
        config = str(k8s.kubeconfig(tmp_path / "kubeconfig"))
        words = ("--kubeconfig", config, "--wait", "--timeout", "20s")
        passes(program, "install", "rel", str(chart), *words)
        assert ready(k8s) == 1
        passes(program, "upgrade", "rel", str(chart), *words, "--set", "replicas=2")
        assert ready(k8s) == 2
        assert {each["type"] for each in k8s.objects("secrets")} == {"helm.sh/release.v1"}
        passes(program, "uninstall", "rel", *words)
        k8s.until(lambda: not k8s.objects("pods") and not k8s.objects("secrets"))


def test_people_can_start_it(tmp_path: Path) -> None:
    """As a program, it says what it is and how to reach it."""
    argv = [sys.executable, "-m", "tests.standins.kubernetes", "--folder", str(tmp_path / "k8s")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("stand-in for Kubernetes at http://127.0.0.1:")
            config = str(tmp_path / "k8s" / "kubeconfig")
            assert "node-0" in passes(tool("kubectl"), "--kubeconfig", config, "get", "nodes")
        finally:
            process.terminate()
