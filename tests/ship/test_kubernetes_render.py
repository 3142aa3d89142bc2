"""Kubernetes objects: each is right by its schema, refers to what is there, and gives nobody more than needed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from inferry.cli.rendered_files import write_folder
from inferry.core.config_file import parse_text
from inferry.core.errors import ConfigError
from inferry.render.kubernetes.autoscaling import OPEN_REQUESTS, open_requests
from inferry.render.kubernetes.rendering import render_kubernetes
from inferry.render.shipment import CONFIG_PATH, Shipment
from tests.ship.crd_schemas import check_custom
from tests.ship.golden import check_golden
from tests.ship.shipments import ENVIRON, everything_shipment, shipment_of, small_shipment, vllm_shipment
from tests.ship.tools import passes, run, tool

VERSIONS = ("1.29", "1.33", "1.37")
"""Of Kubernetes: the last one, and some that clusters still have."""
MAKERS = (vllm_shipment, small_shipment, everything_shipment)
CUSTOM = re.compile(r"(gateway\.networking\.k8s\.io|keda\.sh|monitoring\.coreos\.com|external-secrets\.io)/")


def objects(shipment: Shipment) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object, with its file."""
    for path, text in render_kubernetes(shipment).items():
        if path.endswith(".yaml") and path not in (
            "kustomization.yaml",
            "options/prometheus-adapter-values.yaml",
        ):
            for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
                yield path, document


def by_kind(shipment: Shipment, kind: str) -> list[dict[str, Any]]:
    return [each for _, each in objects(shipment) if each["kind"] == kind]


def pods(shipment: Shipment) -> list[dict[str, Any]]:
    """The pod specs of all workloads."""
    return [
        each["spec"]["template"]["spec"]
        for kind in ("Deployment", "StatefulSet")
        for each in by_kind(shipment, kind)
    ]


