"""A replica: one running engine that serves one model. Its states, and what others may see of it.

state      who moves it there                               takes new requests
pending    the fleet: wanted, not started                   no
starting   the fleet: process runs, not answering yet       no
warming    the fleet: answers, first tokens on their way    no
ready      the fleet: a real probe passed                   yes
suspect    the fleet: probes or requests fail               only when none is ready
draining   the fleet: finishes what it has                  no
stopped    the fleet: ended as wished                       no
failed     the fleet: ended by itself, or gave up           no
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ReplicaState(StrEnum):
    PENDING = "pending"
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    SUSPECT = "suspect"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class HealthVerdict(StrEnum):
    """What an engine's signs of life say; policy/health.py has the table."""

    OK = "ok"
    BUSY = "busy"
    """It has more than it can do at once, and gets on with it."""
    STUCK = "stuck"
    """Its process is there, and does nothing."""
    DEAD = "dead"
    """Nobody is there, or it says itself that it can't go on."""


_S = ReplicaState

# From each state, the states it may go to. `failed` is reachable from any live state: engines die at any
# moment. `pending` is where a restart begins.
TRANSITIONS: dict[ReplicaState, frozenset[ReplicaState]] = {
    _S.PENDING: frozenset({_S.STARTING, _S.STOPPED, _S.FAILED}),
    _S.STARTING: frozenset({_S.WARMING, _S.DRAINING, _S.STOPPED, _S.FAILED}),
    _S.WARMING: frozenset({_S.READY, _S.DRAINING, _S.STOPPED, _S.FAILED}),
    _S.READY: frozenset({_S.SUSPECT, _S.DRAINING, _S.STOPPED, _S.FAILED}),
    _S.SUSPECT: frozenset({_S.READY, _S.DRAINING, _S.STOPPED, _S.FAILED}),
    _S.DRAINING: frozenset({_S.STOPPED, _S.FAILED}),
    _S.STOPPED: frozenset({_S.PENDING}),
    _S.FAILED: frozenset({_S.PENDING, _S.STOPPED}),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a replica listens, and what must be sent with each request to be let in.

    `base_path` is put before the route's path below `/v1`: `` for `http://h:1/v1`, `/proxy` for
    `http://h:1/proxy/v1`. `headers` may hold a secret and is therefore left out of the repr.

    In Azure's classic API, `POST /v1/chat/completions` goes to
    `/openai/deployments/NAME/chat/completions?api-version=VERSION`: `root` stands where routes have `/v1`, and
    `query` behind every path.
    """

    host: str
    port: int
    tls: bool = False
    base_path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    root: str = "/v1"
    query: str = ""

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8101`, without `/v1` and without secrets."""
        return f"{self._origin}{self.base_path}"

    def target(self, path: str) -> str:
        """What to ask this endpoint for, to get `path`, a route's or a page's: `/proxy/v1/models`."""
        if path.startswith("/v1/"):
            path = f"{self.root}{path.removeprefix('/v1')}"
        query = f"?{self.query}" if self.query else ""
        return f"{self.base_path}{path}{query}"

    def address(self, path: str) -> str:
        """The same as a whole URL."""
        return f"{self._origin}{self.target(path)}"

    @property
    def _origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Endpoint({self.url})"


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What the gateway, the CLI and the dashboard may know of a replica at one moment."""

    id: str
    deployment: str
    engine: str
    simulated: bool
    state: ReplicaState
    endpoint: Endpoint | None
    since_wall_s: float
    restarts: int
    pid: int | None = None
    weight: float = 1.0
    message: str = ""
    log_path: str | None = None
    tokens_generated: int | None = None
    """The engine's own counter of generated tokens, where it has one; falls back to 0 at a restart."""
    tokens_prompt: int | None = None
    """The same of prompts, cached tokens included."""
    started_wall_s: float | None = None
    """When this engine process was started; None: it was not, or not by us."""
    counted_wall_s: float | None = None
    """When the engine was last asked for these counters; None: it never was, or has none."""
    verdict: HealthVerdict | None = None
    """Of its engine; None while there is none to judge."""
    standby: bool = False
    """It is kept warm for when another one is missed, and gets no requests until then."""
    drained: bool = False
    """Taken out by hand: nothing is started in its place until somebody brings it back."""


@dataclass(frozen=True, slots=True)
class ReplicaProgress:
    """What one gateway process sees of a replica at which it has requests, when it says so."""

    waiting: int
    """Requests that wait for the engine, and not for a slow client."""
    streams: int
    """Those of them whose answer is a stream that has begun."""
    heard_s: float | None
    """Seconds since anything last came from it for any request; None: nothing came yet."""


@dataclass(frozen=True, slots=True)
class GpuPower:
    """What one GPU draws. It is the GPU's, whoever computes there: of a GPU that several share, each is told all of it."""

    gpu: int
    """NVML's number of it, on this machine."""
    power_w: float | None
    """None: it does not tell."""
    users: int
    """Process groups that compute on it, known to be replicas or not."""


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What an engine and its GPU told of their load; None where they don't tell. Advice, and aging."""

    replica_id: str
    read_s: float
    """When they were asked; on the monotonic clock, which all processes of this machine share."""
    running: int | None = None
    waiting: int | None = None
    kv_cache_use: float | None = None
    """0 to 1."""
    gpu_use: float | None = None
    """Share of the time in which its GPU computed anything, 0 to 1; of several GPUs, the busiest."""
    gpu_memory_use: float | None = None
    """0 to 1; of several GPUs, the fullest."""
    prefix_query_tokens: int | None = None
    """Prompt tokens that were looked up in the engine's prefix cache; counter."""
    prefix_hit_tokens: int | None = None
    """Those that it had; counter."""
    preemptions: int | None = None
    """Requests put back for want of KV cache; counter."""
    gpus: tuple[GpuPower, ...] = ()
    """Those on which it computes; empty where nobody tells, and in what gateways hear: they don't route by it."""
    own: Mapping[str, float] = field(default_factory=dict)
    """The engine's own metrics that scaling rules name; empty in what gateways hear, for the same reason."""
