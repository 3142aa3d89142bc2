"""An API key as everybody but its owner sees it, and the caller that it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from inferry.core.limits import Limits, Priority

Scope = Literal["inference", "admin", "read-only"]
ANONYMOUS = "anonymous"
"""The tenant of all requests where no keys are asked for."""
SHADOW = "shadow"
"""The tenant of copies of requests: see gateway/shadow.py."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key without its text: that is shown once, and only `digest` is kept."""

    id: str
    """Public, for commands and records: `key_...`."""
    prefix: str
    """The first part of the key's text, by which it is found; not secret."""
    digest: bytes = field(repr=False)
    """SHA-256 of the whole text. Keys are 256 random bits, so nothing slower is needed."""
    tenant: str
    name: str
    scopes: frozenset[Scope] = frozenset({"inference"})
    deployments: frozenset[str] | None = None
    """Names of the deployments that it may call; None: all."""
    limits: Limits = field(default_factory=lambda: Limits())
    priority: Priority = "normal"
    created_wall_s: float = 0.0
    expires_wall_s: float | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and what stands over it."""

    tenant: str
    key: ApiKey | None = None
    """None: no keys are asked for."""
    key_limits: Limits = field(default_factory=lambda: Limits())
    tenant_limits: Limits = field(default_factory=lambda: Limits())
    priority: Priority = "normal"

    @property
    def key_id(self) -> str | None:
        return None if self.key is None else self.key.id
