"""Objects to templates: a placeholder where a value comes in, and one list of values for values.yaml and its schema.

Each setting is named once, where it is used. Its default is what the object had there, so a chart whose values nobody
touched gives exactly the objects that it was made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inferry.render.yaml_text import Data, Why, without_reasons, yaml_text

_PLACEHOLDER = "helmplaceholder"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ON_ITS_LINE = re.compile(rf"^( *)((?:- )?)([^\s:]+): ({_PLACEHOLDER}\d{{4}})$", re.MULTILINE)
_INSIDE = re.compile(rf"{_PLACEHOLDER}\d{{4}}")

NAMESPACE = "{{ .Release.Namespace }}"
TEXT: Data = {"type": "string", "minLength": 1}
ANY_TEXT: Data = {"type": "string"}
SWITCH: Data = {"type": "boolean"}
OBJECT: Data = {"type": "object"}
LIST: Data = {"type": "array"}
QUANTITY: Data = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(m|[kKMGTPE]i?)?$"}
_LABEL = {"type": ["string", "number", "boolean"]}
TEXTS: Data = {"type": "object", "additionalProperties": {"type": "string"}}
RESOURCES: Data = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        each: {"type": "object", "additionalProperties": _LABEL} for each in ("requests", "limits", "claims")
    },
}


@dataclass(frozen=True, slots=True)
class _Setting:
    value: Any
    because: str
    schema: Data


class Settings:
    """What values.yaml has, in the order in which it was asked for; and the placeholders that stand for it."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._actions: dict[str, tuple[str, str]] = {}

    def declare(self, path: str, value: Any, because: str, schema: Data) -> str:
        """A setting; how a template refers to it. Declared twice, the first one counts."""
        *groups, name = path.split("/")
        inside = self._settings
        for group in groups:
            inside = inside.setdefault(group, {})
        inside.setdefault(name, _Setting(value, because, schema))
        parts = path.split("/")
        if all(_IDENTIFIER.fullmatch(part) for part in parts):
            return ".Values." + ".".join(parts)
        return "(index .Values " + " ".join(f'"{part}"' for part in parts) + ")"

    def raw(self, action: str) -> str:
        """A placeholder for template text as it is."""
        return self._placeholder("raw", action)

    def scalar(self, path: str, value: Any, because: str, schema: Data) -> str:
        """A placeholder for one word or number; texts are quoted."""
        quote = " | quote" if isinstance(value, str) else ""
        return self.raw("{{ " + self.declare(path, value, because, schema) + quote + " }}")

    def tree(self, path: str, value: Any, because: str, schema: Data) -> str:
        """A placeholder for a mapping or list, as the value of a key; the key is left out while it is empty."""
        return self._placeholder("tree", self.declare(path, value, because, schema))

    def only_if(self, condition: str, action: str) -> str:
        """A placeholder as the value of a key, that is there only under a condition."""
        return self._placeholder(condition, action)

    def _placeholder(self, kind: str, action: str) -> str:
        name = f"{_PLACEHOLDER}{len(self._actions):04}"
        self._actions[name] = (kind, action)
        return name

    def template(self, data: Data, condition: str = "") -> str:
        """An object as one document of a template, with its reasons as comments."""
        text = (
            yaml_text(put(data, ("metadata", "namespace"), self.raw(NAMESPACE)))
            if _has_namespace(data)
            else yaml_text(data)
        )
        text = self.filled(literal(text))
        return f"---\n{text}" if not condition else f"{{{{- if {condition} }}}}\n---\n{text}{{{{- end }}}}\n"

    def filled(self, text: str) -> str:
        """With what placeholders stand for."""
        text = _ON_ITS_LINE.sub(lambda found: self._line(*found.groups()), text)
        return _INSIDE.sub(lambda found: self._actions[found[0]][1], text)

    def _line(self, indent: str, dash: str, key: str, name: str) -> str:
        kind, action = self._actions[name]
        if kind == "raw":
            return f"{indent}{dash}{key}: {action}"
        if kind == "tree":
            deeper = len(indent) + len(dash) + 2
            return f"{{{{- with {action} }}}}\n{indent}{dash}{key}:\n{{{{ toYaml . | indent {deeper} }}}}\n{{{{- end }}}}"
        return f"{{{{- if {kind} }}}}\n{indent}{dash}{key}: {action}\n{{{{- end }}}}"

    def values(self) -> Data:
        """For values.yaml: defaults, with their reasons."""
        return _values(self._settings)

    def schema(self) -> Data:
        """For values.schema.json: a wrong value is refused before anything is sent, a misspelt one too."""
        return {
            "$schema": "http://json-schema.org/draft-07/schema#",
            **_schema(self._settings),
        }


def put(data: Data, path: Sequence[str | int], value: Any) -> Data:
    """The same object with another value at `path`; reasons on the way stay."""
    found: Data = _put(data, path, value)
    return found


def _put(data: Any, path: Sequence[str | int], value: Any) -> Any:
    if isinstance(data, Why):
        return Why(data.because, _put(data.value, path, value))
    if not path:
        return value
    first, *rest = path
    if isinstance(data, Mapping):
        return {**data, first: _put(data.get(first, {}), rest, value)}
    return [_put(each, rest, value) if number == first else each for number, each in enumerate(data)]


def at(data: Any, *path: str | int) -> Any:
    """What stands there, without reasons; None: nothing does."""
    found = without_reasons(data)
    for each in path:
        if isinstance(found, Mapping):
            found = found.get(each)
        elif isinstance(found, list) and isinstance(each, int) and each < len(found):
            found = found[each]
        else:
            return None
    return found


def literal(text: str) -> str:
    """Text in which Helm finds nothing to do: rules and messages of others have templates of their own."""
    return text.replace("{{", '{{ "{{" }}')


def _has_namespace(data: Data) -> bool:
    return "namespace" in data["metadata"]


def _values(tree: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, each in tree.items():
        if isinstance(each, _Setting):
            found[key] = Why(each.because, each.value) if each.because else each.value
        else:
            found[key] = _values(each)
    return found


def _schema(tree: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for key, each in tree.items():
        if isinstance(each, _Setting):
            properties[key] = (
                {"description": each.because, **each.schema} if each.because else dict(each.schema)
            )
        else:
            properties[key] = _schema(each)
    return {"type": "object", "additionalProperties": False, "properties": properties}
