"""Starts of engines as a table of public logs tells them, and what of each is enough to plan it."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmarks.planner_scores import LeftOut
from inferry.core.errors import ConfigError
from inferry.planner.architecture import Architecture, WeightFormat
from inferry.planner.device import Device
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.engine_memory import find_engine_memory
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.kv_cache import is_hybrid, kv_bytes_per_token
from inferry.planner.limits import limits_of
from inferry.planner.setup import EngineName, KvFormat, Setup
from inferry.planner.weights import weight_bytes

GIB = 2**30
Word = TypeVar("Word")
ENGINES: dict[str, EngineName] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt-llm": "tensorrt_llm",
    "tensorrt_llm": "tensorrt_llm",
    "tgi": "tgi",
    "llama.cpp": "llamacpp",
    "llamacpp": "llamacpp",
    "ollama": "ollama",
}
WEIGHTS: tuple[tuple[str, WeightFormat], ...] = (
    ("nvfp4", "nvfp4"),
    ("mxfp4", "mxfp4"),
    ("bitsandbytes-8", "int8"),
    ("bnb-8", "int8"),
    ("bitsandbytes", "bnb4"),
    ("bnb", "bnb4"),
    ("gptq-int8", "int8"),
    ("gptq-8", "int8"),
    ("awq", "awq"),
    ("gptq", "gptq"),
    ("w8a8-int8", "int8"),
    ("int8", "int8"),
    ("int4", "int4"),
    ("w4a16", "int4"),
    ("fp8", "fp8"),
    ("w8a8", "int8"),
    ("gguf", "gguf"),
    ("q4_", "gguf"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("fp16", "fp16"),
    ("float16", "fp16"),
    ("half", "fp16"),
    ("fp32", "fp32"),
    ("float32", "fp32"),
)
"""By the first that a row's words contain."""

RELEASED: dict[EngineName, tuple[tuple[str, str], ...]] = {
    "vllm": (
        ("2023-09", "0.2"),
        ("2024-01", "0.3"),
        ("2024-03", "0.4"),
        ("2024-06", "0.5"),
        ("2024-09", "0.6"),
        ("2024-10", "0.6.3"),
        ("2025-01", "0.7"),
        ("2025-03", "0.8"),
        ("2025-05", "0.9"),
        ("2025-07", "0.10"),
        ("2025-10", "0.11"),
        ("2026-01", "0.15"),
        ("2026-03", "0.17"),
        ("2026-05", "0.21"),
    ),
    "sglang": (("2024-01", "0.2"), ("2025-06", "0.4.8"), ("2025-08", "0.5"), ("2025-10", "0.5.4")),
}
"""In which month a version was the newest, for rows that tell a date instead (the projects' release pages)."""

KV: tuple[tuple[str, KvFormat], ...] = (
    ("nvfp4", "nvfp4"),
    ("fp8", "fp8"),
    ("int8", "int8"),
    ("q8_0", "q8_0"),
    ("q4_0", "q4_0"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("fp16", "fp16"),
    ("float16", "fp16"),
    ("fp32", "fp32"),
    ("auto", "bf16"),
)
COLUMNS = {
    "id",
    "engine",
    "engine_version",
    "model",
    "params_or_arch_note",
    "gpu",
    "gpu_mem_total_gib",
    "tp",
    "pp",
    "dp",
    "weight_format",
    "kv_dtype",
    "mem_fraction",
    "max_model_len",
    "max_num_batched_tokens",
    "enforce_eager",
    "weights_gib_per_gpu",
    "avail_before_load_gib",
    "avail_after_load_gib",
    "kv_mem_gib_per_gpu",
    "kv_tokens",
    "grade",
    "note",
}
"""That are read; others may be there."""

IMPOSSIBLE_SHARE = 1.03
"""A start whose weights and printed cache exceed its budget by more than that was not made with the settings told."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start that can be planned. `kv_gib` and `kv_tokens` are what the engine printed."""

    row: str
    model: str
    arch: Architecture
    setup: Setup
    kv_gib: float | None
    kv_tokens: int | None
    device: Device | None
    weights_gib: float | None
    peak_gib: float | None
    """Of a pass, beside the weights."""
    available_gib: tuple[float, float] | None
    """Before and after the load, where both are printed (SGLang)."""
    tokens_unknown: str | None
    """Why the tokens can't be planned, though the bytes per token can."""


def read_starts(path: Path) -> tuple[list[Start], list[LeftOut]]:
    """All rows of the file, sorted into those that can be planned and those that can't, with the reason."""
    starts: list[Start] = []
    left_out: list[LeftOut] = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restkey="more")
        missing = COLUMNS - set(reader.fieldnames or ())
        if missing:
            raise SystemExit(f"{path}: no column named {', '.join(sorted(missing))}")
        for row in reader:
            # A source with a comma pushes the note one field on.
            row["note"] = " ".join([row["note"] or "", *row.pop("more", [])])
            start = _start({key: (value or "").strip() for key, value in row.items()})
            if isinstance(start, LeftOut):
                left_out.append(start)
            else:
                starts.append(start)
    return starts, left_out


