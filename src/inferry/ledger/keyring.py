"""Whose key is it? The look-up that every request goes through: in memory, about a microsecond, never blocking.

Found by the part of the text that is no secret, then compared with hmac.compare_digest. Where nothing is found, a
digest that nothing has is compared instead, so that the time taken does not tell which prefixes exist.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from inferry.core.api_key import ApiKey, Scope
from inferry.core.clock import utc_text
from inferry.core.errors import (
    DeploymentNotAllowed,
    DisabledKey,
    ExpiredKey,
    InvalidKey,
    MissingKey,
    Rejected,
    WrongScope,
)
from inferry.ledger.key_text import PREFIX_CHARS, is_well_formed

_NOBODY = ApiKey(id="", prefix="", digest=bytes(32), tenant="", name="")
_SHOWN_CHARS = 8
_SHOWN_FROM_CHARS = 24
"""Of a shorter credential, eight characters would be too much of it."""

_sha256, _same = hashlib.sha256, hmac.compare_digest


def credential_of(authorization: bytes | None, x_api_key: bytes | None) -> bytes:
    """The key in `x-api-key`, else the one in `Authorization: Bearer`; empty if there is none.

    `x-api-key` goes first: where both come, `Authorization` may be meant for a proxy on the way.
    """
    if x_api_key is not None and (key := x_api_key.strip()):
        return key
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip()
    return b""


class KeyRing:
    """The keys that are valid now, by prefix. Owned by one event loop."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._by_prefix: dict[bytes, ApiKey] = {}
        self.replace(keys)

    def __len__(self) -> int:
        return len(self._by_prefix)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """From now on these and no others."""
        self._by_prefix = {key.prefix.encode(): key for key in keys}

    def change(self, put: Iterable[ApiKey], gone: Iterable[str]) -> None:
        """From now on these too, in place of those with the same prefix; and no more the ones with the prefixes `gone`."""
        for prefix in gone:
            self._by_prefix.pop(prefix.encode(), None)
        for key in put:
            self._by_prefix[key.prefix.encode()] = key

    def keys(self) -> Mapping[bytes, ApiKey]:
        """All of them, by prefix."""
        return self._by_prefix

    def find(self, credential: bytes, now_wall_s: float) -> ApiKey:
        """The key whose text is `credential`; MissingKey, InvalidKey, DisabledKey or ExpiredKey if it is no good."""
        key = self._by_prefix.get(credential[:PREFIX_CHARS], _NOBODY)
        if not _same(_sha256(credential).digest(), key.digest) or key is _NOBODY:
            raise _refusal(credential)
        if key.disabled:
            raise DisabledKey(f"The API key {key.prefix}... is disabled. Ask who gave it to you.")
        if key.expires_wall_s is not None and key.expires_wall_s <= now_wall_s:
            raise ExpiredKey(
                f"The API key {key.prefix}... expired at {utc_text(key.expires_wall_s)}. Ask for a new one."
            )
        return key


def require_scope(key: ApiKey, scope: Scope) -> None:
    """WrongScope unless the key is for that."""
    if scope not in key.scopes:
        has = " and ".join(sorted(key.scopes))
        raise WrongScope(f"The API key {key.prefix}... is for {has}; this needs one with scope {scope}.")


def require_deployment(key: ApiKey, deployment: str) -> None:
    """DeploymentNotAllowed unless the key may call it."""
    if key.deployments is not None and deployment not in key.deployments:
        raise DeploymentNotAllowed(
            f"The API key {key.prefix}... may not call '{deployment}'. It may call: "
            f"{', '.join(sorted(key.deployments))}.",
            param="model",
        )


def _refusal(credential: bytes) -> Rejected:
    if not credential:
        return MissingKey("This needs an API key: send 'Authorization: Bearer KEY', or 'x-api-key: KEY'.")
    text = credential.decode("ascii", "replace")
    start = text[:_SHOWN_CHARS]
    shown = (
        f" {start}..." if len(text) >= _SHOWN_FROM_CHARS and start.isascii() and start.isprintable() else ""
    )
    if is_well_formed(text):
        return InvalidKey(f"The API key{shown} is not known here. It may have been rotated or removed.")
    return InvalidKey(f"The API key{shown} is none of ours, or mistyped or cut: its checksum does not fit.")
