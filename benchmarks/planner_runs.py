"""Published measurements of speed, as runs that the planner can predict: what was run, under what load, what came out.

Reads the schema of benchmarks/data/throughput.csv.gz. What a row leaves open is decided here, by rule:

- Aiconfigurator's sample counts the GPUs of expert-parallel runs twice: the same TTFT and TPOT, to the last digit, stand
  in it under "tp 4, ep 4, 4 GPUs" and "tp 16, ep 4, 16 GPUs". `parallelism` reads them as the former.
- KV format: FP8 where vLLM or TensorRT-LLM runs FP8 or 4-bit weights on a device with FP8 (the concurrency at which Llama
  70B on one H200 begins to queue shows it), else 16 bit.
- No weight format: what the checkpoint of that name holds.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.planner_scores import LeftOut
from inferry.core.errors import ConfigError
from inferry.planner.architecture import Architecture, WeightFormat
from inferry.planner.device import Device
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.load import Load
from inferry.planner.setup import EngineName, KvFormat, Setup
from inferry.planner.step_work import matrices_of

ENGINES: dict[str, EngineName] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm": "tensorrt_llm",
    "tensorrt-llm": "tensorrt_llm",
    "NIM (TensorRT-LLM)": "tensorrt_llm",
}
FORMATS: dict[str, WeightFormat] = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "fp4": "nvfp4",
    "mxfp4": "mxfp4",
    "int4": "int4",
    "awq-int4": "awq",
}
NARROW: frozenset[WeightFormat] = frozenset({"fp8", "fp8_block", "nvfp4", "int4"})
BENCH_SEQUENCES = 2048
"""trtllm-bench's default batch limit, and enough requests to fill it."""

LEAST_SEQUENCES = 64
"""Published scripts start the engine with a limit of as many sequences as there are clients, or a little more."""


class NotEnoughFacts(Exception):
    """Why a row can't be scored."""


@dataclass(frozen=True, slots=True)
class Run:
    """One row. Measured values in ms and tokens/s of the whole replica; None: not published."""

    row: str
    base: str
    """The same for all names and formats of one model: they have the same shape."""
    campaign: str
    arch: Architecture
    device: Device
    setup: Setup
    load: Load
    kind: str
    tpot_ms: float | None
    ttft_ms: float | None
    output_tokens_per_s: float | None