def containers(shipment: Shipment) -> list[dict[str, Any]]:
    return [each for pod in pods(shipment) for each in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.mark.parametrize(
    ("name", "make"), [("kubernetes", vllm_shipment), ("kubernetes-small", small_shipment)]
)
def test_what_was_reviewed_is_what_is_rendered(name: str, make: Callable[[], Shipment]) -> None:
    """Twice the same text, that of the golden files."""
    files = render_kubernetes(make())
    assert files == render_kubernetes(make())
    check_golden(name, files)


@pytest.mark.parametrize("make", MAKERS)
def test_each_object_fits_its_schema(make: Callable[[], Shipment]) -> None:
    """Kubernetes' own kinds over several versions of it, with no field that they don't know."""
    checked = 0
    for path, document in objects(make()):
        if CUSTOM.match(document["apiVersion"]):
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{path} {document['kind']} {version}: {error}")
            checked += 1
    assert checked >= 10 * len(VERSIONS)


def test_a_wrong_field_is_found() -> None:
    """So the check above can fail: a typo and a wrong type."""
    [ingress] = by_kind(vllm_shipment(), "Ingress")
    ingress["spec"]["ingressClasName"] = "nginx"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(ingress, "1.37", strict=True)
    [workload] = by_kind(vllm_shipment(), "Deployment")
    workload["spec"]["replicas"] = "two"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(workload, "1.37", strict=True)


def test_custom_objects_fit_their_crds() -> None:
    """Gateway API, KEDA and the Prometheus operator, strictly; a typo would be found."""
    kinds = set()
    for path, document in objects(everything_shipment()):
        if not CUSTOM.match(document["apiVersion"]) or document["kind"] == "ExternalSecret":
            continue
        try:
            check_custom(document)
        except jsonschema.ValidationError as error:
            pytest.fail(f"{path} {document['kind']}: {error.message} at {list(error.absolute_path)}")
        kinds.add(document["kind"])
    assert kinds == {"Gateway", "HTTPRoute", "ScaledObject", "ServiceMonitor", "PrometheusRule"}
    [scaled] = by_kind(vllm_shipment(), "ScaledObject")
    scaled["spec"]["maxReplicaCounts"] = 3
    with pytest.raises(jsonschema.ValidationError):
        check_custom(scaled)


@pytest.mark.parametrize("make", MAKERS)
def test_no_container_has_more_rights_than_it_needs(make: Callable[[], Shipment]) -> None:
    """No root, no escalation, no capability, nothing writable but volumes, no token of the cluster; requests and limits."""
    for pod in pods(make()):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not [each for each in pod.get("volumes", ()) if "hostPath" in each]
    for container in containers(make()):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert re.search(r":[^/]*\d", container["image"]), (
            "an image without a version changes under its users"
        )


@pytest.mark.parametrize("make", MAKERS)
def test_secrets_are_referred_to_and_told_how_to_make(make: Callable[[], Shipment]) -> None:
    """No value anywhere; each Secret that a pod wants, and each key in it, is in the recipe and in ExternalSecrets."""
    shipment = make()
    files = render_kubernetes(shipment)
    every = "".join(files.values())
    assert not [value for value in ENVIRON.values() if value in every]
    assert not by_kind(shipment, "Secret")
    made = {
        each["spec"]["target"]["name"]: {entry["secretKey"] for entry in each["spec"]["data"]}
        for each in by_kind(shipment, "ExternalSecret")
    }
    for container in containers(shipment):
        for variable in container.get("env", ()):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["key"] in made[reference["name"]], variable["name"]
                assert f"--from-file={reference['key']}=" in files["secrets.sh"]
    for pod in pods(shipment):
        for volume in pod.get("volumes", ()):
            if "secret" in volume:
                assert volume["secret"]["secretName"] in made
    for name in made:
        assert f"secret generic {name} " in files["secrets.sh"]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.parametrize("make", MAKERS)
def test_references_lead_somewhere(make: Callable[[], Shipment]) -> None:
    """Selectors, claims, accounts and services name what is rendered."""
    shipment = make()
    workloads = by_kind(shipment, "Deployment") + by_kind(shipment, "StatefulSet")
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in workloads]
    names = {kind: {each["metadata"]["name"] for each in by_kind(shipment, kind)} for kind in (
        "Service", "ServiceAccount", "PersistentVolumeClaim", "ConfigMap", "PriorityClass",
    )}  # fmt: skip
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        for each in by_kind(shipment, kind):
            spec = each["spec"]
            chosen = spec.get("selector", spec.get("podSelector", {}))
            chosen = chosen.get("matchLabels", chosen)
            if chosen:
                assert [one for one in labels if selects(chosen, one)], each["metadata"]["name"]
    for workload, own in zip(workloads, labels, strict=True):
        spec = workload["spec"]
        assert selects(spec["selector"]["matchLabels"], own)
        assert len([one for one in labels if selects(spec["selector"]["matchLabels"], one)]) == 1
        if workload["kind"] == "StatefulSet":
            assert spec["serviceName"] in names["Service"]
        pod = spec["template"]["spec"]
        assert pod.get("serviceAccountName", next(iter(names["ServiceAccount"]))) in names["ServiceAccount"]
        assert pod["priorityClassName"] in names["PriorityClass"]
        volumes = {each["name"] for each in pod.get("volumes", ())}
        volumes |= {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", ())}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes
        for volume in pod.get("volumes", ()):
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in names["PersistentVolumeClaim"]


@pytest.mark.parametrize("make", MAKERS)
def test_networks_are_closed_but_for_what_is_needed(make: Callable[[], Shipment]) -> None:
    """Everything is denied first; engines hear gateways only, and only those that fetch models reach the outside."""
    shipment = make()
    policies = {each["metadata"]["name"]: each["spec"] for each in by_kind(shipment, "NetworkPolicy")}
    assert policies["inferry-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for engine in shipment.engines:
        spec = policies[f"inferry-{engine.name}"]
        [rule] = spec["ingress"]
        assert rule["from"] == [
            {
                "podSelector": {
                    "matchLabels": {
                        "app.kubernetes.io/instance": "inferry",
                        "app.kubernetes.io/component": "gateway",
                    }
                }
            }
        ]
        assert bool(spec["egress"]) == (engine.plan.model.mount is None)
    assert "169.254.0.0/16" in str(policies["inferry-gateway"]) or not (shipment.outside or shipment.embedded)


def test_the_gateways_file_is_right_and_names_each_engine_pod() -> None:
    """The gateway takes the file, and each address in it is a pod of a StatefulSet with a headless Service."""
    shipment = everything_shipment()
    [config] = by_kind(shipment, "ConfigMap")
    keys = re.findall(r"\$\{([A-Z_]+)\}", config["data"]["inferry.yaml"])
    loaded = parse_text(
        config["data"]["inferry.yaml"], Path(CONFIG_PATH), dict.fromkeys(keys, "sk-x") | ENVIRON
    )
    [gateway] = by_kind(shipment, "Deployment")
    given = {each["name"] for each in gateway["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert set(keys) <= given
    sets = {each["metadata"]["name"]: each["spec"] for each in by_kind(shipment, "StatefulSet")}
    headless = {
        each["metadata"]["name"]
        for each in by_kind(shipment, "Service")
        if each["spec"].get("clusterIP") == "None"
    }
    for engine in shipment.engines:
        endpoints = getattr(loaded.config.deployments[engine.name], "endpoints")  # noqa: B009
        name = f"inferry-{engine.name}"
        assert name in headless
        assert sets[name]["serviceName"] == name
        assert list(endpoints) == [f"http://{name}-{number}.{name}:8000" for number in range(len(endpoints))]
        scaling = engine.deployment.scaling
        assert len(endpoints) == max(engine.replicas, 0 if scaling is None else scaling.max)


def test_a_ledger_in_a_file_has_one_gateway_and_a_volume() -> None:
    """Two would have a ledger each. With PostgreSQL there are as many as are asked for."""
    [alone] = by_kind(small_shipment(gateways=5), "StatefulSet")
    assert alone["spec"]["replicas"] == 1
    assert alone["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "home"
    [many] = by_kind(vllm_shipment(gateways=5), "Deployment")
    assert many["spec"]["replicas"] == 5


def kept_shipment() -> Shipment:
    """Makes backups itself."""
    return shipment_of("backup: {folder: kept}\ndeployments: {chat: {engine: simulated}}\n")


def test_backups_have_a_volume_of_their_own() -> None:
    """Where the file inside the container says; several gateways have none in common, and that is told."""
    [alone] = by_kind(kept_shipment(), "StatefulSet")
    for version in VERSIONS:
        kubernetes_validate.validate(alone, version, strict=True)
    assert [each["metadata"]["name"] for each in alone["spec"]["volumeClaimTemplates"]] == ["home", "backups"]
    [gateway] = alone["spec"]["template"]["spec"]["containers"]
    assert {"name": "backups", "mountPath": "/var/backups/inferry"} in gateway["volumeMounts"]
    shared = shipment_of(
        "ledger: {url: '${LEDGER_URL}'}\nbackup: {folder: kept}\ndeployments: {chat: {engine: simulated}}\n"
    )
    with pytest.raises(ConfigError, match="'backup' out of this file"):
        render_kubernetes(shared)


def test_pods_have_time_to_finish() -> None:
    """From the word to leave until the kill: the pause, all of drain_s, and some more; engines their own grace."""
    shipment = shipment_of("gateway: {drain_s: 300}\ndeployments: {chat: {engine: simulated}}\n")
    [pod] = pods(shipment)
    assert pod["terminationGracePeriodSeconds"] == 320
    [engine] = [each for each in pods(vllm_shipment()) if each["containers"][0]["name"] == "engine"]
    probe = engine["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 600


def test_scalers_have_the_bounds_and_thresholds_of_the_file() -> None:
    """The rule on `running` is what both keep; queries name the deployment."""
    shipment = vllm_shipment()
    [hpa], [keda] = by_kind(shipment, "HorizontalPodAutoscaler"), by_kind(shipment, "ScaledObject")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (2, 6)
    [metric] = hpa["spec"]["metrics"]
    assert metric["external"]["metric"] == {
        "name": OPEN_REQUESTS,
        "selector": {"matchLabels": {"deployment": "chat"}},
    }
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "20"}
    assert hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert keda["spec"]["triggers"][0]["metadata"]["query"] == open_requests("chat")
    assert keda["spec"]["triggers"][0]["metadata"]["threshold"] == "20"
    assert hpa["spec"]["scaleTargetRef"]["name"] == keda["spec"]["scaleTargetRef"]["name"] == "inferry-chat"


def test_names_that_kubernetes_can_not_tell_apart_are_refused() -> None:
    """`a.b` and `a-b` would be one object."""
    engine = "{engine: tgi, model: 'hf:org/name'}"
    text = f"deployments:\n  a.b: {engine}\n  a-b: {engine}\n"
    with pytest.raises(
        ConfigError,
        match=r"deployments.a-b: Kubernetes would call it 'a-b', which is deployments.a.b already",
    ):
        render_kubernetes(shipment_of(text))


def test_kubectl_builds_it_and_the_options_stand_alone(tmp_path: Path) -> None:
    """`kubectl kustomize` takes the folder, without any option in it; a file that is missing would be found."""
    kubectl = tool("kubectl")
    write_folder(tmp_path, render_kubernetes(everything_shipment()))
    built = list(yaml.safe_load_all(passes(kubectl, "kustomize", str(tmp_path))))
    kinds = {each["kind"] for each in built}
    assert {"StatefulSet", "Deployment", "NetworkPolicy", "Ingress"} <= kinds
    assert not kinds & {"ScaledObject", "HorizontalPodAutoscaler", "HTTPRoute", "PrometheusRule"}
    (tmp_path / "network.yaml").unlink()
    assert run(kubectl, "kustomize", str(tmp_path)).returncode != 0


@pytest.mark.slow
def test_trivy_finds_nothing_serious(tmp_path: Path) -> None:
    """No finding of HIGH or CRITICAL; a container as root would be one."""
    trivy = (
        tool("trivy"),
        "config",
        "--skip-check-update",
        "--quiet",
        "--exit-code",
        "1",
        "--severity",
        "HIGH,CRITICAL",
    )
    folder = tmp_path / "all"
    write_folder(folder, render_kubernetes(everything_shipment()))
    passes(*trivy, str(folder), timeout_s=300)
    worse = tmp_path / "worse"
    shutil.copytree(folder, worse)
    path = worse / "gateway.yaml"
    path.write_text(path.read_text().replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"))
    assert run(*trivy, str(worse), timeout_s=300).returncode == 1
