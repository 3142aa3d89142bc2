"""`inferry calibrate`: what it measures, keeps and says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from inferry.cli import calibrate_machine, gpu_speed
from inferry.cli.hardware_cpu import CpuHere
from inferry.cli.hardware_gpus import GpuHere, GpusHere
from inferry.cli.hardware_here import MachineHere, device_list
from inferry.cli.machine_speed import reading
from inferry.cli.main import app
from inferry.core.errors import ConfigError
from inferry.fleet.calibration_file import read_calibration, write_calibration
from inferry.fleet.launch_journal import append_launch
from inferry.planner.calibration import (
    Calibration,
    EngineCalibration,
    Fingerprint,
    Rates,
    Reading,
    measured_device,
    warnings_of,
)
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.host_speed import HostSpeed, Probe
from inferry.planner.learning import Launch
from inferry.planner.setup import Setup

HOST = Fingerprint("EPYC", 2, 2**34)
SPEED = HostSpeed(4e10, 2e-5, 4e10, 9e10, 0.8, 2e10, 1e11, 6e10, 0.01)


def calibration(busy: float = 0.0, spread: float = 0.01) -> Calibration:
    engine = EngineCalibration(
        "llamacpp", None, "smol", "q4_1", 2, 1e9, (Probe(32, 32, 1, 90.0, 7.0),), SPEED, 46_000_000
    )
    rates = Rates(Reading(4e10, spread, 15), {"fp32": Reading(2e11, 0.02, 15)})
    return Calibration(host=HOST, wall_s=1e9, cpu=rates, others_busy=busy, engines=(engine,))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path))
    return tmp_path


def test_what_is_measured_is_kept(home: Path) -> None:
    """It comes back as it was written; on another machine it does not come back."""
    write_calibration(home, calibration())
    assert read_calibration(home) == calibration()
    assert read_calibration(home, HOST) == calibration()
    assert read_calibration(home, Fingerprint("EPYC", 4, 2**34)) is None


def test_a_damaged_file_is_told(home: Path) -> None:
    """No traceback: the file, what is wrong with it, and the two ways out."""
    (home / "calibration.json").write_text("{")
    said = CliRunner().invoke(app, ["calibrate", "--show"])
    assert isinstance(said.exception, ConfigError)
    assert "calibration.json: is damaged" in said.exception.message
    assert "--forget" in said.exception.message


def test_a_damaged_file_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring again is a way out, as the message says."""
    (home / "calibration.json").write_text("{")
    monkeypatch.setattr("inferry.cli.calibrate_machine.measure_machine", lambda *_, **__: calibration())
    assert CliRunner().invoke(app, ["calibrate"]).exit_code == 0
    assert read_calibration(home) == replace(calibration(), engines=())


def test_what_is_known_is_shown_and_forgotten(home: Path) -> None:
    """--show tells the machine's rates, the engine's constants and what launches taught; --forget removes all of it."""
    write_calibration(home, calibration())
    taught = Launch(
        wall_s=1e9, engine="llamacpp", device="EPYC", model="smol", weights="q4_1",
        predicted={"memory_bytes": 100.0}, measured={"memory_bytes": 120.0},
    )  # fmt: skip
    append_launch(home, taught)
    words = CliRunner().invoke(app, ["calibrate", "--show"]).stdout
    assert "40 (middle half within 1%, 15 runs) GB/s" in words
    assert "llamacpp with q4_1" in words
    assert "memory_bytes: x1.18 from 1 launch; off by 17% without it" in words
    known = json.loads(CliRunner().invoke(app, ["calibrate", "--show", "--json"]).stdout)
    assert known["calibration"]["cpu"]["bandwidth_bytes_per_s"]["value"] == 4e10
    assert known["learned"][0]["corrections"]["memory_bytes"]["launches"] == 1
    assert "the calibration and 1 launches" in CliRunner().invoke(app, ["calibrate", "--forget"]).stdout
    assert "Nothing was measured yet" in CliRunner().invoke(app, ["calibrate", "--show"]).stdout


def test_noise_is_told() -> None:
    """Others' use of the cores, and repetitions that differ, each in words with the number; a quiet machine says nothing."""
    assert warnings_of(calibration()) == []
    busy, noisy = warnings_of(calibration(busy=0.4, spread=0.2))
    assert "40% of the cores" in busy
    assert "bandwidth by 20%" in noisy


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--engine", "llamacpp"], "go together"),
        (["--model", "file:m.gguf"], "go together"),
        (["--show", "--forget"], "exclude each other"),
    ],
)
def test_contradictions_are_refused(home: Path, options: list[str], says: str) -> None:
    """Before anything is measured."""
    error = CliRunner().invoke(app, ["calibrate", *options]).exception
    assert isinstance(error, ConfigError)
    assert says in error.message


def test_without_numpy_it_says_how_to_get_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core install has no numpy."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'inferry\[calibrate\]'"):
        calibrate_machine.measure_machine({}, quick=True)


def test_readings_are_medians() -> None:
    """Of five values, the middle one; the spread is the distance of the quartiles relative to it."""
    assert reading([10.0, 8.0, 12.0, 9.0, 50.0]) == Reading(10.0, 0.3, 5)