def _start(row: dict[str, str]) -> Start | LeftOut:
    name = row["id"]
    if row["grade"] != "A":
        return LeftOut(name, f"grade {row['grade']}: not printed by the engine with its settings")
    engine = ENGINES.get(row["engine"].lower())
    if engine is None:
        return LeftOut(name, f"engine {row['engine']} is not planned")
    if "encoder-decoder" in row["params_or_arch_note"]:
        return LeftOut(name, "an encoder-decoder: its cross-attention cache is not planned")
    arch = _model(row["model"])
    if arch is None:
        return LeftOut(name, f"model {row['model']} is not in the catalog")
    kv = _first(KV, row["kv_dtype"])
    if kv is None:
        return LeftOut(name, f"KV format '{row['kv_dtype']}' is not stated")
    setup = _setup(row, engine, arch, kv)
    start = Start(
        row=name,
        model=row["model"],
        arch=arch,
        setup=setup,
        kv_gib=_number(row["kv_mem_gib_per_gpu"]) or None,
        kv_tokens=_integer(row["kv_tokens"]) or None,
        device=_device(row, setup),
        weights_gib=_number(row["weights_gib_per_gpu"]) or None,
        peak_gib=_number(row.get("activation_peak_gib", "")) or None,
        available_gib=_available(row),
        tokens_unknown=None,
    )
    return replace(start, tokens_unknown=_tokens_unknown(start, row))


def _tokens_unknown(start: Start, row: dict[str, str]) -> str | None:
    """The rules by which a start's tokens are not scored."""
    setup = start.setup
    if start.kv_tokens is None:
        return "no tokens printed"
    if _first(WEIGHTS, row["weight_format"]) is None:
        return f"weight format '{row['weight_format']}' is not one that is planned"
    if find_engine_memory(setup.engine, setup.engine_version).law == "reserved_contexts":
        return "the engine reserves the context that it is told and prints no capacity"
    if setup.memory_fraction is None and "default" not in row["mem_fraction"].lower():
        return "the memory fraction is not stated"
    if start.device is None:
        return f"the memory of '{row['gpu']}' is not stated"
    if setup.engine == "tensorrt_llm" and setup.max_batched_tokens is None:
        return "the built engine's max_num_tokens, which its buffers follow, is not stated"
    if "speculative" in row["note"].lower() or "drafter" in row["model"].lower():
        return "a draft model of unknown size beside it"
    weights_gib = (
        start.weights_gib if start.weights_gib is not None else weight_bytes(start.arch, setup) / GIB
    )
    held = weights_gib + (start.kv_gib if start.kv_gib is not None else _implied_kv_gib(start))
    limits = limits_of(start.arch, start.device, setup)
    budget = limits.fraction * limits.kept_share * start.device.usable_bytes / GIB
    if setup.engine in ("vllm", "sglang") and held > budget * IMPOSSIBLE_SHARE:
        return (
            f"contradicts itself: weights and cache are {held:.1f} GiB, the stated budget is {budget:.1f} GiB"
        )
    return None


def _implied_kv_gib(start: Start) -> float:
    """Of printed tokens, where every layer keeps every token."""
    if start.kv_tokens is None or is_hybrid(start.arch):
        return 0.0
    return start.kv_tokens * kv_bytes_per_token(start.arch, start.setup) / GIB


