"""What an engine adapter tells the rest of the house. One contract suite runs over every adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from inferry.core.launch import CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
from inferry.core.replica import Endpoint
from inferry.engines.continuation import Continuation


class Verdict(StrEnum):
    """What one probe of a replica says."""

    LOADING = "loading"
    """It answers, but can't serve yet."""
    READY = "ready"
    BUSY = "busy"
    """It serves and says that it takes no more now: as alive as can be."""
    UNWELL = "unwell"
    """It answers, and says that something is wrong."""


@dataclass(frozen=True, slots=True)
class ProbeReading:
    verdict: Verdict
    reason: str
    """In words an operator can read."""


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """An engine's own figures under our names; None where the engine does not tell."""

    running: int | None = None
    waiting: int | None = None
    tokens_generated: int | None = None
    """Counter since the process started."""
    tokens_prompt: int | None = None
    """The same of prompts, with the tokens that a cache knew."""
    kv_cache_use: float | None = None
    """0 to 1."""
    prefix_query_tokens: int | None = None
    """Prompt tokens that were looked up in the prefix cache; counter."""
    prefix_hit_tokens: int | None = None
    """Those that it had; counter."""
    preemptions: int | None = None
    """Requests put back for want of KV cache; counter."""
    ttft_count: int | None = None
    ttft_sum_s: float | None = None
    """Of the engine's own histogram of times to first token."""
    gpu_use: float | None = None
    """0 to 1, where the engine itself knows: a simulated one."""
    own: Mapping[str, float] = field(default_factory=dict)
    """Others that were asked for, by the engine's names."""


@dataclass(frozen=True, slots=True)
class WarmupRequest:
    """A request that must succeed before a replica is called ready."""

    path: str
    body: bytes
    timeout_s: float = 120.0
    says: str = ""
    """What it does, for people who wait; empty: nothing that takes long."""
    if_missing: WarmupRequest | None = None
    """Sent once where the answer is 404, before the same again: it brings what is not there yet."""


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What an adapter needs to know of the place where a replica will run."""

    replica_id: str
    host: str
    port: int
    model_path: Path | None
    """The local file or folder of the model; None for engines without weights."""
    served_name: str
    """The name that requests carry as `model`: the deployment's."""
    threads: int
    secret: str = field(repr=False)
    """A random key for this process, so that nothing but the gateway can use its port."""
    folder: Path = Path("/nonexistent")
    """For this replica's `LaunchSpec.files`; made by the runtime when there are any."""
    gpu_seat: int = 0
    """Its place among the replicas of its deployment that have GPUs of their own."""


@dataclass(frozen=True, slots=True)
class ExitReading:
    """What the end of an engine process means."""

    retryable: bool
    message: str


class EngineAdapter(Protocol):
    """Describes one engine, for one deployment. Pure: no I/O in any method."""

    @property
    def engine(self) -> str: ...

    @property
    def simulated(self) -> bool: ...

    @property
    def routes(self) -> frozenset[str]:
        """Paths (of core.request.ROUTES) that this engine serves."""

    @property
    def served_name(self) -> str:
        """What this engine wants as `model` in a request."""

    @property
    def reports_stream_usage(self) -> bool:
        """Whether `stream_options.include_usage` may safely be added to a streamed request."""

    @property
    def tokenize_field(self) -> str | None:
        """Where its /tokenize reads the text: `content` or `prompt`; None: it has none, or nobody knows."""

    @property
    def continuation(self) -> Continuation:
        """Whether and how it goes on with an answer that another replica began."""

    @property
    def probe_path(self) -> str: ...

    @property
    def metrics_path(self) -> str | None: ...

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        """One after the other, each until it succeeds, between the first good probe and ready."""

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        """What an answer to GET `probe_path` says."""

    def read_metrics(self, page: str) -> EngineMetrics:
        """Our names for what a metrics page holds; unknown or broken lines are passed over."""

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        """Why the process ended, and whether starting it again may help. `code` < 0 is a signal."""


@runtime_checkable
class LaunchableAdapter(EngineAdapter, Protocol):
    """An adapter of an engine that we start ourselves."""

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        """The process to run. `environ` is ours, for looking things up, not for copying.

        Raises ConfigError when it can't be run here at all (no such binary, extra not installed).
        """


@runtime_checkable
class CommandAdapter(LaunchableAdapter, Protocol):
    """An adapter of an engine with a command line of its own, for processes, containers and pods alike."""

    @property
    def version(self) -> str:
        """What the flags are for."""

    def command(self, place: CommandPlace) -> EngineCommand:
        """Raises ConfigError for what this version can't do, extra arguments that it doesn't know among it."""

    def container(self) -> ContainerNeeds: ...


@runtime_checkable
class RemoteAdapter(EngineAdapter, Protocol):
    """An adapter of engines that others run."""

    def endpoints(self) -> Sequence[Endpoint]: ...
