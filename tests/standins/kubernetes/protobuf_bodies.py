"""Reads the few protobuf messages that clients insist on sending: Helm's release Secret, reviews, evictions.

Field numbers are those of Kubernetes' published generated.proto files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from tests.standins.kubernetes.refusal import Json, Refusal

MAGIC = b"k8s\x00"
_OWNER = {1: ("kind", "text"), 3: ("name", "text"), 4: ("uid", "text"), 5: ("apiVersion", "text")}
_META: dict[int, tuple[str, Any]] = {
    1: ("name", "text"),
    2: ("generateName", "text"),
    3: ("namespace", "text"),
    5: ("uid", "text"),
    6: ("resourceVersion", "text"),
    11: ("labels", "map"),
    12: ("annotations", "map"),
    13: ("ownerReferences", [_OWNER]),
    14: ("finalizers", ["text"]),
}
_DELETE: dict[int, tuple[str, Any]] = {
    1: ("gracePeriodSeconds", "int"),
    2: ("preconditions", {1: ("uid", "text"), 2: ("resourceVersion", "text")}),
    3: ("orphanDependents", "bool"),
    4: ("propagationPolicy", "text"),
    5: ("dryRun", ["text"]),
}
_ATTRIBUTES = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
_REVIEW: dict[int, tuple[str, Any]] = {
    1: ("resourceAttributes", {number + 1: (name, "text") for number, name in enumerate(_ATTRIBUTES)}),
    2: ("nonResourceAttributes", {1: ("path", "text"), 2: ("verb", "text")}),
}
_MESSAGES: dict[str, dict[int, tuple[str, Any]]] = {
    "SelfSubjectAccessReview": {1: ("metadata", _META), 2: ("spec", _REVIEW)},
    "Eviction": {1: ("metadata", _META), 2: ("deleteOptions", _DELETE)},
    "DeleteOptions": _DELETE,
    "Secret": {
        1: ("metadata", _META),
        2: ("data", "bytes map"),
        3: ("type", "text"),
        4: ("stringData", "map"),
        5: ("immutable", "bool"),
    },
    "ConfigMap": {1: ("metadata", _META), 2: ("data", "map"), 3: ("binaryData", "bytes map")},
    "Namespace": {1: ("metadata", _META)},
}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size
        else:
            at += 8 if wire == 1 else 4


def _message(data: bytes, shape: dict[int, tuple[str, Any]]) -> Json:
    out: Json = {}
    for number, value in _fields(data):
        if number not in shape:
            continue
        name, kind = shape[number]
        if isinstance(kind, dict):
            out[name] = _message(value, kind)
        elif isinstance(kind, list):
            item = value.decode() if kind[0] == "text" else _message(value, kind[0])
            out.setdefault(name, []).append(item)
        elif kind == "text":
            if value:
                out[name] = value.decode()
        elif kind in {"map", "bytes map"}:
            pair = dict(_fields(value))
            raw = pair.get(2, b"")
            text = base64.b64encode(raw).decode() if kind == "bytes map" else raw.decode()
            out.setdefault(name, {})[pair.get(1, b"").decode()] = text
        else:
            out[name] = bool(value) if kind == "bool" else value
    return out


def decoded(body: bytes) -> Json:
    """The object in a protobuf body; 415 for kinds that are not known here."""
    envelope = dict(_fields(body[len(MAGIC) :]))
    types = dict(_fields(envelope.get(1, b"")))
    kind = types.get(2, b"").decode()
    if kind not in _MESSAGES:
        raise Refusal(
            415, "UnsupportedMediaType", f"this stand-in reads no protobuf of kind {kind!r}: send JSON"
        )
    api_version = types.get(1, b"").decode()
    return {"apiVersion": api_version, "kind": kind, **_message(envelope.get(2, b""), _MESSAGES[kind])}
