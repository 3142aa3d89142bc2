"""`inferry scale`: another number of replicas, by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, client_of, show


def scale(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its name in the file.")],
    replicas: Annotated[int, typer.Argument(metavar="N", min=1, max=256, help="How many it shall have.")],
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Give a deployment another number of replicas; it holds until the file says another one than now."""
    show(client_of(port).scale(deployment, replicas), as_json)
