"""`inferry plan --here` on a machine without GPUs: what its CPU does with a model, as calibrated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from inferry.cli.hardware_here import MachineHere, cpu_device, machine_here
from inferry.cli.local_model import LocalModel, read_local_model
from inferry.cli.plan_here_text import HereAnswer, here_file, here_json, here_text
from inferry.cli.plan_learned import learned_line
from inferry.cli.plan_model import PlannedModel
from inferry.core.errors import ConfigError
from inferry.fleet.memory_need import weights_size
from inferry.planner.calibration import EngineCalibration, warnings_of
from inferry.planner.facts.engine_support import NotSupported, supports
from inferry.planner.host_plan import HostPlan, HostSubject, plan_on_host
from inferry.planner.learned_physics import family_of
from inferry.planner.learning import Corrections, Launch, Subject, learn
from inferry.planner.setup import EngineName, Setup
from inferry.planner.weights import weight_bytes
from inferry.planner.wish import Wish


@dataclass(frozen=True, slots=True)
class HereOptions:
    engines: tuple[EngineName, ...]
    """Empty: none was named."""
    write: Path | None
    force: bool
    explain: bool
    as_json: bool
    quant: str
    refused: Mapping[str, object]
    """Options that say nothing about a CPU, and what they were set to."""


def plan_here(
    model: PlannedModel, wish: Wish, launches: Sequence[Launch], options: HereOptions, columns: int
) -> bool:
    """Says the plan; True where it keeps what was asked. Raises ConfigError for what a CPU can't be asked."""
    _check(options)
    if model.path is None and (made_of := model.architecture.made_of):
        raise ConfigError(
            f"--here: Ollama keeps the file of {model.architecture.name} to itself, and this machine has no GPU. Plan a "
            f"GGUF file of it, or the repository that it was made of: {made_of}."
        )
    answer = answer_here(model, wish, launches, machine_here(os.environ), options.engines)
    if options.as_json:
        import json

        typer.echo(json.dumps(here_json(answer, wish), indent=2))
    else:
        typer.echo(here_text(answer, wish, columns, explain=options.explain))
    if options.write is not None:
        from inferry.cli.plan_file import write_file

        if not answer.plan.slots:
            raise ConfigError(f"{options.write} is not written: it does not fit.")
        write_file(options.write, here_file(answer, wish), force=options.force)
        typer.echo(f"Wrote {options.write}. Next: inferry config check {options.write}", err=True)
    return answer.plan.good


def answer_here(
    model: PlannedModel,
    wish: Wish,
    launches: Sequence[Launch],
    machine: MachineHere,
    engines: tuple[EngineName, ...] = (),
) -> HereAnswer:
    """`machine`: without GPUs. Raises ConfigError where no engine runs the model on its CPU."""
    local, estimated = _files(model)
    device = cpu_device(machine)
    engine = _engine(local, engines)
    answer = supports(engine, device, local.arch.native_format, "fp16" if engine == "llamacpp" else "bf16")
    if isinstance(answer, NotSupported):
        raise ConfigError(
            f"--here: this machine has no GPU, and on its CPU: {answer.why}. llama.cpp runs GGUF files there."
        )
    calibration = machine.calibration
    known = None if calibration is None else calibration.engine(engine, local.format, local.arch.name)
    learned = learn(launches, _subject(engine, machine, local, known))
    subject = HostSubject(
        local.arch,
        engine,
        local.weights_bytes,
        copies_bytes=local.copies_bytes,
        base_bytes=None if known is None else known.memory_base_bytes,
        speed=None if known is None else known.speed,
        own=known is not None and known.model == local.arch.name,
        learned=learned,
    )
    plan = plan_on_host(subject, device.usable_bytes, wish)
    return HereAnswer(
        cpu=machine.cpu.name,
        model=model.source,
        format=local.format,
        weights_estimated=estimated,
        subject=subject,
        plan=plan,
        calibrated=known,
        doubts=() if calibration is None or known is None else tuple(warnings_of(calibration)),
        learned=_learned(plan, learned),
    )


def _check(options: HereOptions) -> None:
    said = [name for name, value in options.refused.items() if value]
    if said:
        raise ConfigError(
            f"{said[0]}: this machine has no GPU, and of its CPU nothing is known for that. Name GPUs: --gpu rtx4090."
        )
    if options.quant not in ("auto", "native", "any"):
        raise ConfigError(
            f"--quant {options.quant}: on a CPU, the model is planned as its files are. Name a file in that format."
        )


def _files(model: PlannedModel) -> tuple[LocalModel, bool]:
    """What lies here; else what its config says, which is an estimate: True."""
    path = model.path
    if (
        path is not None and path.is_file() and path.suffix != ".gguf"
    ):  # a config alone, or with its weights beside it
        path = path.parent if path.name == "config.json" else None
    if path is not None and path.is_dir() and not (path / "config.json").exists():
        path = sorted(path.glob("*.gguf"))[0]
    if path is not None and weights_size(path):
        return read_local_model(path), False
    arch = model.architecture
    size = weight_bytes(arch, Setup("vllm", weights=arch.native_format))
    return LocalModel(arch, size, arch.native_format), True


def _engine(local: LocalModel, asked: tuple[EngineName, ...]) -> EngineName:
    """llama.cpp for GGUF files, vLLM for all others: those that can be calibrated on a CPU."""
    engine: EngineName = "llamacpp" if local.arch.native_format == "gguf" else "vllm"
    if asked and engine not in asked:
        raise ConfigError(
            f"--engine {asked[0]}: this machine has no GPU, and on its CPU the planner knows llamacpp (for GGUF files) and "
            f"vllm (for all others): this model is for {engine}."
        )
    return engine


def _subject(
    engine: EngineName, machine: MachineHere, local: LocalModel, known: EngineCalibration | None
) -> Subject:
    """As the fleet names it."""
    name, version = local.arch.name, None if known is None else known.version
    return Subject(engine, machine.cpu.name, name, family_of(name), version, local.format)


def _learned(plan: HostPlan, learned: Corrections) -> tuple[tuple[str, Mapping[str, object]], ...]:
    """Words and figures for each that launches changed."""
    figures = {"memory_bytes": float(plan.memory_bytes)}
    if plan.at_load is not None:
        figures["ttft_ms"] = plan.at_load.ttft_ms.value
        figures["itl_ms"] = plan.at_load.itl_ms.value
        figures["output_tokens_per_s"] = plan.at_load.output_tokens_per_s.value
    said = []
    for name, each in learned.by_quantity.items():
        if name in figures:
            entry: dict[str, object] = {
                "figure": name,
                "without": figures[name] / each.factor,
                "with": figures[name],
                "launches": each.launches,
                "other_models": each.others,
                "error_without": each.error_before,
                "error_with": each.error_after,
            }
            said.append((learned_line(entry), entry))
    return tuple(said)
