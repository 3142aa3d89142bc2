"""How the machine is read: from folders laid out as the kernel does, and from nvidia-smi's own format."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from xml.etree import ElementTree

import pytest

from inferry.cli import machine_readings
from inferry.cli.machine_readings import (
    busy_port,
    driver_of,
    read_disk,
    read_driver,
    read_machine,
    read_memory,
)
from inferry.engines.machine import Driver, Gpu

MIB = 1024**2
# The elements that are read, as `nvidia-smi -q -x` has had them since its version 418; made up, not recorded.
SMI_PAGE = """\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>580.95.05</driver_version>
  <cuda_version>13.0</cuda_version>
  <attached_gpus>2</attached_gpus>
  <gpu id="00000000:01:00.0">
    <product_name>NVIDIA H100 80GB HBM3</product_name>
    <fb_memory_usage><total>81559 MiB</total><reserved>500 MiB</reserved><used>1 MiB</used></fb_memory_usage>
    <bar1_memory_usage><total>131072 MiB</total><used>2 MiB</used></bar1_memory_usage>
  </gpu>
  <gpu id="00000000:02:00.0">
    <product_name>NVIDIA GB10</product_name>
    <fb_memory_usage><total>N/A</total><used>N/A</used></fb_memory_usage>
  </gpu>
</nvidia_smi_log>
"""


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A stand-in for nvidia-smi on the PATH."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_what_nvidia_smi_says() -> None:
    """Driver, CUDA and each GPU's memory are read; one that shares the machine's memory has none of its own."""
    gpus = (Gpu("NVIDIA H100 80GB HBM3", 81559 * MIB, MIB), Gpu("NVIDIA GB10", 0, 0))
    assert driver_of(SMI_PAGE) == Driver("580.95.05", "13.0", gpus)
    with pytest.raises(ElementTree.ParseError):
        driver_of("No devices were found")


def test_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on the PATH is run, and its page read."""
    (tmp_path / "page.xml").write_text(SMI_PAGE)
    nvidia_smi(tmp_path, monkeypatch, f"test \"$*\" = '-q -x' && cat '{tmp_path}/page.xml'")
    driver, problem = read_driver()
    assert problem is None
    assert driver is not None
    assert len(driver.gpus) == 2


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "version mismatch"),
        ("exit 9", "exit code 9"),
        ("echo no xml", "can't be read"),
        ("sleep 30", "did not answer"),
    ],
)
def test_a_driver_that_does_not_work(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing, babbling or hanging nvidia-smi is told in words, and nothing breaks."""
    nvidia_smi(tmp_path, monkeypatch, f"exec {script}" if script.startswith("sleep") else script)
    monkeypatch.setattr(machine_readings, "NVIDIA_SMI_TIMEOUT_S", 0.5 if "sleep" in script else 20)
    driver, problem = read_driver()
    assert driver is None
    assert problem is not None
    assert said in problem


def test_no_nvidia_smi_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program there is no driver and no complaint."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_driver() == (None, None)


def kernel(folder: Path, **files: str) -> tuple[Path, Path]:
    """Folders as /proc and /sys/fs/cgroup; `__` in a name stands for `/`."""
    texts = {"proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 800 kB\nHugePages_Total: 0\n"}
    texts |= {name.replace("__", "/").replace("_DOT_", "."): text for name, text in files.items()}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "proc", folder / "cgroup"


def test_memory_of_the_machine(tmp_path: Path) -> None:
    """Without a cgroup's limit the machine's own figures count; `max` is no limit."""
    assert read_memory(*kernel(tmp_path / "a")) == (1000 * 1024, 800 * 1024)
    unlimited = kernel(tmp_path / "b", cgroup__memory_DOT_max="max\n")
    assert read_memory(*unlimited) == (1000 * 1024, 800 * 1024)
    assert read_memory(tmp_path / "none", tmp_path / "none") == (None, None)


def test_memory_of_a_container(tmp_path: Path) -> None:
    """A limit of cgroup v2 at the root that a container sees, less what it uses already."""
    places = kernel(tmp_path, cgroup__memory_DOT_max="409600\n", cgroup__memory_DOT_current="204800\n")
    assert read_memory(*places) == (409600, 204800)


def test_the_tightest_cgroup_counts(tmp_path: Path) -> None:
    """A service in a slice: limits of the slices above hold as well."""
    places = kernel(
        tmp_path,
        proc__self__cgroup="0::/system.slice/inferry.service\n",
        cgroup__system_DOT_slice__memory_DOT_max="102400\n",
        cgroup__system_DOT_slice__inferry_DOT_service__memory_DOT_max="409600\n",
    )
    total, _ = read_memory(*places)
    assert total == 102400


def test_memory_of_an_old_container(tmp_path: Path) -> None:
    """cgroup v1 has its own file, and says no limit by a number beyond all memory."""
    limit = "cgroup__memory__memory_DOT_limit_in_bytes"
    assert read_memory(*kernel(tmp_path / "a", **{limit: "409600"}))[0] == 409600
    assert read_memory(*kernel(tmp_path / "b", **{limit: "9223372036854771712"}))[0] == 1000 * 1024


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """The nearest folder that exists tells."""
    free, writable = read_disk(tmp_path / "not" / "yet")
    assert free is not None
    assert free > 0
    assert writable


def test_ports() -> None:
    """A port that somebody listens on is busy, with the system's words; a free one is not."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = busy_port("gateway.listen", "127.0.0.1", port)
    assert found is not None
    assert found.address == f"127.0.0.1:{port}"
    assert "in use" in found.why
    assert busy_port("gateway.listen", "127.0.0.1", port) is None


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    """Every reading of the machine that runs the tests makes sense."""
    machine = read_machine(tmp_path)
    assert machine.python >= (3, 11)
    assert 1 <= machine.cores <= machine.cores_of_machine
    assert machine.disk_folder == str(tmp_path / "models")
    assert machine.disk_writable
    if machine.memory_bytes is not None and machine.memory_available_bytes is not None:
        assert 0 < machine.memory_available_bytes <= machine.memory_bytes
