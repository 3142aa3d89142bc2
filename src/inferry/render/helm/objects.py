"""Each object of render/kubernetes as a template: which of its places are settings, and when it is there at all."""

from __future__ import annotations

from typing import Any

from inferry.engines.pod import dns_label
from inferry.render.helm.templating import (
    LIST,
    OBJECT,
    QUANTITY,
    RESOURCES,
    SWITCH,
    TEXT,
    TEXTS,
    Settings,
    at,
    put,
)
from inferry.render.kubernetes import (
    autoscaling,
    cluster,
    edge,
    engines,
    external_secrets,
    gateway,
    network,
    watching,
)
from inferry.render.kubernetes.naming import engine_name
from inferry.render.shipment import Files, Shipment, ShippedEngine
from inferry.render.yaml_text import Data

PROMETHEUS_URL = "http://prometheus-operated.monitoring.svc:9090"
_POD = ("spec", "template", "spec")
_PLACES: tuple[tuple[str, Any, str, Data], ...] = (
    ("nodeSelector", {}, "On which nodes it may run.", TEXTS),
    ("tolerations", [], "Taints that it stands.", LIST),
    ("affinity", {}, "", OBJECT),
)


def templates(settings: Settings, shipment: Shipment) -> Files:
    """By path in the chart."""
    found = {"templates/gateway.yaml": _gateway(settings, shipment)}
    for each in shipment.engines:
        name = engine_name(shipment, each.name).removeprefix(f"{shipment.name}-")
        found[f"templates/engine-{name}.yaml"] = _engine(settings, shipment, each)
    found["templates/edge.yaml"] = _edge(settings, shipment)
    found["templates/cluster.yaml"] = _cluster(settings, shipment)
    if engines.needs_claim(shipment):
        found["templates/models.yaml"] = _models(settings, shipment)
    scaled = [each for each in shipment.engines if autoscaling.is_scaled(each)]
    if scaled:
        found["templates/autoscaling.yaml"] = "".join(
            _autoscaling(settings, shipment, each) for each in scaled
        )
    found["templates/monitoring.yaml"] = _monitoring(settings, shipment)
    found["templates/external-secrets.yaml"] = _external_secrets(settings, shipment)
    return found


def _gateway(settings: Settings, shipment: Shipment) -> str:
    config = settings.declare(
        "config",
        gateway.config_map(shipment)["data"]["inferry.yaml"],
        "The gateway's deployment file. ${NAME} in it comes from the Secret.",
        TEXT,
    )
    block = settings.raw(f'|\n{{{{ {config} | trimSuffix "\\n" | indent 4 }}}}')
    objects = [put(gateway.config_map(shipment), ("data", "inferry.yaml"), block)]
    work = gateway.workload(shipment)
    checksum = (*_POD[:2], "metadata", "annotations", "inferry.dev/config")
    work = put(work, checksum, settings.raw(f"{{{{ {config} | sha256sum | trunc 16 | quote }}}}"))
    most = {"maximum": 1} if shipment.keeps_state else {}
    because = (
        "One: the ledger is a file. For more, set ledger.url (PostgreSQL) in the deployment file and render again."
        if shipment.keeps_state
        else "Gateways; one may end without being missed."
    )
    replicas = settings.scalar(
        "gateway/replicas", shipment.gateways, because, {"type": "integer", "minimum": 1, **most}
    )
    work = put(work, ("spec", "replicas"), replicas)
    work = _pod(settings, "gateway", work, "The gateway's image, with its version.")
    if shipment.keeps_state:
        work = _storage(settings, "gateway", work)
    service = gateway.service(shipment)
    kind = {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}
    service = put(service, ("spec", "type"), settings.scalar("gateway/service/type", "ClusterIP", "", kind))
    service = put(
        service,
        ("metadata", "annotations"),
        settings.tree("gateway/service/annotations", {}, "For a cloud's load balancer.", TEXTS),
    )
    account = put(
        gateway.service_account(shipment),
        ("metadata", "annotations"),
        settings.tree("gateway/serviceAccount/annotations", {}, "A cloud's identity, for instance.", TEXTS),
    )
    objects += [work, service, account]
    if shipment.admin_port is not None:
        objects.append(gateway.admin_service(shipment))
    text = "".join(settings.template(each) for each in objects)
    return text + settings.template(gateway.disruption_budget(shipment), _budgets(settings))


def _budgets(settings: Settings) -> str:
    return settings.declare(
        "podDisruptionBudget/enabled", True, "Nodes are emptied one pod of a kind at a time.", SWITCH
    )


