"""The stand-in for Kubernetes does what its package says, judged by real kubectl and Helm."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ship.tools import tool
from tests.standins.kubernetes import StandinKubernetes
from tests.standins.kubernetes.scaling import NoSuchMetric, hpa_wants, scaled_object_wants
from tests.standins.kubernetes.schemas import definitions_folder

Json = dict[str, Any]
WEB = ["python3", "-u", "-m", "http.server", "--bind", "0.0.0.0", "8000"]


def deployment(replicas: int = 1, image: str = "example/web:1", **spec: Any) -> Json:
    """One that serves this folder's listing."""
    container = {
        "name": "main",
        "image": image,
        "command": WEB,
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [{**container, **spec}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
        },
    }


class Kubectl:
    """The real one, as one user."""

    def __init__(self, k8s: StandinKubernetes, folder: Path, user: str = "standin-admin") -> None:
        self.program = tool("kubectl")
        name = "kubeconfig-" + user.replace(":", "-")
        self.config = str(k8s.kubeconfig(folder / name, user=user))

    def run(self, *words: str, given: Json | None = None) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            [self.program, "--kubeconfig", self.config, *words],
            input=None if given is None else yaml.safe_dump(given),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def __call__(self, *words: str, given: Json | None = None) -> str:
        """It must be content; its words."""
        done = self.run(*words, given=given)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *words: str, given: Json | None = None) -> str:
        """It must not; its complaint."""
        done = self.run(*words, given=given)
        assert done.returncode != 0, done.stdout
        return done.stderr


def request(
    k8s: StandinKubernetes, path: str, method: str = "GET", body: Json | None = None, kind: str = "json"
) -> tuple[int, Json]:
    """Without kubectl, as an administrator."""
    headers = {"Authorization": f"Bearer {k8s.token()}", "Content-Type": f"application/{kind}"}
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(k8s.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


@pytest.fixture
def k8s(tmp_path: Path) -> Iterator[StandinKubernetes]:
    """One whose pods are only statuses."""
    with StandinKubernetes(folder=tmp_path / "k8s", nodes={"node-0": 0, "node-1": 2}) as running:
        yield running


def test_kubectl_works_on_it(k8s: StandinKubernetes, tmp_path: Path) -> None:
    """Apply both ways, diff, scale, a new image and back, dry runs, describe, delete."""
    kubectl = Kubectl(k8s, tmp_path)
    assert "standin" in kubectl("version", "-o", "json")
    assert "created" in kubectl("apply", "-f", "-", given=deployment(2))
    kubectl("rollout", "status", "deployment/web", "--timeout", "10s")
    assert kubectl("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}") == "2"
    kubectl("diff", "-f", "-", given=deployment(2))
    assert "replicas: 5" in kubectl.run("diff", "-f", "-", given=deployment(5)).stdout
    assert "dry run" in kubectl("apply", "--dry-run=server", "-f", "-", given=deployment(7))
    kubectl("scale", "deployment/web", "--replicas", "3")
    kubectl("set", "image", "deployment/web", "main=example/web:2")
    kubectl("rollout", "status", "deployment/web", "--timeout", "10s")
    assert {each["spec"]["containers"][0]["image"] for each in k8s.objects("pods")} == {"example/web:2"}
    assert len(k8s.objects("replicasets")) == 2
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout", "10s")
    assert len(k8s.objects("replicasets")) == 2
    assert "NewReplicaSet" in kubectl("describe", "deployment", "web")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=deployment(1))
    kubectl("delete", "deployment", "web")
    k8s.until(lambda: not k8s.objects("pods") and not k8s.objects("replicasets"))


def test_it_is_strict(k8s: StandinKubernetes, tmp_path: Path) -> None:
    """A typo, a wrong type, a selector that fits nothing and a mount of nothing: refused, in words that name it."""
    kubectl = Kubectl(k8s, tmp_path)
    typo = deployment()
    typo["spec"]["replicaz"] = 2
    assert 'unknown field "spec.replicaz"' in kubectl.refused("apply", "-f", "-", given=typo)
    wrong = deployment()
    wrong["spec"]["replicas"] = "two"
    assert "spec.replicas" in kubectl.refused("apply", "-f", "-", given=wrong)
    aside = deployment()
    aside["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert "does not match template" in kubectl.refused("apply", "-f", "-", given=aside)
    nothing = deployment(volumeMounts=[{"name": "gone", "mountPath": "/x"}])
    assert "volumeMounts[0].name" in kubectl.refused("apply", "-f", "-", given=nothing)
    assert 'namespaces "far" not found' in kubectl.refused(
        "apply", "--namespace", "far", "-f", "-", given=deployment()
    )


def test_custom_kinds_are_strict_too(k8s: StandinKubernetes, tmp_path: Path) -> None:
    """KEDA's ScaledObject by its published definition."""
    if not definitions_folder().is_dir():
        pytest.skip(f"{definitions_folder()} has the definitions of custom kinds, and is not here")
    scaled: Json = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"name": "web"},
            "triggers": [{"type": "prometheus", "metadata": {"query": "q", "threshold": "5"}}],
        },
    }
    kubectl = Kubectl(k8s, tmp_path)
    kubectl("apply", "-f", "-", given=scaled)
    scaled["spec"]["minReplicas"] = 1
    assert 'unknown field "spec.minReplicas"' in kubectl.refused("apply", "-f", "-", given=scaled)


