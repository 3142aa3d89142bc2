"""What the control process and its gateway processes tell each other. Plain data; see link.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inferry.core.api_key import ApiKey
from inferry.core.gateway_settings import Gateway, Tenant
from inferry.core.leases import Return, Wish
from inferry.core.public_names import PublicName
from inferry.core.replica import ReplicaLoad, ReplicaProgress, ReplicaView
from inferry.gateway.served import ServedSpec

PREPARE_TIMEOUT_S = 120.0
"""For the reply to Prepare: a filter of a million terms is compiled in some 10 s, longer while requests are served."""

# --- from the control process -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a deployment file means to a gateway."""

    generation: int
    settings: Gateway
    tenants: Mapping[str, Tenant]
    served: Sequence[ServedSpec]
    names: Mapping[str, PublicName] = field(default_factory=dict)
    """Those over several deployments."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message: everything that a new gateway process needs."""

    name: str
    """`gateway-0`; also the name of its journal."""
    configuration: Configuration
    keys: Sequence[ApiKey]
    views: Sequence[ReplicaView]
    workers: int
    """How many gateway processes share the load."""
    log_path: Path
    journal_folder: Path
    adapters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """As in AdaptersChanged."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Get ready to serve by this. The reply is a problem in words, or None."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Commit:
    """Serve by what was prepared; the reply is None."""

    generation: int


@dataclass(frozen=True, slots=True)
class KeysChanged:
    put: Sequence[ApiKey]
    """New ones, and those that are different, as they are now."""
    gone: Sequence[str]
    """Prefixes of those that are no more."""


@dataclass(frozen=True, slots=True)
class AdaptersChanged:
    """All LoRA adapters that engines loaded while they run: by deployment, what its engine wants as `model`, by what
    clients send."""

    adapters: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class ReplicaGone:
    """A replica is no more."""

    replica_id: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Requests at this replica go on at others, where there are any that can take them: it hangs, or must go."""

    replica_id: str
    because: str


@dataclass(frozen=True, slots=True)
class ReplicaLoads:
    """What engines and GPUs tell of their load, where it is new."""

    loads: Sequence[ReplicaLoad]


@dataclass(frozen=True, slots=True)
class SnapshotWanted:
    """The reply is a Snapshot."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing new, finish what runs (or cut it), and end."""

    at_once: bool


# --- from a gateway process ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """It accepts connections."""


@dataclass(frozen=True, slots=True)
class ReplicaFailed:
    replica_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What it sees of the replicas at which it has requests. Said twice a second while there are any, and once more."""

    replicas: Mapping[str, ReplicaProgress]


@dataclass(frozen=True, slots=True)
class LoadWanted:
    """Requests wait for the model of a deployment that loads on demand. Said again each second; LoadNews come back."""

    deployment: str


@dataclass(frozen=True, slots=True)
class MetricsWanted:
    """Somebody scrapes; the reply is the page over all gateway processes."""


@dataclass(frozen=True, slots=True)
class LeasesWanted:
    """The reply is the grants."""

    wishes: Sequence[Wish]
    returns: Sequence[Return]
