"""`inferry render helm`: the chart, with values that are checked, notes, and a test that asks the gateway."""

from __future__ import annotations

import json

from inferry.render.helm.objects import templates
from inferry.render.helm.templating import Settings, literal
from inferry.render.kubernetes import external_secrets, network
from inferry.render.kubernetes.naming import gateway_name, kubernetes_object
from inferry.render.kubernetes.pods import CONTAINER_SECURITY, pod_security
from inferry.render.kubernetes.rendering import render_kubernetes
from inferry.render.shipment import Files, Shipment
from inferry.render.yaml_text import Data, yaml_text

_ASK = """\
import ssl, sys, urllib.request
lax = ssl._create_unverified_context()  # the certificate is for the name that clients use
with urllib.request.urlopen(sys.argv[1], timeout=10, context=lax) as answer:
    print(answer.status, answer.read().decode())
"""


def render_helm(shipment: Shipment) -> Files:
    """The chart's files. Raises ConfigError for what Kubernetes can't take."""
    render_kubernetes(shipment)  # the same refusals, in the same words
    settings = Settings()
    files = dict(templates(settings, shipment))
    files["templates/NOTES.txt"] = _notes(shipment)
    files["templates/tests/health.yaml"] = _test(settings, shipment)
    files["Chart.yaml"] = yaml_text(
        {
            "apiVersion": "v2",
            "name": shipment.name,
            "type": "application",
            "description": "LLM engines with one OpenAI-compatible gateway in front, kept alive by Inferry.",
            "version": _chart_version(shipment.version),
            "appVersion": shipment.version,
            "kubeVersion": ">=1.27.0-0",
        }
    )
    files["values.yaml"] = yaml_text(
        settings.values(), "Every setting with its default. values.schema.json says what each may be."
    )
    files["values.schema.json"] = json.dumps(settings.schema(), indent=2) + "\n"
    files["secrets.sh"] = external_secrets.recipe(shipment)
    files[".helmignore"] = "secrets.sh\n"
    return files


def _chart_version(version: str) -> str:
    """Helm wants three numbers."""
    numbers = [part for part in version.split("+")[0].split(".") if part.isdigit()][:3]
    return ".".join([*numbers, "0", "0", "0"][:3])


def _notes(shipment: Shipment) -> str:
    name = gateway_name(shipment)
    secrets = "".join(f"  {each}\n" for each in external_secrets.wanted(shipment))
    kind = "statefulset" if shipment.keeps_state else "deployment"
    return f"""\
Inferry is on its way. Engines load for minutes; the gateway takes requests as soon as one is ready:

  kubectl --namespace {{{{ .Release.Namespace }}}} rollout status {kind}/{name}
  helm test {{{{ .Release.Name }}}} --namespace {{{{ .Release.Namespace }}}}

Pods wait for these Secrets (secrets.sh in the chart's folder makes them):

{literal(secrets)}
{{{{- if .Values.ingress.enabled }}}}

Clients use https://{{{{ .Values.host }}}}/v1, with the certificate in the Secret {{{{ .Values.tlsSecret }}}}.
{{{{- end }}}}
{{{{- if and .Values.ingress.enabled .Values.gatewayApi.enabled }}}}

Both ingress and gatewayApi are on: one of them is enough.
{{{{- end }}}}
"""


def _test(settings: Settings, shipment: Shipment) -> str:
    """`helm test`: asks the gateway for its health; with a hole in the network policies for just that."""
    scheme = "http" if shipment.config.gateway.tls is None else "https"
    name = f"{shipment.name}-test-health"
    url = f"{scheme}://{gateway_name(shipment)}:{shipment.port}/health"
    hook = {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }
    container = {
        "name": "ask",
        "image": settings.raw("{{ .Values.gateway.image | quote }}"),
        "command": ["python", "-c", _ASK, url],
        "securityContext": dict(CONTAINER_SECURITY),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": pod_security(),
        "containers": [container],
    }
    pod = kubernetes_object(shipment, "Pod", "v1", name, "test", {"spec": spec}, annotations=hook)
    policy: Data = {
        "podSelector": {"matchLabels": {**pod["metadata"]["labels"]}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [
            network.DNS,
            {"to": [{"podSelector": {}}], "ports": [{"port": shipment.port, "protocol": "TCP"}]},
        ],
    }
    hole = kubernetes_object(
        shipment, "NetworkPolicy", "networking.k8s.io/v1", name, "test", {"spec": policy},
        annotations={**hook, "helm.sh/hook-weight": "-1"},
    )  # fmt: skip
    return settings.template(hole, ".Values.networkPolicy.enabled") + settings.template(pod)
