"""What is different between two deployment files, and what it takes to get from one to the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, SecretStr

from inferry.core.config_file import KeyPath, LoadedFile
from inferry.core.deployment import Deployment
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.shown_url import shown_url

SHOWN_CHARS_MAX = 80
SHOWN_KEYS_MAX = 20

GATEWAY_SIDE_KEYS = frozenset({*ManagedBase.model_fields, "weights"} - {"endpoints", "api_key"})
"""Keys that no engine sees: what all deployments have, what keepers use, and how endpoints share the requests. All
others are an engine's."""

NEEDS_RESTART: tuple[KeyPath, ...] = (
    ("gateway", "listen"),
    ("gateway", "workers"),
    ("gateway", "shared_limits", "redis"),
    ("gateway", "shared_limits", "namespace"),
    ("gateway", "traces"),
    ("admin", "listen"),
    ("backup",),
    ("host", "fleet"),
    ("runtime",),
    ("ledger", "url"),
    ("ledger", "currency"),
)
"""What is opened or fixed at the start: sockets, processes, connections, the money that records are in."""

NEEDS_RESTART_ON_OFF: tuple[KeyPath, ...] = (("gateway", "tls"), ("admin", "tls"))
"""Sections that may change within, but not come or go."""


class Effect(StrEnum):
    """What a change does to a deployment."""

    ADDED = "added"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    LIVE = "changed"
    """Engines don't notice; replicas may be added or ended."""
    NEW_ENGINES = "new engines"
    """Every replica is replaced by a new one."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key, with both values as they may be printed: references as written, no secrets, not too long."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        if self.old == self.new:
            return f"{self.key}: {self.new} stands for another value now"
        return f"{self.key}: {self.old} -> {self.new}"


@dataclass(frozen=True, slots=True)
class DeploymentChange:
    name: str
    effect: Effect
    keys: tuple[KeyChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """All differences between two files."""

    deployments: tuple[DeploymentChange, ...]
    """In the new file's order, then the removed ones."""
    live: tuple[KeyChange, ...]
    """Keys outside deployments that can change while everything runs."""
    restart: tuple[KeyChange, ...]
    """Keys that can't: with any of them, nothing is applied."""

    @property
    def is_empty(self) -> bool:
        return (
            not self.live
            and not self.restart
            and all(each.effect is Effect.UNCHANGED for each in self.deployments)
        )

    def refusal(self) -> ConfigError | None:
        """Why this can't be applied to a running Inferry; None if it can."""
        if not self.restart:
            return None
        keys = "\n".join(f"  {each}" for each in self.restart)
        return ConfigError(
            f"Nothing was changed, because the running Inferry can't change this:\n{keys}\n"
            "Set it back to apply the rest now, or restart: inferry down, then inferry up."
        )

    def summary(self) -> list[str]:
        """Lines for people; at most SHOWN_KEYS_MAX keys for each deployment and for the rest."""
        lines: list[str] = []
        for each in self.deployments:
            if each.effect is Effect.UNCHANGED:
                continue
            lines.append(f"deployment {each.name}: {each.effect.value}")
            lines += [f"  {line}" for line in _shortened(each.keys)]
        lines += _shortened(self.live)
        lines += [f"{line} (needs a restart)" for line in _shortened(self.restart)]
        return lines or ["nothing changed"]


def compare(old: LoadedFile, new: LoadedFile) -> Change:
    """What must be done so that what `old` describes becomes what `new` describes."""
    live: list[KeyChange] = []
    restart: list[KeyChange] = []
    comparison = _Comparison(old, new)
    for name in type(new.config).model_fields:
        if name == "deployments":
            continue
        for at, change in comparison.differences((name,)):
            (restart if _needs_restart(at, old, new) else live).append(change)
    before, after = old.config.deployments, new.config.deployments
    deployments: list[DeploymentChange] = []
    for name, deployment in after.items():
        if name not in before:
            deployments.append(DeploymentChange(name, Effect.ADDED))
            continue
        keys = tuple(change for _, change in comparison.differences(("deployments", name)))
        effect = Effect.LIVE if keys else Effect.UNCHANGED
        if needs_new_engines(before[name], deployment):
            effect = Effect.NEW_ENGINES
        deployments.append(DeploymentChange(name, effect, keys))
    deployments += [DeploymentChange(name, Effect.REMOVED) for name in before if name not in after]
    return Change(tuple(deployments), tuple(live), tuple(restart))


