"""A pod's files and environment, made below a folder of this machine, with paths and addresses put in their place."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.selectors import value_at
from tests.standins.kubernetes.store import Store

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class NotYet(Exception):
    """Something that the container needs is not there (CreateContainerConfigError)."""


class PodFiles:
    """One pod's folder: `root/` has what containers see, in the same places."""

    def __init__(self, store: Store, pod: Json, folder: Path, address: str) -> None:
        self.store = store
        self.pod = pod
        self.folder = folder
        self.address = address
        self.namespace = pod["metadata"]["namespace"]

    # --- texts ---

    def fit(self, text: str, container: Json) -> str:
        """Mount paths become folders here, and 'all addresses' becomes the pod's."""
        mounts = sorted((mount["mountPath"] for mount in container.get("volumeMounts") or []), key=len)
        mounts.append(ACCOUNT)
        for mount in reversed(mounts):
            clean = mount.rstrip("/")
            pattern = rf"(?<![\w./-]){re.escape(clean)}(?=$|[/\s\"':,;)\]}}])"
            place = str(self._outside(container["name"], clean))
            text = re.sub(pattern, lambda _, place=place: place, text)  # type: ignore[misc]
        return text.replace("0.0.0.0", self.address)

    def _outside(self, container: str, path: str) -> Path:
        return self.folder / "root" / container / path.lstrip("/")

    def working_folder(self, container: Json) -> str:
        """Its workingDir where that is mounted, else the pod's folder."""
        wanted = self.fit(container.get("workingDir", ""), container)
        return wanted if wanted and Path(wanted).is_dir() else str(self.folder)

    # --- objects ---

    def _object(self, plural: str, name: str, optional: bool) -> Json | None:
        found = self.store.things.get(("", plural, self.namespace, name))
        if found is None and not optional:
            kind = {"configmaps": "configmap", "secrets": "secret"}.get(plural, plural)
            raise NotYet(f'{kind} "{name}" not found')
        return found

    def _data(self, plural: str, name: str, optional: bool) -> dict[str, bytes]:
        found = self._object(plural, name, optional)
        if found is None:
            return {}
        if plural == "secrets":
            return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        data = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        for key, value in (found.get("binaryData") or {}).items():
            data[key] = base64.b64decode(value)
        return data

    def _downward(self, path: str) -> str:
        pod = self.store.things.get(("", "pods", self.namespace, self.pod["metadata"]["name"]), self.pod)
        if path in {"status.podIP", "status.hostIP", "status.podIPs"}:
            return self.address if "pod" in path else "127.0.0.1"
        if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.*)'\]", path):
            return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
        if path in {"metadata.labels", "metadata.annotations"}:
            listed = (pod["metadata"].get(path.partition(".")[2]) or {}).items()
            return "\n".join(f'{key}="{value}"' for key, value in sorted(listed))
        if path == "spec.serviceAccountName":
            return str(pod["spec"].get("serviceAccountName", "default"))
        return str(value_at(pod, path) or "")

    # --- environment ---

    def environment(self, container: Json) -> dict[str, str]:
        """Its env and envFrom, with $(NAME) put in."""
        out: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            for word, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
                if word in source:
                    data = self._data(plural, source[word]["name"], bool(source[word].get("optional")))
                    prefix = source.get("prefix", "")
                    out.update({prefix + key: value.decode() for key, value in data.items()})
        for entry in container.get("env") or []:
            value = self._value(entry, container)
            if value is not None:
                out[entry["name"]] = self.expand(value, out)
        return {name: self.fit(value, container) for name, value in out.items()}

    def _value(self, entry: Json, container: Json) -> str | None:
        origin = entry.get("valueFrom")
        if not origin:
            return str(entry.get("value") or "")
        if "fieldRef" in origin:
            return self._downward(origin["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in origin:
            word, _, resource = origin["resourceFieldRef"]["resource"].partition(".")
            return str(((container.get("resources") or {}).get(word) or {}).get(resource, 0))
        for word, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if word in origin:
                name, key = origin[word]["name"], origin[word]["key"]
                optional = bool(origin[word].get("optional"))
                data = self._data(plural, name, optional)
                if key not in data and not optional:
                    raise NotYet(f"couldn't find key {key} in {plural[:-1]} {self.namespace}/{name}")
                return data[key].decode() if key in data else None
        return None

    @staticmethod
    def expand(text: str, environment: dict[str, str]) -> str:
        """$(NAME) of what is known, $$ for a dollar."""

        def one(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            return environment.get(found[1], found[0])

        return re.sub(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)", one, text)

    # --- volumes ---

    def mount(self, container: Json, token: str, certificate: str) -> None:
        """Make each mount's folder or file, anew at each start of the container."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes") or []}
        for mount in sorted(container.get("volumeMounts") or [], key=lambda each: len(each["mountPath"])):
            source = self._volume(volumes[mount["name"]], container)
            if mount.get("subPath"):
                source = source / mount["subPath"]
                if not source.exists():
                    source.mkdir(parents=True)
            place = self._outside(container["name"], mount["mountPath"])
            if place.is_symlink():
                place.unlink()
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(source)
        if self.pod["spec"].get("automountServiceAccountToken", True):
            place = self._outside(container["name"], ACCOUNT)
            place.mkdir(parents=True, exist_ok=True)
            self._write(place / "token", token.encode(), 0o600)
            self._write(place / "namespace", self.namespace.encode())
            self._write(place / "ca.crt", certificate.encode())

    def account_folder(self, container: Json) -> str:
        """Where the service account's files are."""
        return str(self._outside(container["name"], ACCOUNT))

    def _write(self, path: Path, data: bytes, mode: int | None = None, container: Json | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if container is not None:
            try:
                data = self.fit(data.decode(), container).encode()
            except UnicodeDecodeError:
                pass
        path.write_bytes(data)
        if mode is not None:
            path.chmod(mode)

    def _volume(self, volume: Json, container: Json) -> Path:
        place: Path = self.folder / "volumes" / volume["name"]
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            self._object("persistentvolumeclaims", claim, optional=False)
            place = self.folder.parent / "claims" / self.namespace / claim
        elif "hostPath" in volume:
            place = self.folder.parent / "hosts" / volume["hostPath"]["path"].lstrip("/")
        elif "emptyDir" not in volume:
            # Its texts name paths of the container that reads them.
            place = place / container["name"]
        place.mkdir(parents=True, exist_ok=True)
        for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
            self._fill(place, source, container)
        return place

    def _fill(self, place: Path, source: Json, container: Json) -> None:
        for word, plural, key in (("configMap", "configmaps", "name"), ("secret", "secrets", "secretName")):
            if word not in source:
                continue
            entry: Any = source[word]
            name = entry.get(key) or entry.get("name")
            data = self._data(plural, name, bool(entry.get("optional")))
            items = entry.get("items") or [{"key": each, "path": each} for each in data]
            for item in items:
                if item["key"] not in data:
                    raise NotYet(f"references non-existent {plural[:-1]} key: {item['key']}")
                secret = word == "secret"
                mode = 0o600 if secret else None
                self._write(place / item["path"], data[item["key"]], mode, None if secret else container)
        for item in (source.get("downwardAPI") or {}).get("items") or []:
            self._write(place / item["path"], self._downward(item["fieldRef"]["fieldPath"]).encode())
