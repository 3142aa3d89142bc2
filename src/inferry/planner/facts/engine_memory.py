"""How engines divide memory: `engine_memory.json`, by engine and version."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Literal

import msgspec

from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean
from inferry.planner.setup import EngineName

Law = Literal["profiled", "fraction_of_available", "fraction_of_free", "reserved_contexts"]
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")
_GENERATION = re.compile(r"\bv([01])\b", re.IGNORECASE)


class EngineMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One engine over a range of versions. Bytes are peaks of one pass; see `activations.py` for the sums."""

    era: str
    generation: int
    """vLLM's V0 or V1; 0 for the others."""
    from_version: str = msgspec.field(name="from")
    law: Law
    fraction: float
    """The default."""
    fraction_rule: Literal["", "by_tensor_parallel", "by_memory", "by_step"] = ""
    block_tokens: int
    windows_as_full: bool
    graphs_in_budget: bool
    sequences_small: int
    sequences_large: int
    """Default of sequences at once, for GPUs below and from 70 GiB."""
    context_tokens: int | None = None
    """Default context; None: the model's own."""
    batched_tokens: Literal["whole_context", "by_memory", "fixed"]
    batched_tokens_small: int = 0
    batched_tokens_large: int = 0
    chunked_default_tokens: int = 0
    chunked_above_tokens: int = 0
    """Contexts longer than that are prefilled in chunks unless told (vLLM V0)."""
    sampler_bytes: float = 0.0
    """Per sequence and entry of the vocabulary."""
    sampler_held_bytes: float = 0.0
    """Per batched token and hidden column, kept while the sampler runs."""
    vision_pass_bytes: float = 0.0
    """Per patch and column of the tower, in its own pass."""
    vision_patch_bytes: float = 0.0
    """Per patch and column of the tower, in a step that is full of images."""
    hybrid_tokens: Literal["concurrency", "pools"] = "concurrency"
    """What is printed where layers differ in what they keep: sequences of the longest length x that length, or blocks of
    a pool that all kinds of layers share (see `kv_cache.py`)."""
    linear_hybrid_factor: float = 1.0
    """By concurrency: what a token takes where some layers are linear, against its full layers alone."""
    hidden_bytes: float = 0.0
    """Per batched token and hidden column, at the peak of a layer."""
    mlp_bytes: float = 0.0
    """Per batched token and MLP column of the device, at the peak of a layer."""
    reduced_held: bool = False
    """All inputs of all-reduces are kept until a pass ends, two per layer (vLLM 0.2.5)."""
    experts_held: bool = False
    """The routed experts' workspace is still there while the sampler runs."""
    logits_for_batch: bool = False
    """Logits for each token of a batch, not one per sequence."""
    runtime_gib: float
    runtime_parallel_gib: float
    """With more than one GPU: communication buffers too."""
    runtime_many_gib: float | None = None
    """With more than four."""
    runtime_fused_gib: float | None = None
    """With more than one GPU of compute capability 9.0 or more, whose all-reduce is fused."""
    runtime_host_gib: float | None = None
    """On a CPU or an Apple chip: the program itself."""
    runtime_nodes_gib: float
    """With more GPUs than a host has."""
    runtime_amd_gib: float | None = None
    """On AMD, where it was seen to differ."""
    load_slack: dict[str, float] = {}
    """By weight format: share of the weights that loading leaves unusable."""
    load_slack_amd: float = 0.0
    """The same of FP8 at least, on AMD."""
    lean_gib: float
    """What is held back so that memory that isn't there is not promised, but never more than `lean_share` of the cache."""
    lean_share: float
    source: str


class GraphMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vllm_gib: float
    vllm_per_layer_gib: float
    source: str


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a constant comes from starts that were also scored: what each model's starts alone would make it."""

    engine: EngineName
    eras: tuple[str, ...]
    constant: str
    """A field of `EngineMemory`, or `load_slack.` and a weight format."""
    rule: Literal["max", "min"]
    prior: float
    """Its value if there were no such start."""
    estimates: dict[str, float]
    printed: str
    """What was printed, and where."""

    def without(self, model: str) -> float:
        """The value that the other models make it; `model`: any name that contains a key of `estimates`."""
        left = [value for name, value in self.estimates.items() if name not in model.lower()]
        if not left:
            return self.prior
        return max(left) if self.rule == "max" else min(left)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: str
    engines: dict[str, tuple[EngineMemory, ...]]
    graphs: GraphMemory
    fits: tuple[Fit, ...]


def find_engine_memory(engine: EngineName, version: str | None) -> EngineMemory:
    """The era of that version, such as `0.8.3`, `0.8.3 (V0)` or `0.4.6.post2`; None: the newest. Raises `ConfigError`."""
    eras = _file().engines.get(engine)
    if eras is None:
        raise ConfigError(
            f"engine: '{engine}' is not one that the planner knows.{did_you_mean(engine, _file().engines)}"
        )
    if version is None:
        return eras[-1]
    told = _GENERATION.search(version)
    # The default became V1 with 0.8.0 (release notes); both were there from 0.7 on.
    number = version_number(version)
    generation = int(told[1]) if told else int(number >= (0, 8))
    alike = [era for era in eras if era.generation == generation] or list(eras)
    reached = [era for era in alike if version_number(era.from_version) <= number]
    return (reached or alike[:1])[-1]


def graph_memory() -> GraphMemory:
    return _file().graphs


def without_model(engine: EngineName, facts: EngineMemory, model: str) -> EngineMemory:
    """The constants as they were if no start of `model` had been seen."""
    changed: dict[str, float | dict[str, float]] = {}
    slack = dict(facts.load_slack)
    for fit in _file().fits:
        if fit.engine != engine or facts.era not in fit.eras:
            continue
        name, _, key = fit.constant.partition(".")
        if key:
            slack[key] = fit.without(model)
            changed[name] = slack
        else:
            changed[name] = fit.without(model)
    return msgspec.structs.replace(facts, **changed)


def known_fits() -> tuple[Fit, ...]:
    return _file().fits


def known_engines() -> dict[str, tuple[EngineMemory, ...]]:
    """All eras by engine, oldest first."""
    return dict(_file().engines)


def version_number(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with; a text without numbers counts as newest."""
    found = _NUMBERS.search(version)
    return tuple(int(part) for part in found[0].split(".")) if found else (10**6,)


@functools.cache
def _file() -> _File:
    text = resources.files("inferry.planner.facts").joinpath("engine_memory.json").read_bytes()
    return msgspec.json.decode(text, type=_File)
