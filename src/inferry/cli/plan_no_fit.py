"""How `inferry plan` says that a model does not fit: numbers, what is missing, and what would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from inferry.cli.plan_bar import gib, memory_bar
from inferry.cli.plan_text import TITLES, WIDTH_MAX, wrapped
from inferry.planner.answers import DoesNotFit, WayOut
from inferry.planner.architecture import Architecture
from inferry.planner.candidates import Candidate, Supports, candidates
from inferry.planner.setup import EngineName
from inferry.planner.wish import Hardware, Wish


def no_fit_text(
    arch: Architecture, hardware: Hardware, answer: DoesNotFit, columns: int, *, colour: bool
) -> str:
    width = min(columns, WIDTH_MAX)
    setup, device = answer.memory.setup, hardware.device
    devices = f"{setup.devices} x {device.name}" if setup.devices > 1 else device.name
    room = f", with room for a request of {setup.max_model_tokens:,} tokens" if setup.max_model_tokens else ""
    first = (
        f"{arch.name} does not fit on {devices}: {gib(answer.short_bytes)} GiB are missing"
        f"{' on each' if setup.devices > 1 else ''}{room}: {answer.because}.{several_hosts(hardware)}"
    )
    parts = [wrapped(first, width), memory_bar(answer.memory, device.name, width, colour=colour)]
    if answer.ways_out:
        parts.append(
            "\n".join(
                [
                    "WHAT FITS (each checked)",
                    *(wrapped(way_words(way, answer), width, "  - ") for way in answer.ways_out),
                ]
            )
        )
    else:
        parts.append("The planner found no way out with the devices that it knows.")
    return "\n\n".join(parts)


def several_hosts(hardware: Hardware) -> str:
    """Why more devices were not tried, where more were offered."""
    in_one = hardware.device.devices_per_host_max
    if hardware.count is None or hardware.count <= in_one:
        return ""
    return f" Of the {hardware.count} devices only {in_one} are in one host, and one replica over several hosts is not planned."


def way_words(way: WayOut, answer: DoesNotFit) -> str:
    """With the options that ask for it, where it takes another engine or format."""
    was, setup = answer.memory.setup, way.setup
    options = []
    if setup.engine != was.engine:
        options.append(f"--engine {setup.engine.replace('_', '-')}")
    if setup.weights != was.weights:
        options.append(f"--quant {setup.weights}")
    elif setup.kv != was.kv:
        options.append("--quant any")
    return f"{way.words}: {' '.join(options)}" if options else way.words


def engines_that_run_it(
    arch: Architecture, hardware: Sequence[Hardware], wish: Wish, supports: Supports
) -> tuple[EngineName, ...]:
    """Of those that were not asked for."""
    return tuple(
        engine
        for engine in get_args(EngineName)
        if engine not in wish.engines
        and any(
            isinstance(found, Candidate)
            for each in hardware
            for found in candidates(arch, each, replace(wish, engines=(engine,)), supports)
        )
    )


def not_supported_text(
    arch: Architecture, reasons: Sequence[str], others: Sequence[EngineName], columns: int
) -> str:
    width = min(columns, WIDTH_MAX)
    lines = [wrapped(f"{arch.name}: no engine that was asked for runs it there in these formats.", width)]
    lines += [wrapped(reason, width, "  - ") for reason in reasons]
    if others:
        named = " or ".join(f"{TITLES[each]} (--engine {each.replace('_', '-')})" for each in others)
        lines.append(wrapped(f"What runs it there: {named}.", width))
    else:
        lines.append(
            wrapped("None that the planner knows runs it there. What runs where: --compare-engines", width)
        )
    return "\n".join(lines)
