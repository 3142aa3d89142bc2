"""A deployment file with other values than are written in it: `--set deployments.chat.routing.policy=round_robin`.

The value is put into the file's YAML, which is then read as any file is: the same keys, bounds, words and hints.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from inferry.core.config_file import LoadedFile, load_file, parse_text
from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean

_INDEX = re.compile(r"\[(\d+)\]")
_KEY = re.compile(r"[\w.@\[\]-]+")
_NEXT = re.compile(r",(?=[\w.@\[\]-]+=)")
_HOW = "write it as KEY=VALUE, for instance deployments.chat.routing.policy=round_robin"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value to put into the file."""

    key: str
    """With dots; an entry of a list by its number from 0: `rules.0.above` or `rules[0].above`."""
    value: str
    """YAML; empty: null, as if the key were left out where that may be."""
    option: str = field(default="--set", compare=False)
    """Which gave it."""

    def __str__(self) -> str:
        return f"{self.key}={self.value}"

    @property
    def parts(self) -> list[str]:
        return _INDEX.sub(r".\1", self.key).split(".")


def setting_of(text: str, option: str = "--set") -> Setting:
    """`KEY=VALUE`. Raises ConfigError."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key) or "" in _INDEX.sub(r".\1", key).split("."):
        raise ConfigError(f"{option} {text}: {_HOW}.")
    return Setting(key, value.strip(), option)


def settings_of(text: str, option: str) -> tuple[Setting, ...]:
    """Several with commas between them: a comma belongs to a value unless a key and '=' follow it."""
    return tuple(setting_of(each, option) for each in _NEXT.split(text))


def load_with(path: Path, settings: Sequence[Setting], environ: Mapping[str, str]) -> LoadedFile:
    """The file at `path` with `settings`. Raises ConfigError for what is wrong with the file, then with any setting."""
    loaded = load_file(path, environ)
    if not settings:
        return loaded
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    for setting in settings:
        root = _with(root, setting.parts, setting, loaded)
    text = yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True, width=10**6)
    try:
        return parse_text(text, path, environ)
    except ConfigError as error:
        # Lines of a text that nobody wrote help nobody.
        line = re.compile(rf"^{re.escape(path.name)}:\d+: ", re.MULTILINE)
        said = " ".join(f"{each.option} {each}" for each in settings)
        raise ConfigError(f"{path} with {said}:\n{line.sub('', error.message)}") from None


def _with(node: yaml.Node | None, parts: list[str], setting: Setting, loaded: LoadedFile) -> yaml.Node:
    """`node` with the value put in; what is on the way is copied, since an alias may stand in several places."""
    if not parts:
        return _value(setting)
    if isinstance(node, yaml.SequenceNode):
        return _with_item(node, parts, setting, loaded)
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        node = yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{setting.option} {setting}: '{parts[0]}' can't be looked for in {node.value!r}; {_HOW}."
        )
    found = copy.copy(node)
    found.value = list(node.value)
    for place, (key, inside) in enumerate(node.value):
        count = _length(key, parts)
        if count:
            found.value[place] = (key, _with(inside, parts[count:], setting, loaded))
            return found
    _refuse_unknown_name(parts, setting, loaded)
    key = yaml.ScalarNode("tag:yaml.org,2002:str", parts[0])
    found.value.append((key, _with(None, parts[1:], setting, loaded)))
    return found


def _length(key: yaml.Node, parts: list[str]) -> int:
    """How many of the parts are this key: names of deployments may hold dots. 0: it is another."""
    if not isinstance(key, yaml.ScalarNode):
        return 0
    count = key.value.count(".") + 1
    return count if ".".join(parts[:count]) == key.value else 0


def _with_item(node: yaml.SequenceNode, parts: list[str], setting: Setting, loaded: LoadedFile) -> yaml.Node:
    index = int(parts[0]) if parts[0].isdecimal() else -1
    if not 0 <= index <= len(node.value):
        raise ConfigError(
            f"{setting.option} {setting}: the list has {len(node.value)} entries: '{parts[0]}' must be a number from 0 to "
            f"{len(node.value)}, which adds one."
        )
    found = copy.copy(node)
    found.value = list(node.value)
    old = found.value[index] if index < len(found.value) else None
    found.value[index : index + 1] = [_with(old, parts[1:], setting, loaded)]
    return found


def _refuse_unknown_name(parts: list[str], setting: Setting, loaded: LoadedFile) -> None:
    """A slip in a deployment's name would make a deployment, and an error about its engine."""
    names = loaded.config.deployments
    at = setting.parts
    if at[0] == "deployments" and len(parts) == len(at) - 1:
        raise ConfigError(
            f"{setting.option} {setting}: there is no deployment '{parts[0]}'.{did_you_mean(parts[0], names)}"
        )


def _value(setting: Setting) -> yaml.Node:
    try:
        node = yaml.compose(setting.value, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{setting.option} {setting}: the value is not YAML: {said}") from None
    return yaml.ScalarNode("tag:yaml.org,2002:null", "null") if node is None else node
