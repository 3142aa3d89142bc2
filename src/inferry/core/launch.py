"""What to run: the record that an engine adapter writes and a runtime carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferry.core.replica import Endpoint


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One engine process.

    Secrets go into `env` (never into `argv`, which every user of the machine can read), and so neither
    `env` nor `endpoint.headers` is in the repr or in a log line.
    """

    replica_id: str
    argv: tuple[str, ...]
    endpoint: Endpoint
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the environment of the parent process."""
