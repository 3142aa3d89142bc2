"""`inferry drain` and `inferry undrain`: take replicas out without losing a request, and bring them back."""

from __future__ import annotations

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, Grace, Target, client_of, show


def drain(
    target: Target,
    grace: Grace = None,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """No new requests; those under way finish, or go on at other replicas after the grace; then the engine ends."""
    show(client_of(port).drain(target, grace), as_json)


def undrain(target: Target, port: Port = None, as_json: AsJson = False) -> None:
    """Start new replicas in the places of drained ones."""
    show(client_of(port).undrain(target), as_json)
