"""Answers with objects, or, where kubectl asks for it, with a table of them for people."""

from __future__ import annotations

import datetime

from aiohttp import web

from tests.standins.kubernetes.kinds import Kind
from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.selectors import value_at


def _age(thing: Json) -> str:
    made = datetime.datetime.fromisoformat(thing["metadata"]["creationTimestamp"])
    seconds = int((datetime.datetime.now(datetime.UTC) - made).total_seconds())
    return f"{seconds}s" if seconds < 120 else f"{seconds // 60}m"


def _pod_status(pod: Json) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for status in value_at(pod, "status.containerStatuses") or []:
        state = status.get("state") or {}
        for word in ("waiting", "terminated"):
            if word in state:
                return str(state[word].get("reason"))
    return str(value_at(pod, "status.reason") or value_at(pod, "status.phase"))


def _cells(kind: Kind, thing: Json) -> dict[str, str]:
    status = thing.get("status") or {}
    wanted = value_at(thing, "spec.replicas") or 0
    if kind.plural == "pods":
        containers = status.get("containerStatuses") or []
        ready = sum(bool(each.get("ready")) for each in containers)
        return {
            "Ready": f"{ready}/{len(thing['spec']['containers'])}",
            "Status": _pod_status(thing),
            "Restarts": str(sum(each.get("restartCount", 0) for each in containers)),
            "IP": str(status.get("podIP", "<none>")),
            "Node": str(thing["spec"].get("nodeName", "<none>")),
        }
    if kind.plural in {"deployments", "statefulsets"}:
        return {
            "Ready": f"{status.get('readyReplicas', 0)}/{wanted}",
            "Up-to-date": str(status.get("updatedReplicas", 0)),
            "Available": str(status.get("availableReplicas", 0)),
        }
    if kind.plural == "replicasets":
        current, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
        return {"Desired": str(wanted), "Current": str(current), "Ready": str(ready)}
    if kind.plural == "services":
        spec = thing["spec"]
        ports = ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports") or [])
        return {"Type": spec.get("type", ""), "Cluster-IP": spec.get("clusterIP", ""), "Port(s)": ports}
    return {}


def _table(kind: Kind, items: list[Json], version: str) -> Json:
    rows = []
    extra = list(_cells(kind, items[0])) if items else []
    for thing in items:
        cells = [thing["metadata"]["name"], *_cells(kind, thing).values(), _age(thing)]
        kept = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": thing["metadata"],
        }
        rows.append({"cells": cells, "object": kept})
    columns = [
        {"name": name, "type": "string", "format": "", "description": name, "priority": 0}
        for name in ("Name", *extra, "Age")
    ]
    columns[0]["format"] = "name"
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": rows,
    }


def _wanted(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def response(request: web.Request, kind: Kind, thing: Json) -> web.Response:
    """One object."""
    if _wanted(request):
        return web.json_response(_table(kind, [thing], thing["metadata"]["resourceVersion"]))
    return web.json_response({**thing, "apiVersion": kind.api_version})


def list_response(request: web.Request, kind: Kind, items: list[Json], version: str) -> web.Response:
    """Many."""
    if _wanted(request):
        return web.json_response(_table(kind, items, version))
    body = {
        "kind": f"{kind.kind}List",
        "apiVersion": kind.api_version,
        "metadata": {"resourceVersion": version},
        "items": [{**thing, "apiVersion": kind.api_version} for thing in items],
    }
    return web.json_response(body)