def _setup(row: dict[str, str], engine: EngineName, arch: Architecture, kv: KvFormat) -> Setup:
    told = row["note"] + " " + row["params_or_arch_note"]
    tensor, data = _integer(row["tp"]) or 1, _integer(row["dp"]) or 1
    if engine == "sglang" and data > 1:
        # SGLang's attention data parallelism divides its tensor parallel group.
        tensor = max(tensor // data, 1)
    weights = _first(WEIGHTS, row["weight_format"]) or "bf16"
    if weights == "fp8" and arch.native_format == "fp8_block":
        weights = "fp8_block"
    sequences = _told(r"max[-_ ]num[-_ ]seqs|max[-_ ]running[-_ ]requests|max[-_ ]batch[-_ ]size", told)
    context_parallel = _told(r"decode[-_ ]context[-_ ]parallel(?:[-_ ]size)?|dcp(?:[-_ ]size)?", told)
    return Setup(
        engine=engine,
        engine_version=_version(engine, row["engine_version"]),
        weights=weights,
        kv=kv,
        tensor_parallel=tensor,
        pipeline_parallel=_integer(row["pp"]) or 1,
        data_parallel=data,
        expert_parallel=_told(r"expert[-_ ]parallel(?:[-_ ]size)?|ep(?:[-_ ]size)?", told) or 1,
        memory_fraction=_fraction(row["mem_fraction"]),
        max_model_tokens=_integer(row["max_model_len"]),
        max_sequences=sequences,
        max_batched_tokens=_integer(row["max_num_batched_tokens"]),
        cuda_graphs=row["enforce_eager"].lower() not in ("true", "yes", "1"),
        context_parallel=context_parallel or 1,
        text_only="language-model-only" in told,
    )


def _device(row: dict[str, str], setup: Setup) -> Device | None:
    """The one named, with the total that the row prints; one of an unknown name where it prints enough."""
    try:
        device = find_device(row["gpu"])
    except ConfigError:
        device = None
    total = _total_gib(row, setup)
    if total is None:
        return device
    usable = round(total * GIB)
    if device is not None:
        return replace(device, usable_bytes=usable)
    return Device(
        name=row["gpu"],
        kind="gpu",
        vendor="",
        memory_bytes=round(usable * 1.02),
        usable_bytes=usable,
        bandwidth_bytes_per_s=0.0,
        flops_per_s={},
        link_bytes_per_s=0.0,
    )


def _total_gib(row: dict[str, str], setup: Setup) -> float | None:
    """What the driver reported: printed as such, in the device's words, or as what the engine found before the load."""
    printed = _number(row["gpu_mem_total_gib"])
    if printed is not None:
        return printed
    usable = re.search(r"(\d+(?:\.\d+)?) GiB (?:usable|total)", row["gpu"])
    if usable:
        return float(usable[1])
    before = _number(row["avail_before_load_gib"])
    if before is None:
        return None
    engine = find_engine_memory(setup.engine, setup.engine_version)
    return before + (engine.runtime_parallel_gib if setup.devices > 1 else engine.runtime_gib)


def _available(row: dict[str, str]) -> tuple[float, float] | None:
    before, after = _number(row["avail_before_load_gib"]), _number(row["avail_after_load_gib"])
    return None if before is None or after is None else (before, after)


def _model(text: str) -> Architecture | None:
    """By its name without what a row adds to it (`X + MTP drafter`), else by what stands in brackets: a model that it was
    made from (`X (Mistral-7B)`)."""
    names = [re.split(r"\s+[(+]", text)[0], *re.findall(r"\((.+?)\)", text)]
    for name in names:
        with contextlib.suppress(ConfigError):
            return find_model(name)
    return None


def _told(name: str, text: str) -> int | None:
    """What a note says of a limit: `max_num_seqs=128`, `--max-num-seqs 128`, `max_batch_size: 25`; 0 is nothing told."""
    found = re.search(rf"(?<![a-z])(?:{name})\s*[=:]?\s*(\d{{1,6}})\b", text, re.IGNORECASE)
    return int(found[1]) or None if found else None


def _fraction(text: str) -> float | None:
    """Also of percent; none where the cell holds no share of a whole."""
    value = _number(text)
    if value is not None and 1 < value <= 100:
        value /= 100
    return value if value is not None and 0 < value <= 1 else None


def _version(engine: EngineName, text: str) -> str | None:
    """`0.2.4 after PR 2031` is what became the next patch; of `2025-07` the newest that month."""
    built = re.match(r"(\d+)\.(\d+)\.(\d+) after\b", text)
    if built:
        return f"{built[1]}.{built[2]}.{int(built[3]) + 1}"
    month = re.match(r"20\d\d-\d\d", text)
    if month and engine in RELEASED:
        newest = [version for released, version in RELEASED[engine] if released <= month[0]]
        return newest[-1] if newest else RELEASED[engine][0][1]
    return text or None


def _first(table: Iterable[tuple[str, Word]], text: str) -> Word | None:
    return next((value for word, value in table if word in text.lower()), None)


def _number(text: str) -> float | None:
    found = re.match(r"\d*\.?\d+", text.replace(",", "").lstrip("~ "))
    return float(found[0]) if found else None


def _integer(text: str) -> int | None:
    """The number that a cell begins with: `40960 (default)`, `4096-class`, `32k`."""
    found = re.match(r"(\d+)(k\b)?", text.replace(",", ""), re.IGNORECASE)
    return int(found[1]) * (1024 if found[2] else 1) if found else None
