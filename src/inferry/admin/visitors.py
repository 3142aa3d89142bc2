"""Who may come in to the control API over TCP, and what they may do there."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Protocol

from inferry.core.api_key import ApiKey
from inferry.core.clock import Clock
from inferry.core.errors import InvalidKey, MissingKey
from inferry.ledger.keyring import KeyRing, require_scope


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who showed a good credential."""

    name: str
    """For people: the key's tenant and name, never its text."""
    may_change: bool
    """False: just look."""
    key: ApiKey | None = None
    """By which they came in; None: by the token of `inferry dashboard`."""


class Door(Protocol):
    """Decides who comes in."""

    def enter(self, credential: bytes) -> Visitor:
        """Who that is. Raises Rejected."""
        ...

    def still_good(self, visitor: Visitor) -> bool:
        """Whether they would be let in again with what they came in by."""
        ...


class KeyDoor:
    """For keys with scope admin, or read-only just to look."""

    def __init__(self, keyring: KeyRing, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock

    def enter(self, credential: bytes) -> Visitor:
        """Raises MissingKey, InvalidKey, DisabledKey, ExpiredKey or WrongScope."""
        key = self._keyring.find(credential, self._clock.wall_s())
        if "read-only" not in key.scopes:
            require_scope(key, "admin")
        return Visitor(f"{key.tenant}/{key.name}", "admin" in key.scopes, key)

    def still_good(self, visitor: Visitor) -> bool:
        """A key that was revoked, disabled, rotated, that has expired, or whose scopes are others, is not."""
        key = visitor.key
        if key is None:
            return False
        now = self._keyring.keys().get(key.prefix.encode())
        return (
            now is not None
            and now.digest == key.digest
            and now.scopes == key.scopes
            and not now.disabled
            and (now.expires_wall_s is None or now.expires_wall_s > self._clock.wall_s())
        )


class TokenDoor:
    """For whoever was given one random token, which `inferry dashboard` shows on its own terminal."""

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def enter(self, credential: bytes) -> Visitor:
        """Raises MissingKey or InvalidKey."""
        if not credential:
            raise MissingKey("Open the address that 'inferry dashboard' printed: its end is the token.")
        if not hmac.compare_digest(hashlib.sha256(credential).digest(), self._digest):
            raise InvalidKey(
                "This is not the token of this 'inferry dashboard'. Open the address that it printed."
            )
        return Visitor("this machine", True)

    def still_good(self, visitor: Visitor) -> bool:
        """As long as this process lives."""
        return visitor.key is None
