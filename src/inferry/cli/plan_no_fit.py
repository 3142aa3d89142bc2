"""How `inferry plan` says that a model does not fit: numbers, what is missing, and what would do."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.cli.plan_bar import gib, memory_bar
from inferry.cli.plan_text import WIDTH_MAX, wrapped
from inferry.planner.answers import DoesNotFit
from inferry.planner.architecture import Architecture
from inferry.planner.device import Device


def no_fit_text(arch: Architecture, device: Device, answer: DoesNotFit, columns: int, *, colour: bool) -> str:
    width = min(columns, WIDTH_MAX)
    setup = answer.memory.setup
    devices = f"{setup.devices} x {device.name}" if setup.devices > 1 else device.name
    first = (
        f"{arch.name} does not fit on {devices}: {gib(answer.short_bytes)} GiB are missing"
        f"{' on each' if setup.devices > 1 else ''}: {answer.because}."
    )
    parts = [wrapped(first, width), memory_bar(answer.memory, device.name, width, colour=colour)]
    if answer.ways_out:
        parts.append(
            "\n".join(
                ["WHAT FITS (each checked)", *(wrapped(way.words, width, "  - ") for way in answer.ways_out)]
            )
        )
    else:
        parts.append("The planner found no way out with the devices that it knows.")
    return "\n\n".join(parts)


def not_supported_text(arch: Architecture, reasons: Sequence[str], columns: int) -> str:
    width = min(columns, WIDTH_MAX)
    lines = [wrapped(f"{arch.name}: no engine runs it there in the formats that it is to be had in.", width)]
    lines += [wrapped(reason, width, "  - ") for reason in reasons]
    return "\n".join(
        [
            *lines,
            wrapped("Other engines: --engine; what runs where: inferry plan MODEL --compare-engines", width),
        ]
    )