def test_versions_conflicts_and_the_forgotten_past(k8s: StandinKubernetes) -> None:
    """A stale PUT is 409, a patch bumps the generation only with the spec, an old watch is told 410."""
    made = k8s.create(deployment())
    place = "/apis/apps/v1/namespaces/default/deployments/web"
    code, patched = request(k8s, place, "PATCH", {"metadata": {"labels": {"a": "b"}}}, "merge-patch+json")
    assert (code, patched["metadata"]["generation"]) == (200, 1)
    assert request(k8s, place, "PUT", made)[1]["reason"] == "Conflict"
    code, patched = request(k8s, place, "PATCH", {"spec": {"replicas": 2}}, "merge-patch+json")
    assert (code, patched["metadata"]["generation"]) == (200, 2)
    k8s.forget_history()
    old = made["metadata"]["resourceVersion"]
    listed = f"/apis/apps/v1/deployments?watch=1&timeoutSeconds=1&resourceVersion={old}"
    code, event = request(k8s, listed)
    assert (code, event["type"], event["object"]["code"]) == (200, "ERROR", 410)


def test_scale_down_takes_the_cheapest_pod(k8s: StandinKubernetes) -> None:
    """The annotation pod-deletion-cost decides who goes."""
    k8s.create(deployment(3))
    k8s.until(lambda: ready(k8s) == 3)
    chosen = k8s.objects("pods")[0]["metadata"]["name"]
    note = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1000"}}}
    request(k8s, f"/api/v1/namespaces/default/pods/{chosen}", "PATCH", note, "merge-patch+json")
    place = "/apis/apps/v1/namespaces/default/deployments/web/scale"
    assert request(k8s, place, "PATCH", {"spec": {"replicas": 2}}, "merge-patch+json")[0] == 200
    left = k8s.until(lambda: len(pods := k8s.objects("pods")) == 2 and pods)
    assert chosen not in [pod["metadata"]["name"] for pod in left]


def test_roles_are_obeyed(tmp_path: Path) -> None:
    """A service account may what its Role says, and not one verb more; 403 names all of it."""
    with StandinKubernetes(rbac=True, folder=tmp_path / "k8s", crds=False) as k8s:
        rbac = "rbac.authorization.k8s.io"
        rules = [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]},
        ]
        account = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
        metadata = {"name": "robot"}
        k8s.create({"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
        bound = {"roleRef": {"apiGroup": rbac, "kind": "Role", "name": "robot"}, "subjects": [account]}
        k8s.create({"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": metadata, **bound})
        k8s.create(deployment())
        robot = Kubectl(k8s, tmp_path, "system:serviceaccount:default:robot")
        robot("get", "pods")
        assert robot("auth", "can-i", "list", "pods").strip() == "yes"
        assert robot.run("auth", "can-i", "delete", "pods").stdout.strip() == "no"
        complaint = robot.refused("get", "pods", "-n", "kube-system")
        assert 'cannot list resource "pods" in API group "" in the namespace "kube-system"' in complaint
        assert "Forbidden" in robot.refused("delete", "pod", "x")
        scale = "/apis/apps/v1/namespaces/default/deployments/web/scale"
        assert json.loads(robot("get", "--raw", scale))["spec"] == {"replicas": 1}
        assert "Forbidden" in robot.refused("get", "--raw", scale.removesuffix("/scale"))


def test_no_gpu_left_is_said(k8s: StandinKubernetes) -> None:
    """The pod that finds none is Unschedulable, with the reason of each node."""
    k8s.create(deployment(3, resources={"limits": {"nvidia.com/gpu": "1"}}))
    k8s.until(lambda: ready(k8s) == 2)
    waiting = [pod for pod in k8s.objects("pods") if "nodeName" not in pod["spec"]]
    condition = waiting[0]["status"]["conditions"][0]
    assert (len(waiting), condition["reason"]) == (1, "Unschedulable")
    assert condition["message"] == "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


def test_what_an_hpa_and_keda_want() -> None:
    """The documented formula: ratio, tolerance, bounds, the largest metric, none without activity."""
    metric = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    hpa = {
        "spec": {"minReplicas": 1, "maxReplicas": 6, "metrics": [{"type": "External", "external": metric}]}
    }
    assert [hpa_wants(hpa, {"queue": value}, 2) for value in (0, 21, 31, 500)] == [1, 2, 4, 6]
    with pytest.raises(NoSuchMetric, match="queue"):
        hpa_wants(hpa, {"other": 1}, 1)
    trigger = {"type": "prometheus", "metadata": {"query": "sum(q)", "threshold": "5"}}
    keda = {"spec": {"minReplicaCount": 0, "maxReplicaCount": 4, "triggers": [trigger]}}
    assert [scaled_object_wants(keda, {"sum(q)": value}, 1) for value in (0, 1, 12, 90)] == [0, 1, 3, 4]


def ready(k8s: StandinKubernetes) -> int:
    """Pods that are ready."""
    conditions = [pod["status"].get("conditions") or [] for pod in k8s.objects("pods")]
    return sum(
        any(each["type"] == "Ready" and each["status"] == "True" for each in all_) for all_ in conditions
    )
