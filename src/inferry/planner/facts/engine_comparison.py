"""The engines of the field side by side, in words: what `inferry plan` shows when asked which one to take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inferry.planner.architecture import WeightFormat
from inferry.planner.device import Device
from inferry.planner.facts.engine_support import (
    EngineSupport,
    Feature,
    Supported,
    engine_support,
    support_sources,
    supports,
)
from inferry.planner.setup import EngineName, KvFormat


@dataclass(frozen=True, slots=True)
class EngineRow:
    engine: EngineName
    title: str
    version: str
    licence: str
    maturity: str
    hardware: str
    weights: str
    kv: str
    parallelism: str
    features: Mapping[Feature, str]
    source: str


def comparison(device: Device | None = None) -> tuple[EngineRow, ...]:
    """One row per engine. With a device, formats are those that it runs there; "not on ..." where there are none."""
    return tuple(_row(engine, facts, device) for engine, facts in engine_support().items())


def _row(engine: EngineName, facts: EngineSupport, device: Device | None) -> EngineRow:
    source = support_sources()[facts.source]
    return EngineRow(
        engine=engine,
        title=facts.title,
        version=facts.version,
        licence=facts.licence,
        maturity=facts.maturity,
        hardware=_hardware(facts),
        weights=", ".join(facts.weights) if device is None else _weights_on(engine, facts, device),
        kv=", ".join(facts.kv) if device is None else _kv_on(engine, facts, device),
        parallelism=", ".join(facts.parallelism),
        features=facts.features,
        source=f"{source.what} ({source.date})",
    )


def _hardware(facts: EngineSupport) -> str:
    names = {
        "nvidia": "NVIDIA",
        "amd": "AMD",
        "intel": "Intel",
        "huawei": "Ascend",
        "cpu": "CPU",
        "apple": "Apple",
    }
    parts = []
    for platform, remark in facts.hardware.items():
        words = f"compute capability {remark}+" if platform == "nvidia" else remark
        parts.append(f"{names[platform]} ({words})" if words else names[platform])
    return ", ".join(parts)


def _weights_on(engine: EngineName, facts: EngineSupport, device: Device) -> str:
    answers = {
        weights: _best(supports(engine, device, weights, kv) for kv in facts.kv) for weights in facts.weights
    }
    return _words(answers, device)


def _kv_on(engine: EngineName, facts: EngineSupport, device: Device) -> str:
    answers = {
        kv: _best(supports(engine, device, weights, kv) for weights in facts.weights) for kv in facts.kv
    }
    return _words(answers, device)


def _best(answers: Iterable[object]) -> Supported | None:
    """The fastest way to use a format, whatever the other one is."""
    found = [answer for answer in answers if isinstance(answer, Supported)]
    return max(found, key=lambda answer: answer.fast, default=None)


def _words(
    answers: Mapping[WeightFormat, Supported | None] | Mapping[KvFormat, Supported | None], device: Device
) -> str:
    there = [
        f"{name}{'' if answer.fast else ' (slow)'}" for name, answer in answers.items() if answer is not None
    ]
    return ", ".join(there) if there else f"not on {device.name}"
