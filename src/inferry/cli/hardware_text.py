"""How `inferry hardware` looks: this machine, the catalog, one device of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferry.cli.hardware_here import MachineHere, busy_gpus, is_measured
from inferry.planner.device import Device
from inferry.planner.facts.engine_comparison import EngineRow

GIB = 2**30
TERA = 1e12
CATALOG_TYPES = ("fp16", "fp8", "fp4", "int8")


def here_text(
    machine: MachineHere,
    devices: Sequence[Device],
    unknown: Sequence[str],
    home: Mapping[str, Any],
    engines: Mapping[str, str],
) -> str:
    """GPUs, CPU, memory, disk and engines of this machine."""
    lines = [*_gpu_lines(machine, devices, unknown), "", *_cpu_lines(machine, devices[-1]), ""]
    free = home["free_bytes"]
    room = "can't be read" if free is None else f"{free / GIB:.0f} GiB free"
    lines += [
        "DISK",
        f"  {home['folder']}: {room}{'' if home['writable'] else ', NOT WRITABLE'}",
        "",
        "ENGINES",
    ]
    lines += [f"  {name}  {where}" for name, where in engines.items()] or [
        "  none; 'inferry engines list' tells which there are"
    ]
    return "\n".join([*lines, "", "What the catalog knows: inferry hardware --catalog [NAME]"])


def _gpu_lines(machine: MachineHere, devices: Sequence[Device], unknown: Sequence[str]) -> list[str]:
    here = machine.gpus
    lines = [f"GPUS (by {here.read_by}, driver {here.driver})" if here.gpus else "GPUS"]
    known = iter(device for device in devices if device.kind == "gpu")
    for gpu in here.gpus:
        parts = [f"{gpu.memory_bytes / GIB:.1f} GiB, {gpu.used_bytes / GIB:.1f} GiB used"]
        if gpu.compute_capability is not None:
            parts.append(f"compute capability {gpu.compute_capability}")
        if gpu.power_limit_w is not None:
            parts.append(f"up to {gpu.power_limit_w:.0f} W")
        if gpu.nvlinks:
            parts.append(f"{gpu.nvlinks} NVLinks")
        lines.append(f"  {gpu.index}  {gpu.name}: {', '.join(parts)}")
        if gpu.name in unknown:
            lines.append("     not in the catalog: describe it under 'facts.devices' to plan with it")
        else:
            device = next(known)
            lines.append(f"     in the catalog: {device.name}, {_rates(device)}")
    if not here.gpus:
        lines.append("  none")
    lines += [f"  {words}." for words in busy_gpus(machine)]
    return lines if here.remark is None else [*lines, f"  {here.remark}"]


def _cpu_lines(machine: MachineHere, device: Device) -> list[str]:
    cpu = machine.cpu
    isa = ", ".join(cpu.isa) or "nothing wide that is known"
    lines = ["CPU", f"  {cpu.name}: {cpu.cores} cores that may be used; {isa}"]
    if cpu.memory_bytes is not None:
        free = "" if cpu.available_bytes is None else f", {cpu.available_bytes / GIB:.1f} GiB free"
        lines.append(f"  memory: {cpu.memory_bytes / GIB:.1f} GiB{free}")
    how = "measured" if is_measured(device) else "from the catalog" if device.kind == "apple" else "estimated"
    lines.append(f"  {_rates(device)} ({how})")
    if how == "estimated":
        lines.append("  Measure this machine: inferry calibrate")
    return lines


def _rates(device: Device) -> str:
    flops = ", ".join(f"{name} {_number(rate / TERA)}" for name, rate in device.flops_per_s.items())
    return f"{device.bandwidth_bytes_per_s / 1e9:,.0f} GB/s, TFLOP/s {flops}"


def catalog_text(devices: Sequence[Device]) -> str:
    """One line per device. Rates without sparsity."""
    heads = (
        "NAME",
        "GIB",
        "USABLE",
        "GB/S",
        *(f"{name.upper()}" for name in CATALOG_TYPES),
        "LINK GB/S",
        "WATT",
        "USD/H",
        "AS OF",
        "KIND",
    )
    rows = [heads] + [
        (
            device.name,
            f"{device.memory_bytes / GIB:.0f}",
            f"{device.usable_bytes / GIB:.1f}",
            f"{device.bandwidth_bytes_per_s / 1e9:,.0f}",
            *(_flops(device, name) for name in CATALOG_TYPES),
            f"{device.link_bytes_per_s / 1e9:.0f}" if device.link_bytes_per_s else "-",
            "-" if device.power_w is None else f"{device.power_w:.0f}",
            "-" if device.price is None else f"{device.price.usd_per_hour:.2f}",
            "" if device.price is None else device.price.as_of,
            "" if device.price is None else device.price.kind,
        )
        for device in devices
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            "",
            "TFLOP/s dense, without sparsity. Prices are one offer each: inferry hardware --catalog NAME names it.",
        ]
    )


def device_text(device: Device, engines: Sequence[EngineRow]) -> str:
    """All that is known of one device, with sources, and what each engine runs on it."""
    rows = {
        "memory": f"{device.memory_bytes / GIB:.0f} GiB, of which engines get {device.usable_bytes / GIB:.2f} GiB",
        "bandwidth": f"{device.bandwidth_bytes_per_s / 1e9:,.0f} GB/s",
        "TFLOP/s": ", ".join(f"{name} {_number(rate / TERA)}" for name, rate in device.flops_per_s.items()),
        "link": f"{device.link}, {device.link_bytes_per_s / 1e9:.0f} GB/s in one direction"
        if device.link_bytes_per_s
        else "",
        "compute capability": device.compute_capability or "",
        "power": "" if device.power_w is None else f"{device.power_w:.0f} W",
        "price": ""
        if device.price is None
        else f"{device.price.usd_per_hour:.2f} USD/h, {device.price.kind}, as of {device.price.as_of}: {device.price.source}",
        "source": device.source,
        "also called": ", ".join(device.aliases),
    }
    width = max(map(len, rows))
    lines = [
        device.name,
        *(f"  {key.ljust(width)}  {value}" for key, value in rows.items() if value),
        "",
        "ENGINES",
    ]
    for row in engines:
        lines.append(f"  {row.title} {row.version}: weights {row.weights}")
        if not row.weights.startswith("not on"):
            lines.append(f"    KV cache {row.kv}")
    return "\n".join(lines)


def _flops(device: Device, name: str) -> str:
    rate = {str(each): value for each, value in device.flops_per_s.items()}.get(name)
    return "-" if rate is None else _number(rate / TERA)


def _number(tera: float) -> str:
    return f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}"
