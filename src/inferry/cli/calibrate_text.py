"""What is known of a machine, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import msgspec

from inferry.core.clock import utc_text
from inferry.planner.calibration import Calibration, EngineCalibration, Rates, Reading, warnings_of
from inferry.planner.learning import Launch, Subject, describe, learn


def calibration_text(calibration: Calibration | None, launches: Sequence[Launch]) -> str:
    parts = ["Nothing was measured yet: inferry calibrate"] if calibration is None else _machine(calibration)
    parts += _learned(launches)
    return "\n".join(parts)


def calibration_json(calibration: Calibration | None, launches: Sequence[Launch]) -> str:
    """`calibration` as it is stored, `warnings`, and `learned`: each subject with its corrections."""
    learned = [
        {"subject": asdict(subject), "corrections": {name: asdict(each) for name, each in found.items()}}
        for subject in _subjects(launches)
        if (found := learn(launches, subject).by_quantity)
    ]
    body = {
        "calibration": calibration,
        "warnings": [] if calibration is None else warnings_of(calibration),
        "launches": len(launches),
        "learned": learned,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()


def _machine(calibration: Calibration) -> list[str]:
    host = calibration.host
    lines = [
        f"{host.cpu}, {host.cores} cores, {host.memory_bytes / 1024**3:.1f} GiB; measured {utc_text(calibration.wall_s)}",
        *_rates("CPU", calibration.cpu),
    ]
    for name, rates in calibration.gpus.items():
        lines += _rates(name, rates)
    lines += [_engine(each) for each in calibration.engines]
    return lines + [f"warning: {each}" for each in warnings_of(calibration)]


def _rates(name: str, rates: Rates) -> list[str]:
    lines = [f"  {name}  memory bandwidth  {_told(rates.bandwidth_bytes_per_s, 1e9)} GB/s"]
    return lines + [
        f"  {name}  {kind}  {_told(each, 1e12)} TFLOP/s" for kind, each in rates.flops_per_s.items()
    ]


def _told(reading: Reading, unit: float) -> str:
    return f"{reading.value / unit:.3g} (middle half within {reading.spread:.0%}, {reading.runs} runs)"


def _engine(each: EngineCalibration) -> str:
    speed = each.speed
    return (
        f"  {each.engine} with {each.weights} ({each.model}, {utc_text(each.wall_s)}): decode "
        f"{speed.decode_flops_per_s / 1e9:.3g} GFLOP/s, prefill {speed.prefill_flops_per_s / 1e9:.3g} GFLOP/s, "
        f"{1e6 * speed.layer_s:.0f} us per layer and step, {each.memory_base_bytes / 1e6:.0f} MB beside weights and KV cache"
    )


def _learned(launches: Sequence[Launch]) -> list[str]:
    lines = (
        [f"Learned from {len(launches)} launch{'' if len(launches) == 1 else 'es'}."]
        if launches
        else ["No launch was recorded yet."]
    )
    for subject in _subjects(launches):
        found = learn(launches, subject).by_quantity
        if found:
            cache = "" if subject.setup is None else f", {subject.setup.kv} cache"
            lines.append(
                f"  {subject.model} ({subject.weights}{cache}) with {subject.engine} on {subject.device}"
            )
            lines += [f"    {describe(name, each)}" for name, each in found.items()]
    return lines


def _subjects(launches: Sequence[Launch]) -> list[Subject]:
    """Each model in each of its formats, in the setup of its newest launch."""
    newest = {
        (each.engine, each.device, each.model, each.weights, each.setup and each.setup.kv): each
        for each in launches
    }
    return [
        Subject(
            each.engine,
            each.device,
            each.model,
            each.family,
            each.engine_version,
            each.weights,
            each.setup,
        )
        for each in newest.values()
    ]
