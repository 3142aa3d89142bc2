"""What clients ask first: which groups, kinds and query parameters there are."""

from __future__ import annotations

from tests.standins.kubernetes.kinds import Kind, Kinds
from tests.standins.kubernetes.refusal import Json

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def version() -> Json:
    """Says in its version that it is none."""
    return {
        "major": "1",
        "minor": "37",
        "gitVersion": "v1.37.0-standin",
        "gitCommit": "a stand-in of Inferry's tests, not Kubernetes",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def core_versions(address: str) -> Json:
    """/api"""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def groups(kinds: Kinds) -> Json:
    """/apis"""
    names: dict[str, list[str]] = {"authorization.k8s.io": ["v1"]}
    for kind in kinds.all():
        if kind.group and kind.version not in names.setdefault(kind.group, []):
            names[kind.group].append(kind.version)
    listed = []
    for name, versions in names.items():
        entries = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
        listed.append({"name": name, "versions": entries, "preferredVersion": entries[0]})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def resources(kinds: Kinds, group: str, version: str) -> Json | None:
    """/api/v1 or /apis/GROUP/VERSION; None where there is no such version."""
    listed: list[Json] = []
    for kind in kinds.all():
        if (kind.group, kind.version) == (group, version):
            listed += _entries(kind)
    if group == "authorization.k8s.io":
        listed = [
            {
                "name": "selfsubjectaccessreviews",
                "singularName": "selfsubjectaccessreview",
                "namespaced": False,
                "kind": "SelfSubjectAccessReview",
                "verbs": ["create"],
            }
        ]
    if not listed:
        return None
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}


def _entries(kind: Kind) -> list[Json]:
    entries: list[Json] = [
        {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": _VERBS,
            "shortNames": list(kind.short),
            "categories": ["all"]
            if kind.plural in {"pods", "services", "deployments", "replicasets"}
            else [],
        }
    ]
    others = {
        "scale": ("autoscaling", "v1", "Scale", ["get", "patch", "update"]),
        "status": (kind.group, kind.version, kind.kind, ["get", "patch", "update"]),
        "eviction": ("policy", "v1", "Eviction", ["create"]),
        "log": ("", "v1", "Pod", ["get"]),
        "token": ("authentication.k8s.io", "v1", "TokenRequest", ["create"]),
    }
    for subresource in kind.subresources:
        if subresource in others:
            group, version, name, verbs = others[subresource]
            entries.append(
                {
                    "name": f"{kind.plural}/{subresource}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "group": group,
                    "version": version,
                    "kind": name,
                    "verbs": verbs,
                }
            )
    return entries


def openapi_index(kinds: Kinds) -> Json:
    """/openapi/v3"""
    paths = {}
    for kind in kinds.all():
        path = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash=STANDIN"}
    return {"paths": paths}


def openapi(kinds: Kinds, group: str, version: str) -> Json:
    """One version's document: what kubectl must read to leave validation to the server."""
    paths: Json = {}
    prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation", "force")
    ]
    for kind in kinds.all():
        if (kind.group, kind.version) != (group, version):
            continue
        place = f"{prefix}/namespaces/{{namespace}}" if kind.namespaced else prefix
        meant = {"group": group, "version": version, "kind": kind.kind}
        operation = {"x-kubernetes-group-version-kind": meant, "parameters": parameters, "responses": {}}
        paths[f"{place}/{kind.plural}/{{name}}"] = {
            "patch": {**operation, "x-kubernetes-action": "patch"},
            "put": {**operation, "x-kubernetes-action": "put"},
        }
        paths[f"{place}/{kind.plural}"] = {"post": {**operation, "x-kubernetes-action": "post"}}
    return {
        "openapi": "3.0.0",
        "info": {"title": "a stand-in for Kubernetes", "version": "v1.37.0-standin"},
        "paths": paths,
        "components": {"schemas": {}},
    }
