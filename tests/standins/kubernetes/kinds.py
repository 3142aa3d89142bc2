"""Which kinds the server knows: Kubernetes' own, as a table, and those of CustomResourceDefinitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind in one version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    # Of a kind that a CustomResourceDefinition brought: its openAPIV3Schema.
    schema: Json | None = field(default=None, compare=False, hash=False)
    scale_paths: tuple[str, str] = ("spec.replicas", "status.replicas")

    @property
    def api_version(self) -> str:
        """As objects write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition brought it."""
        return self.schema is not None


# Group and version, then each kind: plural, kind, short names, subresources; `!` before the plural: not in a namespace.
_TABLE = """
v1: pods Pod po status,log,eviction,exec; services Service svc status; configmaps ConfigMap cm -
v1: secrets Secret - -; serviceaccounts ServiceAccount sa token; !namespaces Namespace ns status,finalize
v1: !nodes Node no status; persistentvolumeclaims PersistentVolumeClaim pvc status; events Event ev -
v1: !persistentvolumes PersistentVolume pv status; endpoints Endpoints ep -; resourcequotas ResourceQuota quota status
v1: limitranges LimitRange limits -; replicationcontrollers ReplicationController rc status
apps/v1: deployments Deployment deploy scale,status; replicasets ReplicaSet rs scale,status
apps/v1: statefulsets StatefulSet sts scale,status; daemonsets DaemonSet ds status
apps/v1: controllerrevisions ControllerRevision - -
autoscaling/v2: horizontalpodautoscalers HorizontalPodAutoscaler hpa status
policy/v1: poddisruptionbudgets PodDisruptionBudget pdb status
batch/v1: jobs Job - status; cronjobs CronJob cj status
networking.k8s.io/v1: networkpolicies NetworkPolicy netpol -; ingresses Ingress ing status
networking.k8s.io/v1: !ingressclasses IngressClass - -
discovery.k8s.io/v1: endpointslices EndpointSlice - -
rbac.authorization.k8s.io/v1: roles Role - -; rolebindings RoleBinding - -; !clusterroles ClusterRole - -
rbac.authorization.k8s.io/v1: !clusterrolebindings ClusterRoleBinding - -
coordination.k8s.io/v1: leases Lease - -
scheduling.k8s.io/v1: !priorityclasses PriorityClass pc -
storage.k8s.io/v1: !storageclasses StorageClass sc -
apiextensions.k8s.io/v1: !customresourcedefinitions CustomResourceDefinition crd,crds status
admissionregistration.k8s.io/v1: !validatingwebhookconfigurations ValidatingWebhookConfiguration - -
admissionregistration.k8s.io/v1: !mutatingwebhookconfigurations MutatingWebhookConfiguration - -
"""


def _listed(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(text.split(","))


def built_in() -> list[Kind]:
    """Kubernetes' own kinds, as far as anything of ours uses them."""
    kinds = []
    for line in _TABLE.strip().splitlines():
        api, _, rest = line.partition(":")
        group, _, version = api.rpartition("/")
        for entry in rest.split(";"):
            plural, kind, short, subresources = entry.split()
            namespaced = not plural.startswith("!")
            kinds.append(
                Kind(
                    group,
                    version,
                    plural.lstrip("!"),
                    kind,
                    namespaced,
                    _listed(short),
                    _listed(subresources),
                )
            )
    return kinds


def of_definition(definition: Json) -> list[Kind]:
    """The kinds that a CustomResourceDefinition brings, one for each version served."""
    spec = definition["spec"]
    names = spec["names"]
    kinds = []
    for version in spec["versions"]:
        if not version.get("served", True):
            continue
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale") or {}
        kinds.append(
            Kind(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                spec.get("scope") == "Namespaced",
                tuple(names.get("shortNames") or ()),
                tuple(name for name in ("scale", "status") if name in subresources),
                (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"},
                (
                    scale.get("specReplicasPath", ".spec.replicas").lstrip("."),
                    scale.get("statusReplicasPath", ".status.replicas").lstrip("."),
                ),
            )
        )
    return kinds


class Kinds:
    """All kinds that the server knows now."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        for kind in built_in():
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """From now on known."""
        self._kinds[kind.group, kind.version, kind.plural] = kind

    def remove(self, group: str, plural: str) -> None:
        """A definition went away."""
        for key in [key for key in self._kinds if (key[0], key[2]) == (group, plural)]:
            del self._kinds[key]

    def all(self) -> list[Kind]:
        """Each of them."""
        return list(self._kinds.values())

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """By the words of a path."""
        return self._kinds.get((group, version, plural))

    def named(self, plural: str) -> Kind:
        """By its plural alone, for tests and controllers; `plural.group` where two groups have it."""
        name, _, group = plural.partition(".")
        return next(
            kind
            for kind in self._kinds.values()
            if kind.plural == name and (not group or kind.group == group)
        )

    def of_object(self, api_version: str, kind_name: str) -> Kind | None:
        """By what an object says it is."""
        for kind in self._kinds.values():
            if kind.api_version == api_version and kind.kind == kind_name:
                return kind
        return None
