"""The CPU of this machine: its name, its cores, what it computes with; on a Mac, the chip."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from inferry.cli.calibrate_machine import cpu_name
from inferry.cli.machine_readings import CGROUPS, PROC, read_memory
from inferry.fleet.threads import cores_available

ISA_FLAGS = {
    "amx_tile": "AMX",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "sve": "SVE",
    "asimddp": "NEON dot product",
    "asimd": "NEON",
}
"""Of /proc/cpuinfo (`flags` or `Features`), widest first."""
SYSCTL_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class CpuHere:
    name: str
    vendor: str
    cores: int
    """Those that this process may use."""
    isa: tuple[str, ...]
    """Of ISA_FLAGS' values."""
    memory_bytes: int | None
    """Of the machine, or less where a cgroup says so."""
    available_bytes: int | None
    apple_chip: str | None = None
    """`Apple M2 Max`."""


def read_cpu(proc: Path = PROC, cgroups: Path = CGROUPS) -> CpuHere:
    """What can't be read is None, empty or the name that Python gives."""
    if platform.system() == "Darwin":
        return _read_mac()
    memory_bytes, available_bytes = read_memory(proc, cgroups)
    fields = _cpuinfo(proc)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return CpuHere(
        name=cpu_name(proc),
        vendor=_vendor(fields.get("vendor_id", "")),
        cores=cores_available(),
        isa=tuple(words for flag, words in ISA_FLAGS.items() if flag in flags),
        memory_bytes=memory_bytes,
        available_bytes=available_bytes,
    )


def _cpuinfo(proc: Path) -> dict[str, str]:
    try:
        text = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _vendor(vendor_id: str) -> str:
    return {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(vendor_id, "unknown")


def _read_mac() -> CpuHere:
    chip = _sysctl("machdep.cpu.brand_string") or platform.processor()
    memory = _sysctl("hw.memsize")
    memory_bytes = int(memory) if memory is not None and memory.isdigit() else None
    return CpuHere(
        name=chip,
        vendor="apple" if chip.startswith("Apple") else "intel",
        cores=cores_available(),
        isa=("NEON",) if chip.startswith("Apple") else ("AVX2",),
        memory_bytes=memory_bytes,
        available_bytes=None,
        apple_chip=chip if chip.startswith("Apple") else None,
    )


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name],
            check=False,
            capture_output=True,
            text=True,
            timeout=SYSCTL_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
