"""How fast engines are in a simulation: what is asked first, and what is said where nobody knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferry.cli.hardware_gpus import GpusHere
from inferry.cli.hardware_here import MachineHere
from inferry.cli.simulate_timing import Timings, TimingWish
from inferry.cli.simulate_timing_file import read_timing
from inferry.core.config_file import load_file
from inferry.core.errors import ConfigError
from inferry.simulate.timing import EngineTiming

from .gguf_file import write_gguf
from .test_plan_here import CPU, SPEED, calibration

FILE = """\
deployments:
  chat:
    engine: vllm
    model: hf:meta-llama/Llama-3.1-8B-Instruct
    context_tokens: 8192
    tensor_parallel: 2
    scaling: {max: 4, start_s: 77, slo: {ttft_ms: 2000}}
  made-up:
    engine: simulated
    ttft_ms: 100
    itl_ms: 20
    parallel: 8
  theirs:
    engine: openai
    model: m
    endpoints: [http://127.0.0.1:1/v1]
  drafted:
    engine: vllm
    model: hf:meta-llama/Llama-3.1-8B-Instruct
    speculative: {method: ngram}
  big:
    engine: vllm
    model: hf:meta-llama/Llama-3.1-70B-Instruct
  unheard-of:
    engine: vllm
    model: file:/no/such/model
"""


@pytest.fixture
def timings(tmp_path: Path) -> Timings:
    path = tmp_path / "inferry.yaml"
    path.write_text(FILE, encoding="utf-8")
    return Timings(load_file(path, {}), TimingWish(gpu="h100-80g"), {"INFERRY_HOME": str(tmp_path)})


def test_the_planner_knows_gpus(timings: Timings) -> None:
    """With its price and range; the file says how long a start takes."""
    known = timings.of("chat")
    assert (known.source, known.gpus, known.timing.start_s) == ("planner", 2, 77)
    assert known.price_per_gpu_hour
    assert any("90%" in each for each in known.doubts)
    assert "Llama-3.1-8B-Instruct on 2 x h100-80g" in known.says


def test_whoever_tells_the_timing_prompts_are_bounded_by_the_context(
    timings: Timings, tmp_path: Path
) -> None:
    """The deployment's, the model's own where it says none; in a file by hand, too, unless that says another one."""
    assert timings.of("chat").timing.context_tokens == 8192
    assert timings.of("made-up").timing.context_tokens == 8192
    path = tmp_path / "timing.yaml"
    path.write_text("step_s: 0.02\n", encoding="utf-8")
    by_hand = Timings(timings.loaded, TimingWish(file=path), {})
    assert by_hand.of("chat").timing.context_tokens == 8192
    assert by_hand.of("drafted").timing.context_tokens is None
    path.write_text("context_tokens: 500\n", encoding="utf-8")
    assert by_hand.of("chat").timing.context_tokens == 500


def test_a_simulated_engine_is_as_it_says(timings: Timings) -> None:
    """Whatever the GPU."""
    known = timings.of("made-up")
    assert known.source == "settings"
    assert known.timing.step_s == 0.02
    assert known.timing.place_s + known.timing.step_s == pytest.approx(0.1)
    assert known.timing.sequences_max == 8


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("theirs", "deployments.theirs: engine 'openai' is somebody else's"),
        ("drafted", "deployments.drafted: the planner has no words for all that it says"),
        ("big", "does not fit on 1 x h100-80g"),
        ("unheard-of", "deployments.unheard-of.model: "),
    ],
)
def test_where_nobody_knows_the_way_out_is_told(timings: Timings, name: str, said: str) -> None:
    """A file with figures always is one."""
    with pytest.raises(ConfigError) as caught:
        timings.of(name)
    assert said in caught.value.message
    assert "--timing FILE" in caught.value.message


def test_a_calibrated_cpu_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, by what was measured here; else the command that measures it is told."""
    write_gguf(tmp_path / "tiny.gguf")
    path = tmp_path / "inferry.yaml"
    path.write_text(
        "deployments:\n  chat: {engine: llamacpp, model: file:tiny.gguf, parallel: 2, context_tokens: 256}\n",
        encoding="utf-8",
    )
    timings = Timings(load_file(path, {}), TimingWish(), {"INFERRY_HOME": str(tmp_path)})
    place = "inferry.cli.hardware_here.machine_here"
    monkeypatch.setattr(place, lambda _: MachineHere(CPU, GpusHere((), None), None))
    with pytest.raises(
        ConfigError, match="nobody measured how fast llamacpp is on this CPU with q8_0: 'inferry calibrate'"
    ):
        timings.of("chat")
    monkeypatch.setattr(place, lambda _: MachineHere(CPU, GpusHere((), None), calibration("tiny")))
    known = timings.of("chat")
    assert (known.source, known.gpus) == ("calibration", 0)
    assert (known.timing.sequences_max, known.timing.kv_tokens) == (2, 512)
    assert known.timing.request_s == SPEED.request_s
    assert "120 s are assumed" in known.doubts[-1]


def test_figures_by_hand_are_for_all_or_by_name(tmp_path: Path) -> None:
    """What is left out is the default, and said; a file about others says nothing."""
    path = tmp_path / "timing.yaml"
    path.write_text("step_s: 0.05\ngpus: 2\n", encoding="utf-8")
    known = read_timing(path, "chat")
    assert known is not None
    assert (known.timing, known.gpus) == (EngineTiming(step_s=0.05), 2)
    assert "prefill_tokens_per_s" in known.doubts[0]
    path.write_text(json.dumps({"chat": {"step_s": 0.06}}), encoding="utf-8")
    by_name = read_timing(path, "chat")
    assert by_name is not None
    assert by_name.timing.step_s == 0.06
    assert read_timing(path, "other") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step: 0.05", "step: there is no such figure. Did you mean 'step_s'?"),
        ("step_s: fast", "step_s: must be a number from 0 on, not 'fast'"),
        ("sequences_max: 0", "sequences_max: must be a whole number above 0, not 0"),
        ("kv_tokens: 1.5", "kv_tokens: must be a whole number above 0, not 1.5"),
        ("chat: {step_s: -1}", "chat.step_s: must be a number from 0 on, not -1"),
        ("[1, 2]", "must hold figures such as"),
        ("{", "is neither JSON nor YAML"),
        ('{"format": "inferry.bench", "version": 99}', "version 99 of the format"),
    ],
)
def test_mistakes_name_the_figure(tmp_path: Path, text: str, said: str) -> None:
    """With file, key, value and bound."""
    path = tmp_path / "timing.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_timing(path, "chat")
    assert said in caught.value.message
    assert str(path) in caught.value.message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(ConfigError, match=r"gone.json: can't be read: No such file"):
        read_timing(tmp_path / "gone.json", "chat")