def read_table(path: Path) -> list[dict[str, str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return list(csv.DictReader(text.splitlines()))


def read_runs(rows: Iterable[dict[str, str]]) -> tuple[list[Run], list[LeftOut]]:
    """Rows that can be scored, and the others with the reason. A measurement that is listed twice counts once."""
    runs: list[Run] = []
    left: list[LeftOut] = []
    seen: dict[tuple[object, ...], str] = {}
    for row in rows:
        try:
            run = read_run(row)
        except NotEnoughFacts as reason:
            left.append(LeftOut(row["id"], str(reason)))
            continue
        same = (
            run.base,
            run.setup.engine,
            run.device.name,
            run.load,
            run.tpot_ms,
            run.ttft_ms,
            run.output_tokens_per_s,
        )
        if same in seen:
            left.append(LeftOut(row["id"], f"the same measurement as {seen[same]}"))
            continue
        seen[same] = row["id"]
        runs.append(run)
    return runs, left


def read_run(row: dict[str, str]) -> Run:
    if row["grade"] != "A":
        raise NotEnoughFacts(f"grade {row['grade']}")
    if row["mode"] != "agg":
        raise NotEnoughFacts("prefill and decode on different replicas, which the planner doesn't model")
    if "speculative" in row["flags"].lower() or "speculative" in row["note"].lower():
        raise NotEnoughFacts("speculative decoding of unknown acceptance")
    if row["engine"] not in ENGINES:
        raise NotEnoughFacts(f"engine {row['engine'] or 'unknown'} is not modelled")
    if not row["n_gpus"]:
        raise NotEnoughFacts("number of GPUs unknown")
    try:
        arch, device = find_model(row["model"]), find_device(row["gpu"])
    except ConfigError as error:
        raise NotEnoughFacts(str(error).split(".")[0]) from error
    load = _load(row)
    measured = [_number(row[name]) for name in ("tpot_ms_mean", "ttft_ms_mean", "output_tok_s_total")]
    if not any(measured):
        raise NotEnoughFacts("nothing measured")
    setup = _setup(row, arch, device)
    shape = f"{arch.hidden}x{arch.layers}x{matrices_of(arch).experts}"
    return Run(
        row["id"],
        shape,
        f"{shape}|{setup.engine}|{device.name}|{setup.weights}",
        arch,
        device,
        setup,
        load,
        row["load_kind"],
        *measured,
    )


def _load(row: dict[str, str]) -> Load:
    prompt, answer = _number(row["isl"]), _number(row["osl"])
    if not prompt or not answer:
        raise NotEnoughFacts("lengths unknown")
    kind, concurrency, prompts = row["load_kind"], _number(row["concurrency"]), _number(row["num_prompts"])
    if kind in ("closed_loop", "single_stream") and concurrency:
        return Load(prompt, answer, concurrency=concurrency)
    if kind == "saturated_offline":
        return Load(prompt, answer, concurrency=float(BENCH_SEQUENCES))
    if kind == "all_at_once" and prompts:
        return Load(prompt, answer, all_at_once=int(prompts))
    rate = _number(row["request_rate_rps"])
    if kind == "open_loop" and rate:
        return Load(prompt, answer, requests_per_s=rate)
    raise NotEnoughFacts(f"load of kind {kind or 'unknown'} without its size")


def _setup(row: dict[str, str], arch: Architecture, device: Device) -> Setup:
    engine = ENGINES[row["engine"]]
    weights = _weights(row, arch)
    gpus, tensor, expert, data = parallelism(
        *(int(_number(row[key]) or 0) for key in ("n_gpus", "tp", "ep", "dp"))
    )
    pipeline = int(_number(row["pp"]) or 1)
    if tensor * data * pipeline != gpus:
        raise NotEnoughFacts(f"{gpus} GPUs are not tp {tensor} x dp {data} x pp {pipeline}")
    narrow = engine != "sglang" and weights in NARROW and "fp8" in device.flops_per_s
    kv: KvFormat = "fp8" if narrow else "bf16"
    return Setup(
        engine,
        row["engine_version"] or None,
        weights,
        kv,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        expert_parallel=expert,
        data_parallel=data,
        max_model_tokens=_context(row, arch),
        max_sequences=_sequences(row),
    )


def _sequences(row: dict[str, str]) -> int | None:
    """The engine's limit: one that admits all clients of a closed loop; of a burst its default."""
    if row["load_kind"] == "saturated_offline":
        return BENCH_SEQUENCES
    clients = _number(row["concurrency"])
    return max(LEAST_SEQUENCES, math.ceil(clients)) if clients and row["load_kind"] == "closed_loop" else None


def _context(row: dict[str, str], arch: Architecture) -> int:
    """Benchmarks allow what their longest request needs; so many tokens are enough in any case."""
    return min(arch.max_position, math.ceil((float(row["isl"]) + float(row["osl"])) * 1.25) + 1024)


def _weights(row: dict[str, str], arch: Architecture) -> WeightFormat:
    said = FORMATS.get(row["quant"]) if row["quant"] else arch.native_format
    if said is None:
        raise NotEnoughFacts(f"weight format {row['quant']} unknown")
    if arch.native_format == "mxfp4" and said in ("nvfp4", "fp8"):
        return "mxfp4"
    if said != "fp8":
        return said
    # Published FP8 checkpoints of mixtures are in blocks of 128 x 128 (DeepSeek, Qwen, GLM, MiniMax).
    in_blocks = "fp8_block" in row["flags"] or ("moe=fp8" in row["flags"] and matrices_of(arch).experts > 0)
    return "fp8_block" if in_blocks or arch.native_format == "fp8_block" else "fp8"


def parallelism(gpus: int, tensor: int, expert: int, data: int) -> tuple[int, int, int, int]:
    """GPUs, tp, ep and dp as they were run; see the module's first rule. (16, 16, 4, 1) is (4, 4, 4, 1)."""
    expert, data = max(expert, 1), max(data, 1)
    side = math.isqrt(gpus)
    if side > 1 and side * side == gpus:
        if (tensor, expert, data) == (gpus, side, 1):
            return side, side, side, 1
        if (expert, data) == (side, gpus):
            return side, 1, side, side
        if (tensor, expert, data) == (side, gpus, side):
            return side, 1, side, side
    return gpus, tensor or max(1, gpus // data), expert, data


def _number(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise NotEnoughFacts(f"{text!r} isn't a number") from None
