"""What lies below an object: scale, status, logs, evictions, tokens."""

from __future__ import annotations

import asyncio
import copy
import datetime
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.standins.kubernetes import schemas
from tests.standins.kubernetes.kinds import Kind
from tests.standins.kubernetes.refusal import Json, Refusal, bad_request, conflict, invalid
from tests.standins.kubernetes.selectors import by_object, query_text, value_at
from tests.standins.kubernetes.store import Store

if TYPE_CHECKING:
    from tests.standins.kubernetes.api import Api

ReadLog = Callable[[Json, str, bool, bool], AsyncIterator[bytes]]
"""Of a pod's container: the log now; of the one before; whether to follow."""


async def no_log(pod: Json, container: str, previous: bool, follow: bool) -> AsyncIterator[bytes]:
    """Nobody runs the pods."""
    nothing: list[bytes] = []
    for line in nothing:
        yield line


async def serve(
    api: Api, request: web.Request, kind: Kind, namespace: str, name: str, below: str
) -> web.StreamResponse:
    """Answer for one of them."""
    if below == "scale":
        return await _scale(api, request, kind, namespace, name)
    if below in {"status", "finalize"}:
        return await _status(api, request, kind, namespace, name)
    if below == "log":
        return await _log(api, request, kind, namespace, name)
    if below == "eviction":
        body = await api.body(request)
        evict(api.store, namespace, name, body.get("deleteOptions") or {})
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return web.json_response(done, status=201)
    if below == "token":
        return _token(api, kind, namespace, name)
    raise Refusal(404, "NotFound", f"this stand-in has no {kind.plural}/{below}")


def _with(thing: Json, path: str, value: Any) -> Json:
    new = copy.deepcopy(thing)
    *way, last = path.split(".")
    at = new
    for part in way:
        at = at.setdefault(part, {})
    at[last] = value
    return new


def _as_scale(kind: Kind, thing: Json) -> Json:
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = value_at(thing, "spec.selector")
    status = {"replicas": value_at(thing, kind.scale_paths[1]) or 0}
    if selector:
        status["selector"] = query_text(selector)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {word: thing["metadata"][word] for word in kept if word in thing["metadata"]},
        "spec": {"replicas": value_at(thing, kind.scale_paths[0]) or 0},
        "status": status,
    }


async def _scale(api: Api, request: web.Request, kind: Kind, namespace: str, name: str) -> web.StreamResponse:
    thing = api.store.get(kind, namespace, name)
    if request.method == "GET":
        return web.json_response(_as_scale(kind, thing))
    if request.method == "PUT":
        scale = await api.body(request)
    else:
        scale = await api.patched(request, _as_scale(kind, thing), True)
    wanted = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise bad_request(
            f"json: cannot unmarshal {wanted!r} into Go struct field ScaleSpec.spec.replicas of type int32"
        )
    if wanted < 0:
        text = f"Invalid value: {wanted}: must be greater than or equal to 0"
        raise invalid("Scale", name, [("spec.replicas", text)], "autoscaling")
    sent = (scale.get("metadata") or {}).get("resourceVersion")
    if sent and sent != thing["metadata"]["resourceVersion"]:
        raise conflict(kind.plural + (f".{kind.group}" if kind.group else ""), name)
    new = _with(thing, kind.scale_paths[0], wanted)
    done = api.store.update(kind, new, dry="dryRun" in request.query)
    return web.json_response(_as_scale(kind, done))


async def _status(
    api: Api, request: web.Request, kind: Kind, namespace: str, name: str
) -> web.StreamResponse:
    old = api.store.get(kind, namespace, name)
    if request.method == "GET":
        return web.json_response(old)
    new = await api.body(request) if request.method == "PUT" else await api.patched(request, old, kind.custom)
    new.setdefault("metadata", {}).setdefault("name", name)
    if kind.namespaced:
        new["metadata"].setdefault("namespace", namespace)
    schemas.judge(kind, new)
    done = api.store.update(kind, new, status=True, dry="dryRun" in request.query)
    return web.json_response(done)


async def _log(api: Api, request: web.Request, kind: Kind, namespace: str, name: str) -> web.StreamResponse:
    pod = api.store.get(kind, namespace, name)
    query = request.query
    names = [container["name"] for container in pod["spec"]["containers"]]
    inner = [container["name"] for container in pod["spec"].get("initContainers") or []]
    container = query.get("container", "")
    if not container and len(names) > 1:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: {names}")
    container = container or names[0]
    if container not in [*names, *inner]:
        raise bad_request(f"container {container} is not valid for pod {name}")
    follow = query.get("follow") in {"1", "true"}
    chunks = api.logs(pod, container, query.get("previous") in {"1", "true"}, follow)
    if not follow:
        text = b"".join([chunk async for chunk in chunks])
        if "tailLines" in query:
            count = int(query["tailLines"])
            text = b"".join(text.splitlines(keepends=True)[-count:]) if count else b""
        if "limitBytes" in query:
            text = text[: int(query["limitBytes"])]
        return web.Response(body=text, content_type="text/plain")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    try:
        async for chunk in chunks:
            await response.write(chunk)
    except (ConnectionError, asyncio.CancelledError):
        pass
    return response


def _number(value: Any, total: int, up: bool) -> int:
    """An int-or-percent of a PodDisruptionBudget or a rollout."""
    if isinstance(value, str) and value.endswith("%"):
        exact = total * int(value[:-1])
        return -(-exact // 100) if up else exact // 100
    return int(value)


def is_ready(pod: Json) -> bool:
    """Whether its Ready condition is true."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def disruptions_allowed(store: Store, budget: Json) -> int:
    """How many of a PodDisruptionBudget's pods may go now."""
    matches = by_object(budget["spec"].get("selector"))
    pods = [pod for pod in store.of("pods", budget["metadata"]["namespace"]) if matches(pod)]
    healthy = sum(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)
    spec = budget["spec"]
    if spec.get("maxUnavailable") is not None:
        wanted = len(pods) - _number(spec["maxUnavailable"], len(pods), up=True)
    else:
        wanted = _number(spec.get("minAvailable", 1), len(pods), up=True)
    return max(0, healthy - wanted)


def evict(store: Store, namespace: str, name: str, options: Json) -> None:
    """Delete a pod if its disruption budgets allow it; 429 if not."""
    kind = store.kinds.named("pods")
    pod = store.get(kind, namespace, name)
    mine = [
        budget
        for budget in store.of("poddisruptionbudgets", namespace)
        if by_object(budget["spec"].get("selector"))(pod)
    ]
    # One that is not ready serves nobody: it may always go.
    if is_ready(pod) and any(disruptions_allowed(store, budget) < 1 for budget in mine):
        message = "Cannot evict pod as it would violate the pod's disruption budget."
        raise Refusal(429, "TooManyRequests", message)
    store.delete(kind, namespace, name, options)


def _token(api: Api, kind: Kind, namespace: str, name: str) -> web.Response:
    api.store.get(kind, namespace, name)
    token = api.tokens.issue(f"system:serviceaccount:{namespace}:{name}")
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    status = {"token": token, "expirationTimestamp": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    body = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "status": status,
    }
    return web.json_response(body, status=201)
