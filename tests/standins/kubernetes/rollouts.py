"""The toy Deployment controller: a ReplicaSet for each template, and rolling from one to the next."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from typing import Any

from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.store import Store, now
from tests.standins.kubernetes.subresources import is_ready

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def share(value: Any, total: int, up: bool) -> int:
    """maxSurge and maxUnavailable: a number, or percent rounded up or down."""
    if isinstance(value, str) and value.endswith("%"):
        exact = total * int(value[:-1])
        return -(-exact // 100) if up else exact // 100
    return int(value)


def template_hash(template: Json) -> str:
    """Names a template. Empty fields don't count: programs in Go write more of them than people do."""
    text = json.dumps(_filled(template), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _filled(thing: Any) -> Any:
    if isinstance(thing, dict):
        pairs = {key: _filled(value) for key, value in thing.items()}
        return {key: value for key, value in pairs.items() if value not in (None, {}, [], "")}
    return [_filled(item) for item in thing] if isinstance(thing, list) else thing


def _condition(kind: str, true: bool, reason: str, message: str) -> Json:
    status = "True" if true else "False"
    return {"type": kind, "status": status, "reason": reason, "message": message}


class Rollouts:
    """All Deployments, and since when each makes no progress."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._moved: dict[str, tuple[Any, float]] = {}

    def once(self) -> None:
        """One pass over all."""
        for deployment in self.store.of("deployments"):
            if "deletionTimestamp" not in deployment["metadata"]:
                self._one(deployment)

    def _owned(self, deployment: Json) -> list[Json]:
        uid = deployment["metadata"]["uid"]
        return [
            each
            for each in self.store.of("replicasets", deployment["metadata"]["namespace"])
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences") or [])
            and "deletionTimestamp" not in each["metadata"]
        ]

    def _current(self, deployment: Json, owned: list[Json]) -> Json:
        """The ReplicaSet of the template of now, made if it is not there."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        name = template_hash(spec["template"])
        revisions = [int(each["metadata"]["annotations"].get(REVISION, 0)) for each in owned]
        for each in owned:
            if each["metadata"]["labels"].get(HASH) == name:
                mine = int(each["metadata"]["annotations"].get(REVISION, 0))
                if mine == max(revisions):
                    return each
                annotations = {REVISION: str(max(revisions) + 1)}
                kind = self.store.kinds.named("replicasets")
                where = each["metadata"]
                found = self.store.touch(kind, where["namespace"], where["name"], annotations=annotations)
                return found or each
        template = copy.deepcopy(spec["template"])
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[HASH] = name
        selector = copy.deepcopy(spec["selector"])
        selector.setdefault("matchLabels", {})[HASH] = name
        reference = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        thing = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{metadata['name']}-{name}",
                "namespace": metadata["namespace"],
                "labels": dict(labels),
                "annotations": {REVISION: str(max(revisions, default=0) + 1)},
                "ownerReferences": [reference],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        return self.store.create(self.store.kinds.named("replicasets"), thing)

    def _scale(self, replica_set: Json, replicas: int) -> None:
        if replica_set["spec"]["replicas"] != replicas:
            metadata = replica_set["metadata"]
            spec = {**copy.deepcopy(replica_set["spec"]), "replicas": replicas}
            kind = self.store.kinds.named("replicasets")
            self.store.touch(kind, metadata["namespace"], metadata["name"], spec=spec)

    def _pods(self, replica_set: Json) -> list[Json]:
        uid = replica_set["metadata"]["uid"]
        return [
            pod
            for pod in self.store.of("pods", replica_set["metadata"]["namespace"])
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or [])
        ]

    def _ready(self, replica_set: Json) -> int:
        return sum(
            is_ready(pod) for pod in self._pods(replica_set) if "deletionTimestamp" not in pod["metadata"]
        )

    def _one(self, deployment: Json) -> None:
        spec = deployment["spec"]
        owned = self._owned(deployment)
        if not (spec.get("paused") and owned):
            current = self._current(deployment, owned)
            olds = [each for each in owned if each["metadata"]["uid"] != current["metadata"]["uid"]]
            self._roll(spec, current, olds)
            self._forget_old(spec, olds)
        self._report(deployment)

    def _roll(self, spec: Json, current: Json, olds: list[Json]) -> None:
        wanted: int = spec["replicas"]
        if spec["strategy"]["type"] == "Recreate":
            for old in olds:
                self._scale(old, 0)
            if not any(self._pods(old) for old in olds):
                self._scale(current, wanted)
            return
        rolling = spec["strategy"]["rollingUpdate"]
        surge = share(rolling["maxSurge"], wanted, up=True)
        unavailable = share(rolling["maxUnavailable"], wanted, up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1
        have = current["spec"]["replicas"]
        total = have + sum(old["spec"]["replicas"] for old in olds)
        if have > wanted:
            self._scale(current, wanted)
            have = wanted
        elif have < wanted:
            more = min(wanted - have, max(0, wanted + surge - total)) if olds else wanted - have
            if not any(old["spec"]["replicas"] for old in olds):
                more = wanted - have
            self._scale(current, have + more)
            have, total = have + more, total + more
        ready = self._ready(current) + sum(self._ready(old) for old in olds)
        not_ready_new = have - min(have, self._ready(current))
        may_go = total - (wanted - unavailable) - not_ready_new
        for old in olds:
            # Those that are not ready serve nobody: they go first.
            idle = max(0, old["spec"]["replicas"] - self._ready(old))
            less = min(idle, max(0, may_go))
            spare = max(0, ready - (wanted - unavailable))
            less += min(old["spec"]["replicas"] - less, spare, max(0, may_go - less))
            self._scale(old, old["spec"]["replicas"] - less)
            may_go -= less
            ready -= max(0, less - idle)

    def _forget_old(self, spec: Json, olds: list[Json]) -> None:
        keep = spec.get("revisionHistoryLimit", 10)
        unused = [
            each
            for each in olds
            if not each["spec"]["replicas"] and not (each.get("status") or {}).get("replicas")
        ]
        unused.sort(key=lambda each: int(each["metadata"]["annotations"].get(REVISION, 0)))
        for each in unused[: max(0, len(unused) - keep)]:
            metadata = each["metadata"]
            self.store.delete(
                self.store.kinds.named("replicasets"), metadata["namespace"], metadata["name"], {}
            )

    def _report(self, deployment: Json) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        owned = self._owned(deployment)
        name = template_hash(spec["template"])
        new = [each for each in owned if each["metadata"]["labels"].get(HASH) == name]

        def pods(sets: list[Json]) -> list[Json]:
            return [
                pod for each in sets for pod in self._pods(each) if "deletionTimestamp" not in pod["metadata"]
            ]

        replicas, updated = len(pods(owned)), len(pods(new))
        ready = sum(is_ready(pod) for pod in pods(owned))
        wanted: int = spec["replicas"]
        complete = updated == wanted and replicas == wanted and ready == wanted
        moved = self._progress(metadata["uid"], (name, replicas, updated, ready, wanted))
        late = not complete and moved > spec["progressDeadlineSeconds"]
        rolling = spec["strategy"].get("rollingUpdate") or {}
        unavailable = share(rolling.get("maxUnavailable", 0), wanted, up=False)
        enough = ready >= wanted - unavailable
        said = f'ReplicaSet "{metadata["name"]}-{name}" is progressing.'
        conditions = [
            _condition(
                "Available",
                enough,
                "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
                f"Deployment {'has' if enough else 'does not have'} minimum availability.",
            ),
            _condition(
                "Progressing",
                False,
                "ProgressDeadlineExceeded",
                said.replace("is progressing", "has timed out progressing"),
            )
            if late
            else _condition(
                "Progressing",
                True,
                "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
                said.replace("is progressing", "has successfully progressed") if complete else said,
            ),
        ]
        before = {each["type"]: each for each in (deployment.get("status") or {}).get("conditions") or []}
        for condition in conditions:
            old = before.get(condition["type"], {})
            same = all(old.get(word) == condition[word] for word in ("status", "reason", "message"))
            condition["lastUpdateTime"] = old["lastUpdateTime"] if same else now()
            changed = old.get("status") != condition["status"]
            condition["lastTransitionTime"] = now() if changed else old["lastTransitionTime"]
        status: Json = {"observedGeneration": metadata["generation"], "conditions": conditions}
        numbers = {
            "replicas": replicas,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, wanted - ready),
        }
        status.update({word: number for word, number in numbers.items() if number})
        kind = self.store.kinds.named("deployments")
        revision = max((int(each["metadata"]["annotations"].get(REVISION, 0)) for each in new), default=0)
        annotations = {REVISION: str(revision)} if revision else {}
        self.store.touch(
            kind, metadata["namespace"], metadata["name"], status=status, annotations=annotations
        )

    def _progress(self, uid: str, state: Any) -> float:
        """Seconds since anything moved."""
        clock = asyncio.get_running_loop().time()
        if self._moved.get(uid, (None, 0.0))[0] != state:
            self._moved[uid] = (state, clock)
        return clock - self._moved[uid][1]
