"""`inferry restart`: new engines in the places of old ones, without losing a request."""

from __future__ import annotations

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, Grace, Target, client_of, show
from inferry.cli.rollout_steps import by_hand, showing_steps


def restart(target: Target, grace: Grace = None, port: Port = None, as_json: AsJson = False) -> None:
    """Replace a replica, or all of a deployment one after the other, by new ones of the same version."""
    client = client_of(port)
    with showing_steps(client, by_hand("restart", target), as_json):
        done = client.restart(target, grace)
    show(done, as_json)
