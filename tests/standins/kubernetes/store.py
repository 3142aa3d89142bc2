"""What is there: objects with resourceVersion and generation, and the history that watches read."""

from __future__ import annotations

import asyncio
import base64
import copy
import datetime
import itertools
import secrets
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

from tests.standins.kubernetes.kinds import Kind, Kinds
from tests.standins.kubernetes.refusal import Json, Refusal, conflict, exists, invalid, not_found

Key = tuple[str, str, str, str]
"""Group, plural, namespace, name."""


def now() -> str:
    """This moment as metadata writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    """One step of the history."""

    version: int
    what: str
    key: Key
    thing: Json
    before: Json | None


def defaulted(kind: Kind, thing: Json) -> None:
    """The few defaults that something reads."""
    spec = thing.get("spec")
    counted = kind.plural in {"deployments", "replicasets", "statefulsets"}
    if counted and isinstance(spec, dict) and spec.get("replicas") is None:
        spec["replicas"] = 1
    if kind.plural == "deployments" and isinstance(spec, dict):
        spec.setdefault("progressDeadlineSeconds", 600)
        strategy = spec.setdefault("strategy", {})
        if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxSurge", "25%")
            rolling.setdefault("maxUnavailable", "25%")
        else:
            strategy.pop("rollingUpdate", None)
    if kind.plural == "secrets":
        for key, value in (thing.pop("stringData", None) or {}).items():
            thing.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
        thing.setdefault("type", "Opaque")


class Store:
    """All objects. Everything happens in the server's loop: no locks."""

    def __init__(self, kinds: Kinds, history: int = 20_000) -> None:
        self.kinds = kinds
        self.things: dict[Key, Json] = {}
        self.version = 1000
        self.changes: deque[Change] = deque(maxlen=history)
        self.changed = asyncio.Event()
        # What each manager applied last by server-side apply.
        self.applied: dict[tuple[Key, str], Json] = {}
        self._addresses = itertools.count(1)

    # --- reading ---

    def key(self, kind: Kind, namespace: str, name: str) -> Key:
        """Where an object of that kind lies."""
        return (kind.group, kind.plural, namespace if kind.namespaced else "", name)

    def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """The object, or 404."""
        thing = self.things.get(self.key(kind, namespace, name))
        if thing is None:
            raise not_found(kind.plural, name, kind.group)
        return thing

    def every(self, kind: Kind, namespace: str = "") -> list[Json]:
        """All of that kind, in one namespace or everywhere."""
        return [
            thing
            for (group, plural, place, _), thing in sorted(self.things.items())
            if (group, plural) == (kind.group, kind.plural) and (not namespace or place == namespace)
        ]

    def of(self, plural: str, namespace: str = "") -> list[Json]:
        """All of a plural: for controllers."""
        return self.every(self.kinds.named(plural), namespace)

    @property
    def oldest(self) -> int:
        """Watches can begin at this version or later."""
        return self.changes[0].version - 1 if self.changes else self.version

    def forget(self) -> None:
        """Compact the history: older resourceVersions are gone (410)."""
        self.changes.clear()

    # --- writing ---

    def _record(self, what: str, key: Key, thing: Json, before: Json | None) -> Json:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.changes.append(Change(self.version, what, key, thing, before))
        if what == "DELETED":
            self.things.pop(key, None)
        else:
            self.things[key] = thing
        self.wake()
        return thing

    def wake(self) -> None:
        """Tell everybody who waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    def create(self, kind: Kind, thing: Json, dry: bool = False) -> Json:
        """A new object, with what Kubernetes adds to it."""
        thing = copy.deepcopy(thing)
        metadata = thing.setdefault("metadata", {})
        name = metadata["name"]
        namespace = metadata.get("namespace", "") if kind.namespaced else ""
        key = self.key(kind, namespace, name)
        if key in self.things:
            raise exists(kind.plural, name, kind.group)
        if metadata.pop("resourceVersion", ""):
            raise Refusal(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if not kind.namespaced:
            metadata.pop("namespace", None)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
        defaulted(kind, thing)
        if "status" in kind.subresources and kind.plural not in {"nodes"}:
            thing.pop("status", None)
        if kind.plural == "services":
            number = next(self._addresses)
            thing["spec"].setdefault("clusterIP", f"10.96.{number // 250}.{number % 250 + 1}")
            thing["spec"].setdefault("type", "ClusterIP")
        if kind.plural == "pods":
            thing["status"] = {"phase": "Pending"}
        if kind.plural == "namespaces":
            thing["status"] = {"phase": "Active"}
        if dry:
            metadata["resourceVersion"] = str(self.version)
            return thing
        return self._record("ADDED", key, thing, None)

    def update(
        self, kind: Kind, thing: Json, status: bool = False, dry: bool = False, stale_ok: bool = False
    ) -> Json:
        """Put in place of what is there; 409 if somebody else was quicker."""
        thing = copy.deepcopy(thing)
        metadata = thing["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        old = self.get(kind, namespace, name)
        sent = metadata.get("resourceVersion")
        if sent and not stale_ok and sent != old["metadata"]["resourceVersion"]:
            raise conflict(kind.plural + (f".{kind.group}" if kind.group else ""), name)
        if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise conflict(
                kind.plural,
                name,
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old['metadata']['uid']}",
            )
        defaulted(kind, thing)
        if status:
            new = {**copy.deepcopy(old), "status": thing.get("status", {})}
        elif "status" in kind.subresources:
            new = {key: value for key, value in thing.items() if key != "status"}
            if "status" in old:
                new["status"] = copy.deepcopy(old["status"])
        else:
            new = thing
        fixed = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
        for word in fixed:
            new["metadata"].pop(word, None)
            if word in old["metadata"]:
                new["metadata"][word] = old["metadata"][word]
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if not status:
            self._unchangeable(kind, old, new)
        if new == old:
            return old
        strip = ("metadata", "status")
        if {k: v for k, v in new.items() if k not in strip} != {
            k: v for k, v in old.items() if k not in strip
        }:
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if dry:
            return new
        done = self._record("MODIFIED", self.key(kind, namespace, name), new, old)
        ends = "deletionTimestamp" in done["metadata"] and kind.plural not in {"pods", "namespaces"}
        if ends and not done["metadata"].get("finalizers"):
            self.remove(kind, done)
        return done

    def _unchangeable(self, kind: Kind, old: Json, new: Json) -> None:
        was, spec = old.get("spec") or {}, new.get("spec") or {}
        if kind.group == "apps" and was.get("selector") != spec.get("selector"):
            text = f"Invalid value: {spec.get('selector')}: field is immutable"
            raise invalid(kind.kind, new["metadata"]["name"], [("spec.selector", text)], kind.group)
        if kind.plural == "pods":
            small = ("tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds", "nodeName")

            def firm(pod: Json) -> Json:
                kept = {key: value for key, value in pod.items() if key not in small}
                kept["containers"] = [{**c, "image": ""} for c in kept.get("containers", [])]
                return kept

            if firm(was) != firm(spec):
                text = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
                raise invalid("Pod", new["metadata"]["name"], [("spec", text)])
        kept = (old.get("data"), True) == (new.get("data"), new.get("immutable"))
        if kind.plural in {"configmaps", "secrets"} and old.get("immutable") and not kept:
            text = "Forbidden: field is immutable when `immutable` is set"
            raise invalid(kind.kind, new["metadata"]["name"], [("data", text)])

    def touch(self, kind: Kind, namespace: str, name: str, **fields: Any) -> Json | None:
        """For controllers: set top-level fields, or `annotations`; nothing if it is gone."""
        old = self.things.get(self.key(kind, namespace, name))
        if old is None:
            return None
        new = copy.deepcopy(old)
        annotations = fields.pop("annotations", None)
        if annotations:
            new["metadata"].setdefault("annotations", {}).update(annotations)
        new.update(fields)
        if new == old:
            return old
        if "spec" in fields:
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        return self._record("MODIFIED", self.key(kind, namespace, name), new, old)

    def remove(self, kind: Kind, thing: Json) -> Json:
        """Gone."""
        metadata = thing["metadata"]
        key = self.key(kind, metadata.get("namespace", ""), metadata["name"])
        if key not in self.things:
            return thing
        self.applied = {place: value for place, value in self.applied.items() if place[0] != key}
        old = self.things[key]
        return self._record("DELETED", key, copy.deepcopy(old), old)

    def delete(self, kind: Kind, namespace: str, name: str, options: Json) -> Json:
        """Ask for the end: at once, or when grace, finalizers or what is inside allow it."""
        old = self.get(kind, namespace, name)
        for word, value in (options.get("preconditions") or {}).items():
            if old["metadata"].get(word) != value:
                raise conflict(kind.plural, name, f"Precondition failed: {word} is not {value}")
        if options.get("dryRun"):
            return old
        grace = options.get("gracePeriodSeconds")
        if options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents"):
            self._orphan(old["metadata"]["uid"])
        waits = bool(old["metadata"].get("finalizers")) or kind.plural == "namespaces"
        if kind.plural == "pods":
            if grace is None:
                grace = (old.get("spec") or {}).get("terminationGracePeriodSeconds", 30)
            started = bool((old.get("spec") or {}).get("nodeName"))
            waits = waits or (grace > 0 and started)
        if not waits:
            return self.remove(kind, old)
        new = copy.deepcopy(old)
        new["metadata"].setdefault("deletionTimestamp", now())
        if kind.plural == "pods":
            new["metadata"]["deletionGracePeriodSeconds"] = grace
        if kind.plural == "namespaces":
            new["status"] = {"phase": "Terminating"}
        if new == old:
            return old
        return self._record("MODIFIED", self.key(kind, namespace, name), new, old)

    def _orphan(self, uid: str) -> None:
        for key, thing in list(self.things.items()):
            owners = thing["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == uid for owner in owners):
                new = copy.deepcopy(thing)
                new["metadata"]["ownerReferences"] = [owner for owner in owners if owner["uid"] != uid]
                self._record("MODIFIED", key, new, thing)


def random_name(prefix: str) -> str:
    """As generateName makes it."""
    return prefix + "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))
