"""Takes this machine's measure: who it is, how busy others keep it, and its rates, each by a program of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from inferry.cli.machine_readings import CGROUPS, PROC, read_driver, read_memory
from inferry.cli.machine_speed import reading
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError
from inferry.fleet.threads import cores_available
from inferry.planner.calibration import Calibration, Fingerprint, Rates

REPEATS, REPEATS_QUICK = 15, 5
READ_MB, READ_MB_QUICK = 1024, 512
"""Read at once, all threads together: many times the last-level cache of most machines."""
CACHE_TIMES = 4
"""Or so many times that cache, where it is larger."""
TIMEOUT_S = 300
GPU_PROGRAM = Path(__file__).with_name("gpu_speed.py")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def fingerprint() -> Fingerprint:
    driver, _ = read_driver()
    memory_bytes, _ = read_memory(PROC, CGROUPS)
    gpus = () if driver is None else tuple(gpu.name for gpu in driver.gpus)
    version = None if driver is None else driver.version
    return Fingerprint(cpu_name(PROC), cores_available(), memory_bytes or 0, gpus, version)


def cpu_name(proc: Path) -> str:
    try:
        lines = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    fields: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    family = fields.get("cpu family")
    # Virtual machines shorten the name to "AMD EPYC": the family tells generations apart.
    return name if family is None else f"{name} (family {family}, model {fields.get('model', '?')})"


def measure_machine(
    environ: Mapping[str, str], *, quick: bool, pythons: tuple[Path, ...] = ()
) -> Calibration:
    """Takes some 5 s, `quick` 2 s. `pythons`: interpreters that may have torch. Raises ConfigError without numpy."""
    if importlib.util.find_spec("numpy") is None:
        raise ConfigError(
            "inferry calibrate needs numpy, which is not installed here. Install it with: pip install 'inferry[calibrate]'"
        )
    host = fingerprint()
    watch = Busyness(PROC)
    cpu = msgspec.json.decode(_run_cpu(environ, host.cores, quick=quick), type=Rates)
    others = watch.others(host.cores)
    gpus = measure_gpus(environ, pythons) if host.gpus else {}
    return Calibration(host=host, wall_s=SystemClock.wall_s(), cpu=cpu, others_busy=others, gpus=gpus)


def _run_cpu(environ: Mapping[str, str], threads: int, *, quick: bool) -> bytes:
    megabytes = max(READ_MB_QUICK if quick else READ_MB, CACHE_TIMES * cache_bytes() // 10**6)
    repeats = REPEATS_QUICK if quick else REPEATS
    argv = [
        sys.executable,
        "-P",
        "-m",
        "inferry.cli.machine_speed",
        str(threads),
        str(megabytes),
        str(repeats),
    ]
    pinned = {**environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
    return _output(argv, pinned)


def cache_bytes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Of the largest cache that cpu0 sees; 0 where nobody tells."""
    sizes = [0]
    for size in folder.glob("index*/size"):
        try:
            text = size.read_text(encoding="ascii").strip()
            sizes.append(int(text.rstrip("KM")) * (1024**2 if text.endswith("M") else 1024))
        except (OSError, ValueError):
            continue
    return max(sizes)


def measure_gpus(environ: Mapping[str, str], pythons: tuple[Path, ...]) -> dict[str, Rates]:
    """By name; empty where no Python here has torch with a GPU."""
    for python in (Path(sys.executable), *pythons):
        try:
            told = json.loads(_output([str(python), str(GPU_PROGRAM)], environ))
        except (ConfigError, ValueError):
            continue
        if told:
            return {name: _gpu_rates(values) for name, values in told.items()}
    return {}


def _gpu_rates(values: dict[str, list[float]]) -> Rates:
    flops = {name: reading(runs) for name, runs in values.items() if name != "bandwidth"}
    return Rates(reading(values["bandwidth"]), flops)


def _output(argv: list[str], environ: Mapping[str, str]) -> bytes:
    try:
        done = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env=dict(environ),
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"The measurement was not done within {TIMEOUT_S} s; it was ended.") from None
    except OSError as error:
        raise ConfigError(f"{argv[0]} can't be run: {error.strerror or error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConfigError(f"The measurement failed: {said[-1]}")
    return done.stdout


def children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


class Busyness:
    """How much of the cores others use between now and `others`."""

    def __init__(self, proc: Path, ours: Callable[[], float] = children_cpu_s) -> None:
        """`ours`: CPU time of our own children so far."""
        self._proc = proc
        self._ours = ours
        self._clock = SystemClock()
        self._began_s = self._clock.now_s()
        self._used_s = _used_cpu_s(proc)
        self._ours_s = ours()

    def others(self, cores: int) -> float:
        """Share of `cores`, 0 to 1; 0 where nobody tells."""
        used_s = _used_cpu_s(self._proc)
        if self._used_s is None or used_s is None:
            return 0.0
        elapsed_s = max(self._clock.now_s() - self._began_s, 1e-9)
        others_s = used_s - self._used_s - (self._ours() - self._ours_s)
        return min(max(others_s / elapsed_s / cores, 0.0), 1.0)


def _used_cpu_s(proc: Path) -> float | None:
    """CPU time that all processes have used since the start of the machine, and what its host took away."""
    try:
        # `cpu user nice system idle iowait irq softirq steal ...`, proc_stat(5)
        fields = [
            int(each) for each in (proc / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        ]
    except (OSError, ValueError):
        return None
    idle = sum(fields[3:5])
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")
