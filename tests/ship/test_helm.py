"""The Helm chart: equal to the plain objects while nobody changes a value, right when one does, and strict about both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from inferry.render.helm.chart import render_helm
from inferry.render.kubernetes.rendering import render_kubernetes
from inferry.render.shipment import Shipment
from tests.ship.golden import check_golden
from tests.ship.shipments import ENVIRON, everything_shipment, small_shipment, vllm_shipment
from tests.ship.tools import passes, run, tool

SHIPMENTS = {"small": small_shipment, "vllm": vllm_shipment, "everything": everything_shipment}
OPTIONS = {
    "options/hpa.yaml": ("autoscaling.kind=hpa",),
    "options/keda.yaml": ("autoscaling.kind=keda",),
    "options/gateway-api.yaml": ("gatewayApi.enabled=true", "ingress.enabled=false"),
    "options/external-secrets.yaml": ("externalSecrets.enabled=true",),
    "options/prometheus-operator.yaml": ("monitoring.serviceMonitor=true", "monitoring.prometheusRule=true"),
}


def write_chart(folder: Path, shipment: Shipment) -> Path:
    for path, text in render_helm(shipment).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def key(found: dict[str, Any]) -> tuple[str, str]:
    return found["kind"], found["metadata"]["name"]


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name; each once."""
    found = [each for each in yaml.safe_load_all(text) if each]
    assert len({key(each) for each in found}) == len(found)
    return {key(each): each for each in found}


def templated(helm: str, chart: Path, *settings: str, namespace: str = "inferry") -> str:
    sets = [word for each in settings for word in ("--set", each)]
    return passes(helm, "template", "inferry", str(chart), "--namespace", namespace, "--no-hooks", *sets)


@pytest.mark.parametrize("helm", ["helm", "helm3"])
@pytest.mark.parametrize("name", SHIPMENTS)
def test_untouched_values_give_the_plain_objects(helm: str, name: str, tmp_path: Path) -> None:
    """helm lint --strict is content, and helm template gives what render kubernetes writes, object by object."""
    shipment = SHIPMENTS[name]()
    chart = write_chart(tmp_path, shipment)
    passes(tool(helm), "lint", "--strict", str(chart))
    plain = {
        each: value
        for path, text in render_kubernetes(shipment).items()
        if "/" not in path and path.endswith(".yaml") and path != "kustomization.yaml"
        for each, value in objects(text).items()
    }
    assert objects(templated(tool(helm), chart, "namespace.create=true")) == plain


def test_values_notes_and_schema_are_those_that_were_reviewed() -> None:
    """What people read and change; objects are compared with those of render kubernetes, which are reviewed there."""
    files = render_helm(vllm_shipment())
    read = (
        "Chart.yaml",
        "values.yaml",
        "values.schema.json",
        "templates/NOTES.txt",
        "templates/tests/health.yaml",
    )
    check_golden("helm", {path: files[path] for path in read})


@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_those_of_the_plain_objects(option: str, tmp_path: Path) -> None:
    """What one chooses by a value is what stands in the file of that choice."""
    shipment = vllm_shipment()
    chart = write_chart(tmp_path, shipment)
    found = objects(templated(tool("helm"), chart, *OPTIONS[option]))
    for each, value in objects(render_kubernetes(shipment)[option]).items():
        assert found[each] == value
    if "autoscaling" in OPTIONS[option][0]:
        assert "replicas" not in found["StatefulSet", "inferry-chat"]["spec"]


def test_values_come_where_they_belong(tmp_path: Path) -> None:
    """A matrix of settings changes just the places that they name, in objects that Kubernetes still takes."""
    chart = write_chart(tmp_path, everything_shipment())
    values = {
        "host": "models.example.org",
        "tlsSecret": "wild-card",
        "imagePullSecrets": [{"name": "registry"}],
        "gateway": {
            "replicas": 3,
            "image": "registry.example.org/inferry:2.0.0",
            "tolerations": [{"key": "web", "operator": "Exists"}],
            "podAnnotations": {"team": "search"},
            "service": {"type": "LoadBalancer", "annotations": {"cloud": "internal"}},
        },
        "deployments": {
            "chat": {
                "replicas": 0,
                "nodeSelector": {"nvidia.com/gpu.product": "H100"},
                "storage": {"size": "1Ti", "className": "fast"},
                "podAnnotations": {"team": "gpu"},
            }
        },
        "ingress": {"className": "traefik"},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "priorityClass": {"create": False},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    shown = passes(
        tool("helm"), "template", "r", str(chart), "-n", "other", "-f", str(tmp_path / "mine.yaml")
    )
    found = objects(shown)
    for value in found.values():
        kubernetes_validate.validate(value, "1.37", strict=True)
        assert value["metadata"]["namespace"] == "other"
    gateway = found["Deployment", "inferry-gateway"]["spec"]
    pod = gateway["template"]["spec"]
    assert gateway["replicas"] == 3
    assert gateway["template"]["metadata"]["annotations"]["team"] == "search"
    assert "inferry.dev/config" in gateway["template"]["metadata"]["annotations"]
    assert pod["containers"][0]["image"] == "registry.example.org/inferry:2.0.0"
    assert pod["tolerations"] == values["gateway"]["tolerations"]  # type: ignore[index]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    chat = found["StatefulSet", "inferry-chat"]["spec"]
    assert chat["replicas"] == 0
    assert chat["template"]["metadata"]["annotations"] == {"team": "gpu"}
    assert chat["template"]["spec"]["nodeSelector"] == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": "H100",
    }
    claim = chat["volumeClaimTemplates"][0]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "1Ti")
    ingress = found["Ingress", "inferry-gateway"]["spec"]
    assert ingress["ingressClassName"] == "traefik"
    assert ingress["tls"] == [{"hosts": ["models.example.org"], "secretName": "wild-card"}]
    assert found["Service", "inferry-gateway"]["spec"]["type"] == "LoadBalancer"
    kinds = {kind for kind, _ in found}
    assert not kinds & {"PodDisruptionBudget", "NetworkPolicy", "PriorityClass", "Namespace"}
    assert ("Pod", "inferry-test-health") in found


