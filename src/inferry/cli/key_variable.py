"""A key that a person puts into the environment, for a service that they ask: never shown, also not where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping

from inferry.core.errors import ConfigError

_FITS_IN_A_HEADER = re.compile(r"[!-~]+")


def bearer_headers(environ: Mapping[str, str], variable: str) -> dict[str, str]:
    """The header that carries the key in `variable`; empty without one. Raises ConfigError that has nothing of the key."""
    key = environ.get(variable, "").strip()
    if not key:
        return {}
    if not _FITS_IN_A_HEADER.fullmatch(key):
        raise ConfigError(
            f"The key in the environment variable {variable} holds a space, a line break or a sign that no HTTP header "
            "can carry. Set it anew."
        )
    return {"authorization": f"Bearer {key}"}