def test_others_are_told_from_us(tmp_path: Path) -> None:
    """Of the cores' time, what our own children used is not others'."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 0 1000 0 0 0 0 0 0\n")
    ours_s = 5.0
    busyness = calibrate_machine.Busyness(tmp_path, lambda: ours_s)
    assert busyness.others(2) == 0.0
    stat.write_text("cpu  100000000 0 0 1000 0 0 0 0 0 0\n")
    assert busyness.others(2) == 1.0
    ours_s = 1e9
    assert busyness.others(2) == 0.0


def test_measured_rates_replace_the_makers() -> None:
    """Bandwidth and each type that was measured; a type that was not keeps the catalog's figure."""
    device = find_device("h100-80g")
    rates = Rates(Reading(2.9e12, 0.01, 20), {"bf16": Reading(7e14, 0.01, 20)})
    measured = measured_device(device, rates)
    assert measured.bandwidth_bytes_per_s == 2.9e12
    assert measured.flops_per_s["bf16"] == 7e14
    assert measured.flops_per_s["fp8"] == device.flops_per_s["fp8"]


def test_a_gpu_plan_keeps_the_makers_rates() -> None:
    """The planner's constants were fitted on makers' peaks: measured rates in their place would count a card's distance
    from its peak twice."""
    name = "NVIDIA H100 80GB HBM3"
    rates = Rates(Reading(2.9e12, 0.01, 20), {"bf16": Reading(7e14, 0.01, 20)})
    cpu = Rates(Reading(4e10, 0.01, 15), {"fp32": Reading(2e11, 0.01, 15)})
    known = Calibration(
        host=Fingerprint("EPYC", 2, 2**34, (name,)), wall_s=1e9, cpu=cpu, others_busy=0.0, gpus={name: rates}
    )
    gpus = GpusHere((GpuHere(0, name, 81_559 * 2**20, 0),), None)
    machine = MachineHere(CpuHere("EPYC", "amd", 2, (), 2**34, None), gpus, known)
    gpu = device_list(machine)[0]
    assert gpu.bandwidth_bytes_per_s == find_device("h100-80g").bandwidth_bytes_per_s
    assert gpu.flops_per_s == find_device("h100-80g").flops_per_s


class FakeTensor:
    nbytes = gpu_speed.COPY_BYTES

    def to(self, kind: object) -> FakeTensor:
        return self

    def copy_(self, other: FakeTensor) -> FakeTensor:
        return self

    def __matmul__(self, other: FakeTensor) -> FakeTensor:
        return self


class FakeEvent:
    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: FakeEvent) -> float:
        return 2.0  # ms


class FakeDevice:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_gpus_are_measured_once_per_kind() -> None:
    """By events of CUDA (here a stand-in for torch; it was not run on a GPU): a copy counts its bytes twice, a product
    2 n^3 operations; two equal GPUs are one entry."""
    cuda = SimpleNamespace(
        device_count=lambda: 2,
        get_device_name=lambda index: "L4",
        device=lambda index: FakeDevice(),
        Event=FakeEvent,
    )
    torch = SimpleNamespace(
        cuda=cuda, empty=lambda *_, **__: FakeTensor(), empty_like=lambda _: FakeTensor(), uint8=1, float16=2,
        bfloat16=3, float32=4, randn=lambda *_, **__: FakeTensor(),
    )  # fmt: skip
    found = gpu_speed.main(torch)
    assert list(found) == ["L4"]
    assert found["L4"]["bandwidth"][0] == pytest.approx(2 * gpu_speed.COPY_BYTES / 2e-3)
    assert found["L4"]["bf16"] == [pytest.approx(2 * gpu_speed.MATRIX**3 / 2e-3)] * gpu_speed.REPEATS


def test_what_a_gpu_launch_taught_is_shown_of_its_setup(home: Path) -> None:
    """Formats are told, and what isn't KV cache as a difference in bytes."""
    gib = 1024.0**3
    plain = Launch(
        wall_s=1e9, engine="vllm", device="l4", model="m", weights="bf16", setup=Setup("vllm"),
        predicted={"rest_bytes": 10 * gib}, measured={"rest_bytes": 11 * gib},
    )  # fmt: skip
    append_launch(home, plain)
    append_launch(home, replace(plain, setup=Setup("vllm", kv="fp8"), measured={"rest_bytes": 12 * gib}))
    words = CliRunner().invoke(app, ["calibrate", "--show"]).stdout
    assert "  m (bf16, fp8 cache) with vllm on l4\n    rest_bytes: +1.8" in words
    assert "  m (bf16, bf16 cache) with vllm on l4\n    rest_bytes: +0.9" in words
    assert "GiB from 1 launch and 1 other model; off by 9% without it" in words


def test_an_engine_that_can_t_be_calibrated_is_refused_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured, with those that can."""
    monkeypatch.setattr(calibrate_machine, "measure_machine", lambda *_, **__: pytest.fail("measured"))
    said = CliRunner().invoke(app, ["calibrate", "--engine", "nonsense", "--model", "file:m.gguf"])
    assert isinstance(said.exception, ConfigError)
    assert "llamacpp and vllm" in said.exception.message


@pytest.mark.slow
def test_a_machine_is_measured(home: Path) -> None:
    """On the machine of this test, quickly: rates in the range of anything that runs Python."""
    pytest.importorskip("numpy")
    said = CliRunner().invoke(app, ["calibrate", "--quick", "--json"])
    assert said.exit_code == 0, said.exception
    cpu = json.loads(said.stdout)["calibration"]["cpu"]
    assert 1e9 < cpu["bandwidth_bytes_per_s"]["value"] < 1e13
    assert 1e9 < cpu["flops_per_s"]["fp32"]["value"] < 1e14