def _engine(settings: Settings, shipment: Shipment, engine: ShippedEngine) -> str:
    group = f"deployments/{dns_label(engine.name)}"
    work = engines.stateful_set(shipment, engine)
    most = engines.replicas_max(engine)
    replicas = settings.declare(
        f"{group}/replicas",
        engine.replicas,
        f"At most {most}: so many the gateway's file knows. For more, change the deployment file and render again.",
        {"type": "integer", "minimum": 0, "maximum": most},
    )
    if autoscaling.is_scaled(engine):
        kind = _scaler(settings)
        work = put(work, ("spec", "replicas"), settings.only_if(f'eq {kind} "none"', f"{{{{ {replicas} }}}}"))
    else:
        work = put(work, ("spec", "replicas"), settings.raw(f"{{{{ {replicas} }}}}"))
    work = _pod(
        settings, group, work, "The engine's image, with its version; its flags are made for this one."
    )
    if at(work, "spec", "volumeClaimTemplates") is not None:
        work = _storage(settings, group, work)
    text = settings.template(work) + settings.template(engines.engine_service(shipment, engine))
    return text + settings.template(engines.engine_budget(shipment, engine), _budgets(settings))


def _pod(settings: Settings, group: str, work: Data, image: str) -> Data:
    """What every workload lets one choose."""
    first = (*_POD, "containers", 0)
    work = put(
        work, (*first, "image"), settings.scalar(f"{group}/image", at(work, *first, "image"), image, TEXT)
    )
    resources = settings.tree(f"{group}/resources", at(work, *first, "resources"), "", RESOURCES)
    work = put(work, (*first, "resources"), resources)
    for name, empty, because, schema in _PLACES:
        value = at(work, *_POD, name) or empty
        work = put(work, (*_POD, name), settings.tree(f"{group}/{name}", value, because, schema))
    secrets = settings.tree(
        "imagePullSecrets",
        [],
        "As a pod has them: a list of {name: ...}.",
        {"type": "array", "items": OBJECT},
    )
    work = put(work, (*_POD, "imagePullSecrets"), secrets)
    annotations = settings.declare(f"{group}/podAnnotations", {}, "", TEXTS)
    meta = (*_POD[:2], "metadata", "annotations")
    if at(work, *meta) is None:
        return put(work, meta, settings.tree(f"{group}/podAnnotations", {}, "", TEXTS))
    more = f"{{{{- range $key, $value := {annotations} }}}}\n        {{{{ $key | quote }}}}: {{{{ $value | quote }}}}\n        {{{{- end }}}}"
    only = next(iter(at(work, *meta)))
    found = at(work, *meta, only)
    return put(work, (*meta, only), settings.raw(settings.filled(found) + f"\n        {more}"))


def _storage(settings: Settings, group: str, work: Data) -> Data:
    claim = ("spec", "volumeClaimTemplates", 0, "spec")
    return _claim(settings, f"{group}/storage", work, claim)


def _claim(settings: Settings, group: str, data: Data, claim: tuple[str | int, ...]) -> Data:
    size = (*claim, "resources", "requests", "storage")
    data = put(data, size, settings.scalar(f"{group}/size", at(data, *size), "", QUANTITY))
    name = settings.declare(
        f"{group}/className", "", "Left empty: the cluster's default.", {"type": "string"}
    )
    return put(data, (*claim, "storageClassName"), settings.only_if(name, f"{{{{ {name} | quote }}}}"))


def _models(settings: Settings, shipment: Shipment) -> str:
    claim = _claim(settings, "models", engines.models_claim(shipment), ("spec",))
    create = settings.declare("models/create", True, "No: a claim of this name is there.", SWITCH)
    return settings.template(claim, create)


def _cluster(settings: Settings, shipment: Shipment) -> str:
    create = settings.declare(
        "namespace/create", False, "Helm can't install into a namespace that its chart makes.", SWITCH
    )
    named = put(cluster.namespace(shipment), ("metadata", "name"), settings.raw("{{ .Release.Namespace }}"))
    text = settings.template(named, create)
    priority = settings.declare(
        "priorityClass/create", True, "No: it is there already, from another release.", SWITCH
    )
    text += settings.template(cluster.priority_class(shipment), priority)
    enabled = settings.declare(
        "networkPolicy/enabled", True, "Nobody may talk to anybody, but for what is needed.", SWITCH
    )
    return text + "".join(settings.template(each, enabled) for each in network.policies(shipment))


