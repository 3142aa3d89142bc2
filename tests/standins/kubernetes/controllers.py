"""Toy controllers: ReplicaSet, garbage collection, namespaces, disruption budgets. Deployments are in rollouts.py."""

from __future__ import annotations

import asyncio
import copy
import sys
import traceback

from tests.standins.kubernetes import rollouts
from tests.standins.kubernetes.leader_worker_sets import leader_worker_sets
from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.selectors import by_object
from tests.standins.kubernetes.store import Store, random_name
from tests.standins.kubernetes.subresources import disruptions_allowed, is_ready

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def owner(kind: str, api_version: str, thing: Json) -> Json:
    """The ownerReference of a controller."""
    metadata = thing["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by(thing: Json, uid: str) -> bool:
    """Whether that object controls this one."""
    owners = thing["metadata"].get("ownerReferences") or []
    return any(each["uid"] == uid and each.get("controller") for each in owners)


def active(pod: Json) -> bool:
    """Neither finished nor about to end."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in {"Succeeded", "Failed"} and "deletionTimestamp" not in pod["metadata"]


def first_to_go(pod: Json) -> tuple[object, ...]:
    """ReplicaSets take away the smallest first, by the order that Kubernetes documents."""
    status = pod.get("status") or {}
    cost = int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, 0))
    restarts = sum(each.get("restartCount", 0) for each in status.get("containerStatuses") or [])
    phase = {"Pending": 0, "Unknown": 1, "Running": 2}.get(status.get("phase", "Pending"), 0)
    placed = bool(pod["spec"].get("nodeName"))
    # The youngest goes first: versions grow, so the uid's order does not matter.
    return (placed, phase, is_ready(pod), cost, -restarts, -_born(pod))


def _born(pod: Json) -> int:
    return int((pod["metadata"].get("annotations") or {}).get("standin.inferry.dev/born", 0))


def pod_of(template: Json, name: str, namespace: str, owner_reference: Json, born: int) -> Json:
    """A pod as a controller makes it."""
    metadata = copy.deepcopy(template.get("metadata") or {})
    metadata.update(name=name, namespace=namespace, ownerReferences=[owner_reference])
    metadata.setdefault("annotations", {})["standin.inferry.dev/born"] = str(born)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}


def replica_sets(store: Store) -> None:
    """As many pods as wanted."""
    kind, pods_kind = store.kinds.named("replicasets"), store.kinds.named("pods")
    for replica_set in store.of("replicasets"):
        metadata, spec = replica_set["metadata"], replica_set["spec"]
        if "deletionTimestamp" in metadata:
            continue
        namespace = metadata["namespace"]
        mine = [pod for pod in store.of("pods", namespace) if owned_by(pod, metadata["uid"])]
        now_active = sorted((pod for pod in mine if active(pod)), key=first_to_go)
        missing = spec["replicas"] - len(now_active)
        for _ in range(missing):
            name = random_name(f"{metadata['name']}-")
            reference = owner("ReplicaSet", "apps/v1", replica_set)
            store.create(pods_kind, pod_of(spec["template"], name, namespace, reference, store.version))
        for pod in now_active[: max(0, -missing)]:
            store.delete(pods_kind, namespace, pod["metadata"]["name"], {})
        current = [
            pod for pod in store.of("pods", namespace) if owned_by(pod, metadata["uid"]) and active(pod)
        ]
        ready = sum(is_ready(pod) for pod in current)
        status: Json = {"replicas": len(current), "observedGeneration": metadata["generation"]}
        status["fullyLabeledReplicas"] = len(current)
        if ready:
            status.update(readyReplicas=ready, availableReplicas=ready)
        store.touch(kind, namespace, metadata["name"], status=status)


def collect_garbage(store: Store) -> None:
    """What has owners and none of them is left goes away."""
    uids = {thing["metadata"]["uid"] for thing in store.things.values()}
    for (group, plural, namespace, name), thing in list(store.things.items()):
        owners = thing["metadata"].get("ownerReferences") or []
        gone = "deletionTimestamp" in thing["metadata"]
        if owners and not gone and not any(each["uid"] in uids for each in owners):
            store.delete(store.kinds.named(f"{plural}.{group}" if group else plural), namespace, name, {})


def namespaces(store: Store) -> None:
    """A namespace that ends takes everything in it along."""
    kind = store.kinds.named("namespaces")
    for namespace in store.of("namespaces"):
        if "deletionTimestamp" not in namespace["metadata"]:
            continue
        name = namespace["metadata"]["name"]
        inside = [(key, thing) for key, thing in list(store.things.items()) if key[2] == name]
        for (group, plural, _, each), thing in inside:
            if "deletionTimestamp" not in thing["metadata"]:
                store.delete(store.kinds.named(f"{plural}.{group}" if group else plural), name, each, {})
        if not inside:
            store.remove(kind, namespace)


def budgets(store: Store) -> None:
    """PodDisruptionBudgets say how many may go."""
    kind = store.kinds.named("poddisruptionbudgets")
    for budget in store.of("poddisruptionbudgets"):
        metadata = budget["metadata"]
        matches = by_object(budget["spec"].get("selector"))
        pods = [pod for pod in store.of("pods", metadata["namespace"]) if matches(pod)]
        healthy = sum(is_ready(pod) for pod in pods)
        allowed = disruptions_allowed(store, budget)
        status = {
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": max(0, healthy - allowed),
            "expectedPods": len(pods),
            "observedGeneration": metadata["generation"],
        }
        store.touch(kind, metadata["namespace"], metadata["name"], status=status)


class Controllers:
    """All of them, one pass after each change."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rollouts = rollouts.Rollouts(store)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            changed = self.store.changed
            try:
                self.once()
            except Exception:  # noqa: BLE001 - a toy's fault must be seen, and not end all others
                traceback.print_exc(file=sys.stderr)
            try:
                # Again after a while: deadlines pass without a change.
                async with asyncio.timeout(1):
                    await changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(0.005)

    def once(self) -> None:
        """One pass."""
        self.rollouts.once()
        replica_sets(self.store)
        leader_worker_sets(self.store)
        collect_garbage(self.store)
        namespaces(self.store)
        budgets(self.store)
