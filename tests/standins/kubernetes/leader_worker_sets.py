"""A minimal LeaderWorkerSet controller: groups of one leader and its workers, ended and made again as one."""

from __future__ import annotations

import copy

from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.store import Store
from tests.standins.kubernetes.subresources import is_ready

_API_GROUP = "leaderworkerset.x-k8s.io"
_GROUP = "leaderworkerset.sigs.k8s.io"


def _pod(lws: Json, group: int, worker: int) -> Json:
    metadata, spec = lws["metadata"], lws["spec"]
    template = spec["leaderWorkerTemplate"]
    size = template.get("size", 1)
    leader = worker == 0
    chosen = (leader and template.get("leaderTemplate")) or template["workerTemplate"]
    name = f"{metadata['name']}-{group}" + ("" if leader else f"-{worker}")
    labels = {
        **((chosen.get("metadata") or {}).get("labels") or {}),
        f"{_GROUP}/name": metadata["name"],
        f"{_GROUP}/group-index": str(group),
        f"{_GROUP}/worker-index": str(worker),
    }
    annotations = {
        **((chosen.get("metadata") or {}).get("annotations") or {}),
        f"{_GROUP}/size": str(size),
        "standin.inferry.dev/generation": str(metadata["generation"]),
    }
    pod_spec = copy.deepcopy(chosen["spec"])
    address = f"{metadata['name']}-{group}.{metadata['name']}.{metadata['namespace']}"
    for container in [*pod_spec["containers"], *(pod_spec.get("initContainers") or [])]:
        container["env"] = [
            {"name": "LWS_LEADER_ADDRESS", "value": address},
            {"name": "LWS_GROUP_SIZE", "value": str(size)},
            {"name": "LWS_WORKER_INDEX", "value": str(worker)},
            *(container.get("env") or []),
        ]
    owner = {
        "apiVersion": lws["apiVersion"],
        "kind": "LeaderWorkerSet",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": pod_spec,
    }


def leader_worker_sets(store: Store) -> None:
    """As many whole groups as wanted; a group that lost a pod, or restarted one, is made anew."""
    kinds = [
        kind for kind in store.kinds.all() if kind.group == _API_GROUP and kind.plural == "leaderworkersets"
    ]
    if not kinds:
        return
    pods_kind = store.kinds.named("pods")
    for lws in store.every(kinds[0]):
        metadata, spec = lws["metadata"], lws["spec"]
        if "deletionTimestamp" in metadata:
            continue
        wanted = spec.get("replicas", 1)
        size = spec["leaderWorkerTemplate"].get("size", 1)
        groups: dict[int, list[Json]] = {}
        for pod in store.of("pods", metadata["namespace"]):
            owners = pod["metadata"].get("ownerReferences") or []
            if any(each["uid"] == metadata["uid"] for each in owners):
                groups.setdefault(int(pod["metadata"]["labels"][f"{_GROUP}/group-index"]), []).append(pod)
        ready = 0
        for index in sorted({*groups, *range(wanted)}):
            pods = groups.get(index, [])
            ends = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
            restarted = any(
                each.get("restartCount")
                for pod in pods
                for each in (pod.get("status") or {}).get("containerStatuses") or []
            )
            failed = any((pod.get("status") or {}).get("phase") == "Failed" for pod in pods)
            whole = len(pods) == size and not ends and not restarted and not failed
            if pods and (index >= wanted or not whole):
                for pod in pods:
                    if pod not in ends:
                        store.delete(pods_kind, metadata["namespace"], pod["metadata"]["name"], {})
            elif not pods:
                for worker in range(size):
                    store.create(pods_kind, _pod(lws, index, worker))
            ready += whole and index < wanted and all(is_ready(pod) for pod in pods)
        status = {"replicas": len(groups), "readyReplicas": ready, "updatedReplicas": len(groups)}
        status["hpaPodSelector"] = f"{_GROUP}/name={metadata['name']},{_GROUP}/worker-index=0"  # type: ignore[assignment]
        store.touch(kinds[0], metadata["namespace"], metadata["name"], status=status)
