"""`inferry plan`: what is said beside the figures, and how it fits a narrow terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.plan_text import table

from .conftest import Run

EIGHT_B = "meta-llama/Llama-3.1-8B-Instruct"
SEVENTY_B = "meta-llama/Llama-3.1-70B-Instruct"


def told(run: Run, *argv: str, code: int) -> str:
    """All that is printed, on one line."""
    shown = run("plan", *argv)
    assert shown.code == code
    return " ".join(shown.out.split())


def test_why_more_devices_than_a_host_has_do_not_help(run: Run) -> None:
    """16 H100 are two hosts: one replica is planned within one, and that is said."""
    text = told(run, "deepseek-ai/DeepSeek-R1", "--gpu", "h100-80g", "--count", "16", "--users", "5", code=1)
    assert "Of the 16 devices only 8 are in one host" in text
    assert "over several hosts is not planned" in text


def test_ways_out_name_the_options_that_ask_for_them(run: Run) -> None:
    """Another format or engine than was asked for: the option; and asked for, it is planned."""
    argv = (SEVENTY_B, "--gpu", "h100-80g", "--count", "1", "--engine", "vllm")
    text = told(run, *argv, "--quant", "native", code=1)
    assert "if you find or make a checkpoint: --quant awq" in text
    assert "if you find or make a checkpoint: --quant awq" in told(
        run, *argv, "--quant", "native", "--json", code=1
    )
    assert "weights awq (to be found or made)" in told(run, *argv, "--users", "4", "--quant", "awq", code=0)


def test_what_is_to_be_found_is_not_written(run: Run) -> None:
    """The plan is shown; no file names a checkpoint that nobody knows."""
    argv = ("plan", SEVENTY_B, "--gpu", "h100-80g", "--users", "4", "--quant", "awq", "--write", "a.yaml")
    shown = run(*argv)
    assert shown.code == 1
    assert "no file is known here" in shown.err
    assert not Path("a.yaml").exists()


def test_engines_that_run_it_are_named_where_those_asked_for_do_not(run: Run) -> None:
    """A V100 is too old for vLLM, SGLang and TensorRT-LLM; llama.cpp runs there."""
    text = told(run, EIGHT_B, "--gpu", "v100-32g", "--users", "2", code=1)
    assert "compute capability 7.5 or more is needed" in text
    assert "llama.cpp (--engine llamacpp)" in text


def test_what_binds_the_capacity_is_explained(run: Run) -> None:
    """One request more, its TTFT and ITL, and which of them breaks the SLO."""
    text = told(run, EIGHT_B, "--gpu", "h100-80g", "--users", "5", "--slo", "itl=15ms", "--explain", code=0)
    assert "of 15 ms: ITL would break the SLO." in text


def test_replicas_over_hosts_add_up(run: Run) -> None:
    """As many as one host takes are in the file; what is left over is named."""
    argv = ("--gpu", "l4", "--rps", "20", "--quant", "native", "--engine", "vllm", "--write", "a.yaml")
    assert run("plan", EIGHT_B, *argv).code == 0
    text = Path("a.yaml").read_text()
    planned = int(text.split("# The plan has ")[1].split()[0])
    here = int(text.split("one host takes ")[1].split(":")[0])
    full = int(text.split("start this on ")[1].split()[0])
    rest = int(text.split("'replicas: ")[1].split("'")[0]) if "one more with" in text else 0
    assert full * here + rest == planned > here


def test_replicas_of_ollama_share_the_gpus_that_they_see(run: Run) -> None:
    """Nothing gives each its own: the file says what to look at."""
    argv = (
        "plan",
        "llama3.1:8b",
        "--gpu",
        "rtx4090",
        "--users",
        "30",
        "--engine",
        "ollama",
        "--write",
        "a.yaml",
    )
    assert run(*argv).code == 0
    text = Path("a.yaml").read_text()
    assert "gpus: [0, 1]    # seen by all replicas" in text
    assert "Ollama chooses among them" in text


def test_apple_chips_get_no_numbers_of_gpus(run: Run, tmp_path: Path) -> None:
    """Ollama by Metal, in a file that is right."""
    shown = run("plan", "llama3.1:8b", "--gpu", "m3-ultra", "--users", "2", "--write", "a.yaml")
    assert shown.code == 0
    assert "engine: ollama" in Path("a.yaml").read_text()
    assert "gpus" not in Path("a.yaml").read_text()
    assert run("config", "check", "a.yaml").code == 0


@pytest.mark.parametrize(("width", "lines"), [(100, 2), (60, 4)])
def test_a_table_that_is_too_wide_becomes_lines(width: int, lines: int) -> None:
    """Each row its first cell, then the others after their headings; nothing is wider than the terminal."""
    text = table([("WHAT", "ONE", "TWO"), ("a" * 30, "b" * 30, "c d " * 10)], width)
    if width == 60:
        assert all(len(line) <= width for line in text.splitlines())
        assert "ONE " + "b" * 30 in text
    assert len(text.splitlines()) == lines
