"""What the planner answers: values with the parts they are made of, never a bare yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .setup import Setup


@dataclass(frozen=True, slots=True)
class Interval:
    """A prediction, and the range that holds the truth in `coverage` of the cases that it was checked on."""

    value: float
    low: float
    high: float
    coverage: float = 0.9


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where the memory of the fullest device of a replica goes, in bytes. `kv_tokens` is of the replica as its engine
    prints it; it is 0 where nothing is left."""

    total: int
    """What the driver reports."""
    budget: int
    """What the engine may use of it."""
    weights: int
    activations: int
    graphs: int
    """CUDA graphs."""
    runtime: int
    """The engine's own context, kernels and communication buffers."""
    state: int
    """Constant state per sequence (linear layers, sliding windows) at `max_sequences`."""
    kv: int
    """What is left for the KV cache; negative where weights alone are too much."""
    kv_bytes_per_token: float
    """On this device. For hybrid models: of a token beyond every window."""
    kv_tokens: int
    setup: Setup
    graphs_in_budget: bool = True


@dataclass(frozen=True, slots=True)
class Fits:
    memory: MemoryPlan
    longest_context_tokens: int
    """The longest one sequence that the cache holds, at most what the model was made for."""
    sequences: float
    """How many sequences of the asked length it holds at once."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WayOut:
    """A change with which it does fit; `memory` is the planner's own check of that."""

    words: str
    setup: Setup
    device_name: str
    memory: MemoryPlan


@dataclass(frozen=True, slots=True)
class DoesNotFit:
    memory: MemoryPlan
    short_bytes: int
    """Per device."""
    because: str
    ways_out: tuple[WayOut, ...]


MemoryAnswer: TypeAlias = Fits | DoesNotFit


@dataclass(frozen=True, slots=True)
class Performance:
    """One replica under one load. Times in ms, rates of the whole replica."""

    ttft_ms: Interval
    itl_ms: Interval
    """Mean time between two tokens of one stream (TPOT)."""
    output_tokens_per_s: Interval
    requests_per_s: Interval
    running: float
    """Sequences that decode at once in steady state."""
    queued: float
    limited_by: str
    """In words: KV cache, max_num_seqs, compute, bandwidth, arrivals."""
    parts_ms: Mapping[str, float]
    """What one decode step is made of, by cause; their sum is the step."""
    ttft_wait_ms: float = 0.0
    """Of `ttft_ms`, the mean wait behind the prompts of others: the part that differs from request to request."""
    prefill_busy: float = 0.0
    """Share of the time that prefills take, in an open loop; 0 for the other loads."""
