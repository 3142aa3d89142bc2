"""Which deployment `inferry engines command` is about: one of a file, or one made of options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inferry.core.config_file import LoadedFile, load_file, parse_text
from inferry.core.deployment import ENGINE_TYPES, Deployment
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean
from inferry.engines.facts import ORDER
from inferry.engines.presets import Preset, preset_settings, shown_value
from inferry.engines.registry import adapter_for
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.threads import cores_available, share_threads

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)
_SCHEME = re.compile(r"(hf|file|pypi|https?):")
_OPTIONS = Path("options")
_MODEL = "--model org/name"
_MODELS = {"llamacpp": "--model /path/FILE.gguf", "ollama": "--model llama3.2:1b"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A deployment, checked as `inferry up` would check it."""

    name: str
    deployment: Deployment
    hidden_env: frozenset[str]
    """Names in its `env` whose values came from this process's environment: never to be shown."""
    threads: int
    """CPU threads that one replica would get on this machine."""
    notes: tuple[str, ...] = ()


def choose_from_file(path: Path, name: str | None, environ: Mapping[str, str]) -> Choice:
    """The deployment called `name` in a file; without a name, its only one. Raises ConfigError."""
    loaded = load_file(path, environ)
    names = list(loaded.config.deployments)
    if name is None and len(names) > 1:
        raise ConfigError(f"{path} has several deployments: say which one: {', '.join(names)}")
    chosen = names[0] if name is None else name
    if chosen not in loaded.config.deployments:
        raise ConfigError(f"{path} has no deployment '{chosen}'.{did_you_mean(chosen, names)}")
    return choose_loaded(loaded, chosen)


def choose_loaded(loaded: LoadedFile, name: str) -> Choice:
    """The deployment called `name`, which is in the file. Raises ConfigError."""
    return _choice(loaded, name, ())


def choose_from_options(
    engine: str,
    name: str | None,
    options: Mapping[str, Any],
    preset: Preset | None,
    settings: Sequence[str],
    *,
    in_container: bool,
) -> Choice:
    """A deployment of `engine`: the preset's keys, over them the options, over them `key=value` settings.

    `in_container`: also keys that only a program outside Inferry takes are good for an engine that is embedded.
    Raises ConfigError that names the option or key, as the file's own checks do.
    """
    if engine not in ENGINE_TYPES:
        raise ConfigError(f"There is no engine '{engine}'.{did_you_mean(engine, ENGINE_TYPES)}")
    if not issubclass(ENGINE_TYPES[engine], ManagedBase):
        raise ConfigError(f"{engine} is run by others: there is no command to start it.")
    tree: dict[str, Any] = {"engine": engine}
    notes = []
    if preset is not None:
        for each in preset_settings(preset, engine):
            tree[each.key] = each.value
            notes.append(f"{preset}: {each.key}: {shown_value(each.value)}  # {each.because}")
    given = {key: value for key, value in options.items() if value is not None}
    if "model" in given and engine in ORDER and engine != "ollama":
        given["model"] = model_source(str(given["model"]))
    tree |= given
    for setting in settings:
        _set(tree, setting)
    if engine == "llamacpp" and in_container:
        tree.setdefault("binary", "llama-server")
    if "model" not in tree and ENGINE_TYPES[engine].model_fields["model"].is_required():
        raise ConfigError(
            f"Say which model, as in: inferry engines command {engine} {_MODELS.get(engine, _MODEL)}"
        )
    chosen = name or engine
    text = yaml.safe_dump({"deployments": {chosen: tree}}, sort_keys=False)
    try:
        loaded = parse_text(text, _OPTIONS, os.environ)
    except ConfigError as error:
        lines = [re.sub(rf"^{_OPTIONS}:\d+: ", "", line) for line in error.message.splitlines()]
        raise ConfigError("\n".join(lines)) from error
    return _choice(loaded, chosen, tuple(notes))


def model_source(text: str) -> str:
    """A model as people write it on a command line: `org/name`, a path, or a source as in the file."""
    if _SCHEME.match(text):
        return text
    if text.startswith(("/", ".", "~")) or Path(text).exists():
        return f"file:{Path(text).expanduser().absolute()}"
    return f"hf:{text}" if _HUB_NAME.fullmatch(text) else text


def _set(tree: dict[str, Any], setting: str) -> None:
    """`key=value`, the value as YAML has it; dots lead into groups: `speculative.method=ngram`."""
    path, equals, value = setting.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {setting}: write key=value, as in parallel=64 or speculative.method=ngram")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting}: the value is no YAML: {error}") from error
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {setting}: '{key}' is no group of keys")
    tree[keys[-1]] = parsed


def _choice(loaded: LoadedFile, name: str, notes: tuple[str, ...]) -> Choice:
    deployments = loaded.config.deployments
    at = ("deployments", name, "env")
    hidden = {path[3] for path in loaded.references if path[:3] == at and len(path) > 3}
    plans = [
        DeploymentPlan(each, deployment, adapter_for(each, deployment), None)
        for each, deployment in deployments.items()
    ]
    threads = share_threads(plans, cores_available())[name]
    return Choice(name, deployments[name], frozenset(map(str, hidden)), threads, notes)