def test_a_changed_file_replaces_the_gateways(tmp_path: Path) -> None:
    """The annotation by which pods are replaced follows `config`."""
    chart = write_chart(tmp_path, vllm_shipment())
    config = yaml.safe_load((chart / "values.yaml").read_text())["config"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"config": config + "# changed\n"}))
    shown = passes(tool("helm"), "template", "r", str(chart), "-f", str(tmp_path / "mine.yaml"))
    before, after = (
        each["Deployment", "inferry-gateway"]["spec"]["template"]["metadata"]["annotations"]
        for each in (objects(templated(tool("helm"), chart)), objects(shown))
    )
    assert before != after
    assert "# changed" in objects(shown)["ConfigMap", "inferry-gateway"]["data"]["inferry.yaml"]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("gateway.replicas=0", "replicas"),
        ("gateway.replicas=many", "replicas"),
        ("gateway.replica=2", "replica"),
        ("deployments.chat.replicas=7", "replicas"),
        ("deployments.chat.storage.size=big", "size"),
        ("deployments.chatt.replicas=1", "chatt"),
        ("autoscaling.kind=magic", "kind"),
        ("gateway.service.type=Public", "type"),
        ("ingress.enabled=maybe", "enabled"),
        ("config=", "config"),
    ],
)
def test_wrong_values_are_refused(setting: str, named: str, tmp_path: Path) -> None:
    """By the schema, before anything is sent: out of bounds, of another type, misspelt."""
    chart = write_chart(tmp_path, vllm_shipment())
    for helm in (tool("helm"), tool("helm3")):
        done = run(helm, "template", "r", str(chart), "--set", setting)
        assert done.returncode != 0
        assert named in done.stderr


def test_a_broken_template_fails(tmp_path: Path) -> None:
    """lint and template notice an action that does not end, a value that is not there, and YAML that is none."""
    chart = write_chart(tmp_path, small_shipment())
    file = chart / "templates" / "edge.yaml"
    good = file.read_text()
    for broken in (
        good + "{{- if }}\n",
        good.replace(".Values.host", ".Values.no.such.host"),
        good + "a: b: c\n",
    ):
        assert broken != good
        file.write_text(broken)
        assert run(tool("helm"), "lint", "--strict", str(chart)).returncode != 0
        assert run(tool("helm"), "template", "r", str(chart)).returncode != 0


def test_one_gateway_where_the_ledger_is_a_file(tmp_path: Path) -> None:
    """Two would write two ledgers: the schema says no, and says why."""
    chart = write_chart(tmp_path, small_shipment())
    done = run(tool("helm"), "template", "r", str(chart), "--set", "gateway.replicas=2")
    assert done.returncode != 0
    assert "the ledger is a file" in (chart / "values.schema.json").read_text()


def test_no_value_of_a_secret_is_in_the_chart() -> None:
    """Names of secrets only."""
    text = "".join(render_helm(everything_shipment()).values())
    assert [value for value in ENVIRON.values() if value in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_installed_upgraded_and_rolled_back_on_the_stand_in(helm: str, tmp_path: Path) -> None:
    """Real Helm on the stand-in API server: install, upgrade, roll back, uninstall, with the objects that should be there."""
    from tests.standins.kubernetes import StandinKubernetes

    chart = write_chart(tmp_path / "chart", vllm_shipment())
    with StandinKubernetes(pods="none") as k8s:
        k8s.kubeconfig(tmp_path / "kubeconfig")
        where = ("--kubeconfig", str(tmp_path / "kubeconfig"), "--namespace", "serving")

        def replicas() -> int:
            [found] = k8s.objects("deployments", namespace="serving")
            return int(found["spec"]["replicas"])

        shown = passes(tool(helm), "install", "llm", str(chart), "--create-namespace", *where)
        assert "STATUS: deployed" in shown
        assert "helm test llm --namespace serving" in shown
        assert replicas() == 2
        assert len(k8s.objects("networkpolicies", namespace="serving")) == 3
        passes(tool(helm), "upgrade", "llm", str(chart), "--set", "gateway.replicas=4", *where)
        assert replicas() == 4
        passes(tool(helm), "rollback", "llm", "1", *where)
        assert replicas() == 2
        passes(tool(helm), "uninstall", "llm", *where)
        assert k8s.objects("deployments", namespace="serving") == []