def needs_new_engines(old: Deployment, new: Deployment) -> bool:
    """Whether replicas of `old` can't serve `new`: another engine, or a key that it sees is another."""
    if type(old) is not type(new):
        return True
    own = set(type(new).model_fields) - GATEWAY_SIDE_KEYS
    return any(getattr(old, name) != getattr(new, name) for name in own)


def _needs_restart(at: KeyPath, old: LoadedFile, new: LoadedFile) -> bool:
    if any(at[: len(key)] == key for key in NEEDS_RESTART):
        return True
    return at in NEEDS_RESTART_ON_OFF and (_value(old.config, at) is None) != (_value(new.config, at) is None)


class _Comparison:
    """Walks two files side by side."""

    def __init__(self, old: LoadedFile, new: LoadedFile) -> None:
        self._old = old
        self._new = new

    def differences(self, at: KeyPath) -> Iterator[tuple[KeyPath, KeyChange]]:
        """Every key at or below `at` whose values differ."""
        yield from self._walk(at, _value(self._old.config, at), _value(self._new.config, at))

    def _walk(self, at: KeyPath, old: Any, new: Any) -> Iterator[tuple[KeyPath, KeyChange]]:
        if old == new:
            return
        if isinstance(new, BaseModel) and type(old) is type(new):
            for name in type(new).model_fields:
                yield from self._walk((*at, name), getattr(old, name), getattr(new, name))
        elif isinstance(new, BaseModel) and isinstance(old, BaseModel) and hasattr(new, "engine"):
            # Another engine has other keys; that it is another says it all.
            yield from self._walk((*at, "engine"), getattr(old, "engine", None), new.engine)
        elif isinstance(new, dict) and isinstance(old, dict):
            for name in {**new, **old}:
                yield from self._walk((*at, name), old.get(name), new.get(name))
        else:
            shown = KeyChange(_dotted(at), _shown(old, at, self._old), _shown(new, at, self._new))
            yield at, shown


def _value(value: Any, at: KeyPath) -> Any:
    """What stands at `at`; None if nothing does."""
    for part in at:
        value = value.get(part) if isinstance(value, dict) else getattr(value, str(part))
        if value is None:
            return None
    return value


def _shown(value: Any, at: KeyPath, file: LoadedFile) -> str:
    if value is None:
        return "not given"
    text = _printable(value, at, file)
    text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[: SHOWN_CHARS_MAX - 3]}..."


def _printable(value: Any, at: KeyPath, file: LoadedFile) -> Any:
    """`value` for JSON, with references in place of what they stand for, and without secrets."""
    if at in file.references:
        return shown_url(file.references[at])
    if isinstance(value, SecretStr):
        return "(secret)"
    if isinstance(value, BaseModel):
        given = (name for name in type(value).model_fields if name in value.model_fields_set)
        return {name: _printable(getattr(value, name), (*at, name), file) for name in given}
    if isinstance(value, dict):
        return {name: _printable(item, (*at, name), file) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item, (*at, index), file) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float):
        return value
    return shown_url(str(value))


def _shortened(keys: tuple[KeyChange, ...]) -> list[str]:
    lines = [str(each) for each in keys[:SHOWN_KEYS_MAX]]
    if len(keys) > SHOWN_KEYS_MAX:
        lines.append(f"and {len(keys) - SHOWN_KEYS_MAX} keys more")
    return lines


def _dotted(at: KeyPath) -> str:
    return ".".join(str(part) for part in at)
