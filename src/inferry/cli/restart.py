"""`inferry restart`: new engines in the places of old ones, without losing a request."""

from __future__ import annotations

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, Target, client_of, show


def restart(target: Target, port: Port = None, as_json: AsJson = False) -> None:
    """Replace a replica, or all of a deployment one after the other, by new ones of the same version."""
    show(client_of(port).restart(target), as_json)
