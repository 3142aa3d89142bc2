"""What the doctor thinks of a machine: readings in, findings out; no machine is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.engines.machine import BusyPort, Driver, Finding, Gpu, Machine, Wanted
from inferry.engines.machine_check import GIB, judge

H100 = Gpu("NVIDIA H100 80GB HBM3", 80 * GIB, 0)
READY = Machine(
    python=(3, 11),
    cores=16,
    cores_of_machine=16,
    driver=Driver("580.95.05", "13.0", (H100, H100)),
    amd_gpu=False,
    driver_problem=None,
    memory_bytes=128 * GIB,
    memory_available_bytes=100 * GIB,
    disk_folder="/home/me/.inferry/models",
    disk_free_bytes=500 * GIB,
    disk_writable=True,
    shm_bytes=16 * GIB,
    open_files_max=65536,
    tasks_max=None,
)
NO_GPU = replace(READY, driver=None)
BIG = Wanted(
    name="big",
    engine="vllm",
    replicas=1,
    gpus=2,
    gpu_indexes=None,
    model_bytes=60 * GIB,
    model_missing=None,
    model_fetchable=True,
    cannot_start=None,
)
SMALL = replace(BIG, name="small", engine="llamacpp", gpus=0, model_bytes=1 * GIB)


def of(findings: list[Finding], about: str) -> Finding:
    [found] = [each for each in findings if each.about == about]
    return found


def worst(findings: list[Finding]) -> set[str]:
    return {each.verdict for each in findings}


def test_a_ready_machine_passes() -> None:
    """Where nothing is wrong every line passes, and none gives advice."""
    findings = judge(READY, [BIG, SMALL], has_file=True)
    assert worst(findings) == {"pass"}
    assert {each.way_out for each in findings} == {None}


@pytest.mark.parametrize(
    ("about", "verdict", "change"),
    [
        ("Python", "fail", {"python": (3, 10)}),
        ("CPU", "warn", {"cores": 1}),
        ("CPU", "warn", {"cores": 8}),
        ("memory", "fail", {"memory_available_bytes": GIB // 2}),
        ("memory", "warn", {"memory_available_bytes": 2 * GIB}),
        ("memory", "warn", {"memory_available_bytes": None}),
        ("disk", "fail", {"disk_free_bytes": GIB // 2}),
        ("disk", "fail", {"disk_writable": False}),
        ("disk", "warn", {"disk_free_bytes": 5 * GIB}),
        ("disk", "warn", {"disk_free_bytes": None}),
        ("shared memory", "warn", {"shm_bytes": 64 * 1024**2}),
        ("open files", "fail", {"open_files_max": 256}),
        ("open files", "warn", {"open_files_max": 1024}),
        ("threads", "warn", {"tasks_max": 512}),
        ("driver", "fail", {"driver": Driver("470.82", "11.4", (H100,))}),
    ],
)
def test_each_thing_that_can_be_wrong(about: str, verdict: str, change: dict[str, object]) -> None:
    """One thing wrong is one finding that says so, with a way out; the rest passes."""
    findings = judge(replace(READY, **change))  # type: ignore[arg-type]
    assert of(findings, about).verdict == verdict
    assert of(findings, about).way_out
    assert worst([each for each in findings if each.about != about]) == {"pass"}


def test_no_limit_is_no_problem() -> None:
    """Limits that are not there pass: unlimited files and threads, no /dev/shm as on macOS, unknown CUDA."""
    free = replace(READY, open_files_max=None, tasks_max=None, shm_bytes=None)
    assert worst(judge(free)) == {"pass"}
    unknown = replace(READY, driver=Driver("590.1", None, (H100,)))
    assert of(judge(unknown), "driver").verdict == "pass"


def test_no_gpu_matters_to_those_who_need_one() -> None:
    """Without a driver a machine is ready for engines on the CPU, and not for a deployment on GPUs."""
    assert of(judge(NO_GPU), "GPU").verdict == "pass"
    assert of(judge(NO_GPU, [SMALL]), "GPU").verdict == "pass"
    found = of(judge(NO_GPU, [SMALL, BIG]), "GPU")
    assert found.verdict == "fail"
    assert "big" in found.text
    assert "small" not in found.text


def test_a_driver_that_does_not_answer_is_told() -> None:
    """nvidia-smi that fails is a warning where nobody needs it, with its own words."""
    broken = replace(NO_GPU, driver_problem="nvidia-smi fails: Driver/library version mismatch")
    found = of(judge(broken), "GPU")
    assert found.verdict == "warn"
    assert "mismatch" in found.text
    assert of(judge(broken, [BIG]), "GPU").verdict == "fail"


def test_an_amd_gpu_is_left_to_the_operator() -> None:
    """AMD's driver in place of NVIDIA's is no failure: what is not checked is said."""
    found = of(judge(replace(NO_GPU, amd_gpu=True), [BIG]), "GPU")
    assert found.verdict == "warn"
    assert "AMD" in found.text


def test_a_gpu_in_use_is_told() -> None:
    """What others hold of a GPU would make an engine fail at its start: its line warns, the others pass."""
    busy = replace(H100, used_bytes=10 * GIB)
    findings = judge(replace(READY, driver=Driver("580", "13.0", (H100, busy))))
    assert of(findings, "GPU 0").verdict == "pass"
    assert of(findings, "GPU 1").verdict == "warn"
    assert "10.0 of 80.0 GiB" in of(findings, "GPU 1").text


def test_more_gpus_than_there_are() -> None:
    """Replicas together, and indexes that do not exist, fail by the name of what asks."""
    assert of(judge(READY, [replace(BIG, replicas=2)]), "GPUs together").verdict == "fail"
    found = judge(READY, [replace(BIG, gpu_indexes=(0, 7))])
    [indexes] = [each for each in found if each.about == "big" and each.verdict == "fail"]
    assert "7" in indexes.text


def test_weights_on_the_cpu_must_fit() -> None:
    """Models that run on the CPU count against memory, those on GPUs don't."""
    tight = replace(READY, memory_available_bytes=10 * GIB)
    assert of(judge(tight, [BIG]), "memory").verdict == "pass"
    assert of(judge(tight, [replace(SMALL, model_bytes=9 * GIB)]), "memory").verdict == "warn"
    assert of(judge(tight, [replace(SMALL, model_bytes=11 * GIB)]), "memory").verdict == "fail"


