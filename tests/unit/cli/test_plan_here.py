"""`inferry plan --here` on a machine without GPUs: told by its calibration, or how to take one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from inferry.cli import plan_here
from inferry.cli.hardware_cpu import CpuHere
from inferry.cli.hardware_gpus import GpuHere, GpusHere
from inferry.cli.hardware_here import MachineHere
from inferry.fleet.launch_journal import append_launch
from inferry.planner.calibration import Calibration, EngineCalibration, Fingerprint, Rates, Reading
from inferry.planner.host_speed import HostSpeed, Probe
from inferry.planner.learning import Launch

from .conftest import Run
from .gguf_file import write_gguf

CPU = CpuHere("EPYC", "amd", 2, ("AVX2",), 16 * 2**30, 8 * 2**30)
SPEED = HostSpeed(30e9, 20e-6, 30e9, 30e9, 0.0, 30e9, 100e9, 30e9, 0.01)
RATE = Reading(30e9, 0.01, 15)
SHORT = ("--input", "300", "--output", "100")
"""The tiny models were made for 512 tokens."""


def calibration(model: str) -> Calibration:
    probes = tuple(Probe(32, 32, at_once, 10.0, 5.0) for at_once in (1, 2, 4))
    engine = EngineCalibration("llamacpp", None, model, "q8_0", 2, 0.0, probes, SPEED, 50_000_000)
    host = Fingerprint("EPYC", 2, 16 * 2**30)
    return Calibration(
        host=host, wall_s=0.0, cpu=Rates(RATE, {"fp32": RATE}), others_busy=0.0, engines=(engine,)
    )


@dataclass
class Here:
    """This machine, as a test wants it."""

    monkeypatch: pytest.MonkeyPatch

    def set(self, known: Calibration | None = None, gpus: tuple[GpuHere, ...] = ()) -> None:
        machine = MachineHere(CPU, GpusHere(gpus, None), known)
        for place in ("inferry.cli.hardware_here.machine_here", f"{plan_here.__name__}.machine_here"):
            self.monkeypatch.setattr(place, lambda _: machine)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def test_without_a_calibration_the_command_is_told(run: Run, here: Here, model: Path) -> None:
    """Memory is planned, speed is not made up; the exit code says that nothing is confirmed."""
    here.set()
    shown = run("plan", str(model), "--here", *SHORT, "--users", "2")
    assert (shown.code, shown.err) == (1, "")
    said = " ".join(shown.out.split())
    assert f"inferry calibrate --engine llamacpp --model file:{model}" in said
    assert "PREDICTED" not in said
    told = json.loads(run("plan", str(model), "--here", *SHORT, "--users", "2", "--json").out)
    assert (told["verdict"], told["predicted"], told["slots"]) == ("not_measured", None, 2)


def test_a_calibrated_machine_is_planned_with_ranges(run: Run, here: Here, model: Path) -> None:
    """Figures with their ranges, memory by part, and a file that passes its check."""
    here.set(calibration("tiny"))
    argv = ("plan", str(model), "--here", *SHORT, "--users", "2", "--explain", "--write", "a.yaml")
    shown = run(*argv)
    assert shown.code == 0
    for words in (
        "PREDICTED AT THIS LOAD",
        "RANGE",
        "carries at once",
        "ONE TOKEN OF EACH STREAM",
        "its files",
    ):
        assert words in shown.out
    assert "Calibrated with" not in shown.out
    written = Path("a.yaml").read_text()
    assert f"model: file:{model}" in written
    assert "parallel: 2" in written
    assert run("config", "check", "a.yaml").code == 0
    told = json.loads(run("plan", str(model), "--here", *SHORT, "--users", "2", "--json").out)
    assert told["verdict"] == "ok"
    for interval in (told["predicted"][name] for name in ("ttft_ms", "itl_ms", "output_tokens_per_s")):
        assert interval["low"] < interval["value"] < interval["high"]


def test_another_models_calibration_is_said(run: Run, here: Here, model: Path) -> None:
    """The same format, so it is used, with wider ranges and the command that would be better."""
    here.set(calibration("other"))
    said = " ".join(run("plan", str(model), "--here", *SHORT, "--users", "8").out.split())
    assert "Calibrated with other, not with this model" in said
    assert "4 requests at once at most: 8 are beyond" in said


def test_what_launches_taught_is_shown_beside(run: Run, here: Here, model: Path, tmp_path: Path) -> None:
    """A launch here took twice the time per token: the plan moves, and says so; --no-learning leaves it out."""
    here.set(calibration("tiny"))
    launch = Launch(
        wall_s=1.0,
        engine="llamacpp",
        device="EPYC",
        model="tiny",
        family="tiny",
        weights="q8_0",
        predicted={"itl_ms": 1.0},
        measured={"itl_ms": 2.0},
    )
    append_launch(tmp_path / "home", launch)
    argv = ("plan", str(model), "--here", *SHORT, "--users", "1", "--json")
    learned, plain = (json.loads(run(*argv, *more).out) for more in ((), ("--no-learning",)))
    assert learned["predicted"]["itl_ms"]["value"] > 1.2 * plain["predicted"]["itl_ms"]["value"]
    assert learned["learned"][0]["without"] == pytest.approx(plain["predicted"]["itl_ms"]["value"])
    assert plain["learned"] == []
    assert "Learned from launches" in run(*argv[:-1]).out


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--engine", "sglang"), "this model is for llamacpp"),
        (("--svg", "a.svg"), "--svg: this machine has no GPU"),
        (("--quant", "fp8"), "is quantized already, to gguf"),
    ],
)
def test_what_a_cpu_can_not_be_asked_is_told(
    run: Run, here: Here, model: Path, argv: tuple[str, ...], told: str
) -> None:
    """The option and the way out, no answer to another question."""
    here.set()
    shown = run("plan", str(model), "--here", *SHORT, *argv)
    assert (shown.code, shown.out) == (2, "")
    assert told in shown.err


def test_a_config_without_weights_is_an_estimate(run: Run, here: Here, tmp_path: Path) -> None:
    """Whatever its file is called; its own bytes are no weights."""
    here.set()
    fields = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 100,
        "num_attention_heads": 4, "max_position_embeddings": 512,
    }  # fmt: skip
    for name in ("config.json", "other.json"):
        (tmp_path / name).write_text(json.dumps(fields))
        shown = run("plan", f"./{name}", "--here", *SHORT)
        assert "estimated from its config" in shown.out
        assert "Its files are not on this machine" in shown.out


def test_formats_without_a_cpu_kernel_are_refused(run: Run, here: Here) -> None:
    """FP8 weights run on GPUs; the way out is named."""
    here.set()
    shown = run("plan", "Qwen/Qwen3-8B-FP8", "--here")
    assert shown.code == 2
    assert "not supported on CPUs. llama.cpp runs GGUF files there" in shown.err


def test_an_ollama_name_is_no_file_for_a_cpu(run: Run, here: Here) -> None:
    """Its file is Ollama's; the repository that it was made of is the way out."""
    here.set()
    shown = run("plan", "llama3.2:1b", "--here")
    assert shown.code == 2
    assert "made of: meta-llama/Llama-3.2-1B-Instruct" in shown.err


def test_a_gpu_that_nobody_knows_is_named(run: Run, here: Here, model: Path) -> None:
    """Its CPU is no stand-in for it."""
    here.set(gpus=(GpuHere(0, "Future GPU 9", 2**34, 0),))
    shown = run("plan", str(model), "--here", *SHORT)
    assert shown.code == 2
    assert "does not know this machine's Future GPU 9" in shown.err


def test_a_model_that_is_too_large_tells_what_is_missing(run: Run, here: Here) -> None:
    """In GiB, with a way out."""
    here.set()
    shown = run("plan", "Qwen/Qwen3-32B", "--here")
    assert shown.code == 1
    assert "It does not fit on this machine with vLLM" in shown.out
    assert "8.0 GiB are free" in " ".join(shown.out.split())