def _edge(settings: Settings, shipment: Shipment) -> str:
    host = settings.scalar("host", shipment.host, "The name that clients use.", TEXT)
    secret = settings.scalar(
        "tlsSecret",
        edge.tls_secret(shipment),
        "With the host's certificate; cert-manager or you make it.",
        TEXT,
    )
    enabled = settings.declare("ingress/enabled", True, "", SWITCH)
    way = edge.ingress(shipment)
    way = put(way, ("spec", "ingressClassName"), settings.scalar("ingress/className", "nginx", "", TEXT))
    way = put(
        way,
        ("metadata", "annotations"),
        settings.tree("ingress/annotations", at(way, "metadata", "annotations"), "", TEXTS),
    )
    tls = ("spec", "tls", 0)
    way = put(put(way, (*tls, "hosts", 0), host), (*tls, "secretName"), secret)
    text = settings.template(put(way, ("spec", "rules", 0, "host"), host), enabled)
    instead = settings.declare("gatewayApi/enabled", False, "In place of the Ingress.", SWITCH)
    entry, route = edge.gateway_api(shipment)
    name = at(entry, "spec", "gatewayClassName")
    entry = put(entry, ("spec", "gatewayClassName"), settings.scalar("gatewayApi/className", name, "", TEXT))
    listener = ("spec", "listeners", 0)
    entry = put(
        put(entry, (*listener, "hostname"), host), (*listener, "tls", "certificateRefs", 0, "name"), secret
    )
    route = put(route, ("spec", "hostnames", 0), host)
    return text + settings.template(entry, instead) + settings.template(route, instead)


def _scaler(settings: Settings) -> str:
    return settings.declare(
        "autoscaling/kind",
        "none",
        "hpa needs prometheus-adapter, keda needs KEDA. With none, replicas are as below.",
        {"enum": ["none", "hpa", "keda"]},
    )


def _autoscaling(settings: Settings, shipment: Shipment, engine: ShippedEngine) -> str:
    kind = _scaler(settings)
    group = f"deployments/{dns_label(engine.name)}/autoscaling"
    most = engines.replicas_max(engine)
    hpa = autoscaling.horizontal_pod_autoscaler(shipment, engine)
    keda = autoscaling.scaled_object(shipment, engine, PROMETHEUS_URL)
    number = {"type": "integer", "minimum": 1, "maximum": most}
    least = settings.declare(f"{group}/min", at(hpa, "spec", "minReplicas"), "", number)
    largest = settings.scalar(f"{group}/max", at(hpa, "spec", "maxReplicas"), "", number)
    hpa = put(hpa, ("spec", "minReplicas"), settings.raw(f"{{{{ {least} }}}}"))
    hpa = put(hpa, ("spec", "maxReplicas"), largest)
    if at(keda, "spec", "minReplicaCount") == at(hpa, "spec", "minReplicas"):
        keda = put(keda, ("spec", "minReplicaCount"), settings.raw(f"{{{{ {least} }}}}"))
    keda = put(keda, ("spec", "maxReplicaCount"), largest)
    server = ("spec", "triggers", 0, "metadata", "serverAddress")
    url = settings.scalar("autoscaling/prometheusUrl", PROMETHEUS_URL, "Whom KEDA asks.", TEXT)
    keda = put(keda, server, url)
    return settings.template(hpa, f'eq {kind} "hpa"') + settings.template(keda, f'eq {kind} "keda"')


def _monitoring(settings: Settings, shipment: Shipment) -> str:
    monitor = settings.declare(
        "monitoring/serviceMonitor", False, "Who is scraped; needs the Prometheus operator.", SWITCH
    )
    rule = settings.declare(
        "monitoring/prometheusRule", False, "Recording rules and alerts; needs it too.", SWITCH
    )
    return settings.template(watching.service_monitor(shipment), monitor) + settings.template(
        watching.prometheus_rule(shipment), rule
    )


def _external_secrets(settings: Settings, shipment: Shipment) -> str:
    enabled = settings.declare(
        "externalSecrets/enabled", False, "Secrets from a store; needs the External Secrets operator.", SWITCH
    )
    kind = {"enum": ["ClusterSecretStore", "SecretStore"]}
    text = ""
    for each in external_secrets.external_secrets(shipment):
        store = ("spec", "secretStoreRef")
        each = put(
            each,
            (*store, "kind"),
            settings.scalar("externalSecrets/storeKind", "ClusterSecretStore", "", kind),
        )
        each = put(each, (*store, "name"), settings.scalar("externalSecrets/storeName", "default", "", TEXT))
        text += settings.template(each, enabled)
    return text
