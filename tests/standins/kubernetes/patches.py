"""The four ways to patch: JSON merge, strategic merge, JSON patch and server-side apply."""

from __future__ import annotations

import copy
from typing import Any

from tests.standins.kubernetes.refusal import Json, Refusal, bad_request

# By which field lists of Kubernetes' own kinds are merged; lists not named here are replaced.
_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
    "resourceClaims": ("name",),
    "taints": ("key",),
    "podIPs": ("ip",),
}


def merge(old: Any, patch: Any) -> Any:
    """RFC 7396: null takes away, lists are replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def _key_of(name: str, items: list[Any]) -> str | None:
    for key in _KEYS.get(name, ()):
        if items and all(isinstance(item, dict) and key in item for item in items):
            return key
    return None


def strategic(old: Any, patch: Any) -> Any:
    """Lists merged by their key, with the directives that kubectl sends."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    out = dict(old) if isinstance(old, dict) else {}
    if (retained := patch.get("$retainKeys")) is not None:
        out = {key: value for key, value in out.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            out[name] = [item for item in out.get(name) or [] if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            out.pop(key, None)
        elif isinstance(value, list):
            out[key] = _merged_list(key, out.get(key), value, patch.get(f"$setElementOrder/{key}"))
        else:
            out[key] = strategic(out.get(key), value)
    for key, order in patch.items():
        name = key.partition("/")[2]
        if key.startswith("$setElementOrder/") and name not in patch and isinstance(out.get(name), list):
            out[name] = _merged_list(name, out[name], [], order)
    return out


def _merged_list(name: str, old: Any, new: list[Any], order: list[Any] | None) -> list[Any]:
    if name == "finalizers":
        return list(dict.fromkeys([*(old or []), *new]))
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in new):
        return [copy.deepcopy(item) for item in new if item.get("$patch") != "replace"]
    key = _key_of(name, [*new, *(order or [])])
    if key is None:
        return copy.deepcopy(new)
    out = [item for item in copy.deepcopy(old or []) if isinstance(item, dict)]
    for item in new:
        at = next((index for index, there in enumerate(out) if there.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del out[at]
        elif at is None:
            out.append(strategic({}, item))
        else:
            out[at] = strategic(out[at], item)
    if order:
        place = {entry.get(key): index for index, entry in enumerate(order) if isinstance(entry, dict)}
        out.sort(key=lambda item: place.get(item.get(key), len(place)))
    return out


def json_patch(thing: Json, operations: Any) -> Json:
    """RFC 6902; a test that fails is 422."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    root: Any = copy.deepcopy(thing)
    for operation in operations:
        name, path = operation.get("op"), operation.get("path", "")
        value = copy.deepcopy(operation.get("value"))
        if name in {"move", "copy"}:
            value = copy.deepcopy(_at(root, operation["from"]))
            if name == "move":
                _change(root, operation["from"], "remove", None)
            name = "add"
        if name == "test":
            if _at(root, path) != value:
                raise Refusal(422, "Invalid", f"the server rejected our request: testing path {path} failed")
        elif name in {"add", "replace", "remove"}:
            _change(root, path, name, value)
        else:
            raise bad_request(f"unexpected operation {name!r} in a JSON patch")
    return dict(root)


def _parts(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _at(root: Any, path: str) -> Any:
    for part in _parts(path):
        try:
            root = root[int(part)] if isinstance(root, list) else root[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise Refusal(
                422, "Invalid", f"the server rejected our request: path {path} does not exist"
            ) from error
    return root


def _change(root: Any, path: str, name: str, value: Any) -> None:
    *way, last = _parts(path)
    parent = _at(root, "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in way))
    if isinstance(parent, list):
        at = len(parent) if last == "-" else int(last)
        if name == "add":
            parent.insert(at, value)
        elif name == "replace":
            parent[at] = value
        else:
            del parent[at]
    elif name == "remove":
        _at(root, path)
        del parent[last]
    else:
        parent[last] = value


def applied(old: Json, new: Json, before: Json | None, custom: bool) -> Json:
    """Server-side apply: `new` merged in; what this manager applied `before` and applies no more goes away."""
    out = copy.deepcopy(old)
    if before is not None:
        out = _without(out, before, new, "")
    return dict(merge(out, new) if custom else strategic(out, new))


def _without(thing: Any, before: Any, new: Any, name: str) -> Any:
    if isinstance(thing, dict) and isinstance(before, dict) and isinstance(new, dict):
        out = dict(thing)
        for key, value in before.items():
            if key not in new and key in out:
                left = _without(out[key], value, {}, key) if isinstance(value, dict) else None
                if left:
                    out[key] = left
                else:
                    out.pop(key)
            elif key in out:
                out[key] = _without(out[key], value, new[key], key)
        return out
    if isinstance(thing, list) and isinstance(before, list) and isinstance(new, list):
        key = _key_of(name, [*before, *new])
        if key is None:
            return thing
        was = {item[key]: item for item in before}
        now = {item[key]: item for item in new}
        return [
            _without(item, was[item.get(key)], now[item.get(key)], "")
            if item.get(key) in was and item.get(key) in now
            else item
            for item in thing
            if item.get(key) not in was or item.get(key) in now
        ]
    return thing