def test_shared_memory_of_a_default_container_is_too_little_for_two_gpus() -> None:
    """Docker's 64 MiB fail a deployment over several GPUs, and nothing else."""
    container = replace(READY, shm_bytes=64 * 1024**2)
    assert of(judge(container, [BIG]), "shared memory").verdict == "fail"
    one = replace(container, driver=Driver("580", "13.0", (H100,)))
    assert of(judge(one, [replace(BIG, gpus=1)]), "shared memory").verdict == "pass"


def test_what_the_file_asks_for() -> None:
    """An engine that can't be started and a model of the operator's that is not there fail; one to fetch warns."""
    message = "deployments.big: there is no 'vllm' on the PATH. Either install it - or name it in 'binary'."
    wanted = [
        replace(BIG, cannot_start=message),
        replace(SMALL, model_missing="'inferry up' fetches it"),
        replace(SMALL, name="own", model_missing="put it there", model_fetchable=False),
    ]
    by_name = [(each.about, each.verdict, each.way_out) for each in judge(READY, wanted) if each.way_out]
    assert by_name == [
        ("big", "fail", "Either install it - or name it in 'binary'."),
        ("small", "warn", "'inferry up' fetches it"),
        ("own", "fail", "put it there"),
    ]


def test_busy_ports_fail() -> None:
    """A port of the file that is taken is named with its key; without a file nothing is said of ports."""
    taken = BusyPort("gateway.listen", "127.0.0.1:8000", "address already in use")
    found = of(judge(READY, busy=[taken], has_file=True), "ports")
    assert found.verdict == "fail"
    assert "gateway.listen 127.0.0.1:8000" in found.text
    assert not [each for each in judge(READY) if each.about == "ports"]


def test_whatever_is_no_pass_has_a_way_out() -> None:
    """Nobody is left with a problem and no advice, however bad the machine."""
    ruin = replace(
        READY,
        python=(3, 9),
        cores=1,
        driver=None,
        driver_problem="nvidia-smi can't be run",
        memory_available_bytes=0,
        disk_writable=False,
        shm_bytes=0,
        open_files_max=10,
        tasks_max=10,
    )
    findings = judge(
        ruin,
        [replace(BIG, cannot_start="no sentence ends here"), SMALL],
        [BusyPort("k", "a", "w")],
        has_file=True,
    )
    assert [each for each in findings if each.verdict != "pass" and not each.way_out] == []
    assert sum(each.verdict == "fail" for each in findings) >= 7


def test_gpus_that_a_file_names_must_be_there() -> None:
    """Also where the engine could do without: named GPUs that are not there fail, in the words of the file."""
    named = replace(SMALL, gpu_indexes=(0, 1))
    for machine, said in (
        (NO_GPU, "is no GPU"),
        (replace(READY, driver=Driver("580", "13.0", (H100,))), "are 1"),
    ):
        found = [each for each in judge(machine, [named]) if each.about == "small" and each.verdict == "fail"]
        assert len(found) == 1
        assert said in found[0].text
        assert found[0].way_out
    assert worst(judge(READY, [named])) == {"pass"}
    assert worst(judge(replace(NO_GPU, amd_gpu=True), [named])) == {"pass", "warn"}


def test_a_remark_is_no_way_out() -> None:
    """Where the reason ends with a remark in brackets, the way out says what to do as well."""
    flag = "deployments.small.extra_args: vllm has no flag '--x'. (Known flags: vLLM 0.32.0.)"
    [found] = [each for each in judge(READY, [replace(SMALL, cannot_start=flag)]) if each.about == "small"]
    assert found.way_out == "correct it in the file (Known flags: vLLM 0.32.0.)"
