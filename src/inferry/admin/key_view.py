"""A key as programs see it: the control API's answer, and what `--json` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from inferry.core.api_key import ApiKey, Scope
from inferry.core.clock import utc_text
from inferry.core.limits import Priority

KeyState = Literal["active", "disabled", "expired"]


class KeyView(BaseModel):
    """One key without its text."""

    id: str
    tenant: str
    name: str
    state: KeyState
    prefix: str = Field(description="The first part of its text, by which its owner can recognise it.")
    scopes: list[Scope]
    deployments: list[str] | None = Field(description="Those that it may call; null: all.")
    limits: dict[str, int | float] = Field(description="Those that are set.")
    priority: Priority
    created_at: str = Field(description="UTC.")
    expires_at: str | None = Field(description="UTC; null: never.")


class NewKeyView(KeyView):
    """A key that was just made or rotated, with its text."""

    key: str = Field(repr=False, description="The text. It is shown this once.")


def key_state(key: ApiKey, now_wall_s: float) -> KeyState:
    """Disabled goes before expired: that is what somebody decided."""
    if key.disabled:
        return "disabled"
    if key.expires_wall_s is not None and key.expires_wall_s <= now_wall_s:
        return "expired"
    return "active"


def view_key(key: ApiKey, now_wall_s: float) -> KeyView:
    """The key for programs; its state is that of `now_wall_s`."""
    return KeyView(
        id=key.id,
        tenant=key.tenant,
        name=key.name,
        state=key_state(key, now_wall_s),
        prefix=key.prefix,
        scopes=sorted(key.scopes),
        deployments=None if key.deployments is None else sorted(key.deployments),
        limits=key.limits.model_dump(exclude_none=True),
        priority=key.priority,
        created_at=utc_text(key.created_wall_s),
        expires_at=None if key.expires_wall_s is None else utc_text(key.expires_wall_s),
    )


def view_new_key(key: ApiKey, text: str, now_wall_s: float) -> NewKeyView:
    """The same with the text that nobody sees again."""
    return NewKeyView(**view_key(key, now_wall_s).model_dump(), key=text)
