"""`inferry plan`: what people and programs are told, and the file that it writes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from inferry.cli.plan import for_rent
from inferry.planner.facts.own_facts import OwnFacts

from .conftest import Run

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
LOAD = ("--users", "50", "--input", "500", "--output", "200")


def answered(run: Run, *argv: str, code: int = 0) -> dict[str, Any]:
    shown = run("plan", *argv, "--json")
    assert (shown.code, shown.err) == (code, "")
    answer = json.loads(shown.out)
    assert isinstance(answer, dict)
    return answer


def test_the_file_is_right_and_its_launch_command_is_printed(run: Run) -> None:
    """From a model's name to a launch command, offline: plan, config check, up --dry-run."""
    shown = run("plan", MODEL, "--gpu", "rtx4090", *LOAD, "--engine", "vllm", "--write", "inferry.yaml")
    assert shown.code == 0
    assert shown.out.splitlines()[0].startswith(f"{MODEL} for 50 users at once")
    for heading in (
        "MEMORY of each rtx4090",
        "PREDICTED AT THIS LOAD",
        "SETTINGS",
        "COST AND ENERGY",
        "ALTERNATIVES",
    ):
        assert heading in shown.out
    assert "90% RANGE" in shown.out
    assert "\033[" not in shown.out
    assert run("config", "check").code == 0
    dry = run("up", "--dry-run")
    assert dry.code == 0
    assert f"vllm serve {MODEL}" in dry.out
    assert "--max-model-len 4096" in dry.out
    assert "--gpu-memory-utilization" in dry.out


def test_programs_get_the_same_with_ranges(run: Run) -> None:
    """The recommendation keeps the SLO; each prediction lies in its range; memory adds up to the budget."""
    answer = answered(run, MODEL, "--gpu", "rtx4090", *LOAD)
    assert answer["verdict"] == "ok"
    best = answer["recommended"]
    assert best["keeps_slo"]
    for name in ("ttft_ms", "itl_ms", "output_tokens_per_s", "requests_per_s"):
        interval = best["per_replica"][name]
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert best["per_replica"]["itl_ms"]["value"] <= answer["asked"]["itl_ms"]
    memory = best["memory"]
    assert memory["weights"] + memory["kv"] < memory["budget"] <= memory["total"]
    assert best["setup"]["max_sequences"] * 600 * memory["kv_bytes_per_token"] <= memory["kv"]
    for other in answer["alternatives"]:
        assert other["cost"]["usd_per_hour"] > 0
        if other["weights"]["repo"] or other["weights"]["made_while_loading"]:
            assert "compare its answers" in other["weights"]["quality_note"]


def test_what_does_not_fit_is_told_with_ways_out(run: Run) -> None:
    """70B in 16 bit on one 24 GB card: exit code 1, what is missing, and at least two ways out, for both readers."""
    argv = ("meta-llama/Llama-3.1-70B-Instruct", "--gpu", "rtx4090", "--count", "1", "--quant", "native")
    answer = answered(run, *argv, code=1)
    assert answer["verdict"] == "does_not_fit"
    assert answer["short_bytes_per_device"] > 100 * 2**30
    assert len(answer["ways_out"]) >= 2
    assert all(way["memory"]["kv"] > 0 for way in answer["ways_out"])
    shown = run("plan", *argv)
    assert shown.code == 1
    assert "does not fit on rtx4090" in shown.out
    assert "GiB are missing" in " ".join(shown.out.split())
    assert shown.out.count("\n  - ") >= 2


def test_where_the_slo_is_not_kept_the_nearest_and_what_would_do_are_told(run: Run) -> None:
    """Far too many users for one card: exit code 1, less load and more devices, both found by the search."""
    answer = answered(run, MODEL, "--gpu", "rtx4090", "--count", "1", "--users", "2000", code=1)
    assert answer["verdict"] == "not_as_asked"
    assert not answer["recommended"]["keeps_slo"]
    changes = {each["change"]: each["option"] for each in answer["what_would_do"]}
    assert changes["more_devices"]["devices"] > 1
    assert changes["more_devices"]["keeps_slo"]
    assert 0 < changes["less_load"]["capacity"]["requests_at_once"] < 2000


def test_a_budget_too_low_names_what_it_costs(run: Run) -> None:
    """Ten cents an hour are not enough; what keeps the SLO and its price are named."""
    shown = run("plan", MODEL, "--gpu", "rtx4090", *LOAD, "--budget", "0.1")
    assert shown.code == 1
    assert "does not keep the budget" in shown.out
    assert "More money: 1 x rtx4090, 0.74 USD/h" in shown.out


def test_replicas_of_one_host_get_gpus_of_their_own(run: Run) -> None:
    """Several replicas in a file that is right; its dry run shows each of them another GPU."""
    shown = run(
        "plan", MODEL, "--gpu", "rtx4090", "--users", "120", "--engine", "vllm", "--quant", "native", "--write", "a.yaml"
    )  # fmt: skip
    assert shown.code == 0
    text = Path("a.yaml").read_text()
    assert "replicas: 2\n" in text
    assert "gpus: [0, 1] " in text
    assert run("config", "check", "a.yaml").code == 0
    commands = run("up", "a.yaml", "--dry-run").out
    assert [commands.count(f"CUDA_VISIBLE_DEVICES={gpu} ") for gpu in (0, 1)] == [1, 1]


def test_devices_before_bf16_compute_in_fp16(run: Run) -> None:
    """A T4 has no bf16: the file says float16, and the model counts as it is."""
    shown = run(
        "plan",
        "Qwen/Qwen2.5-0.5B-Instruct",
        "--gpu",
        "t4",
        "--users",
        "4",
        "--engine",
        "vllm",
        "--write",
        "a.yaml",
    )
    assert shown.code == 0
    assert "dtype: float16" in Path("a.yaml").read_text()
    assert run("config", "check", "a.yaml").code == 0


def test_a_file_that_is_there_stays(run: Run) -> None:
    """--write refuses to overwrite, before the work; --force does."""
    Path("inferry.yaml").write_text("mine")
    argv = ("plan", MODEL, "--gpu", "rtx4090", *LOAD, "--write", "inferry.yaml")
    shown = run(*argv)
    assert (shown.code, shown.out) == (2, "")
    assert "--force" in shown.err
    assert Path("inferry.yaml").read_text() == "mine"
    assert run(*argv, "--force").code == 0
    assert Path("inferry.yaml").read_text() != "mine"


def test_the_curve_is_a_picture_of_its_own(run: Run) -> None:
    """One SVG document with both plots, the SLO and the plan in words, and nothing from elsewhere."""
    assert run("plan", MODEL, "--gpu", "rtx4090", *LOAD, "--svg", "a.svg").code == 0
    text = Path("a.svg").read_text()
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "First token (TTFT)" in text
    assert "Each further token (ITL)" in text
    assert "this plan" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_each_number_is_explained(run: Run) -> None:
    """--explain: facts with their source, memory and one step part by part, and the price as a formula."""
    shown = run("plan", MODEL, "--gpu", "rtx4090", *LOAD, "--explain")
    assert shown.code == 0
    for heading in (
        "\nFACTS",
        "\nMEMORY, PER DEVICE",
        "\nONE STEP OF A REPLICA (50 at once)",
        "\nCHOICE",
        "\nCOST",
    ):
        assert heading in shown.out
    assert "USD/h / (3600 s x" in shown.out


def test_engines_are_compared_for_the_model(run: Run) -> None:
    """All six, with figures where the planner has any and a reason where it has none."""
    shown = run("plan", MODEL, "--gpu", "rtx4090", *LOAD, "--compare-engines")
    assert shown.code == 0
    assert shown.out.startswith("PREDICTED")
    for title in ("vLLM", "SGLang", "TensorRT-LLM", "Text Generation Inference", "Ollama", "llama.cpp"):
        assert title in shown.out
    assert "CHUNKED PREFILL" in shown.out
    rows = json.loads(run("plan", MODEL, "--gpu", "rtx4090", *LOAD, "--compare-engines", "--json").out)
    assert [row["engine"] for row in rows if row["predicted"]] == ["vllm", "sglang", "tensorrt-llm"]
    assert all(row["why_not_predicted"] for row in rows if not row["predicted"])


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--gpu", "rtx409"), "Did you mean 'rtx4090'?"),
        (("--users", "5", "--rps", "3"), "--users and --rps: say one of them"),
        (("--users", "0"), "--users 0: a number above zero"),
        (("--rps", "-1"), "--rps -1: a number above zero"),
        (("--rps", "nan"), "--rps nan: a number above zero"),
        (("--budget", "0"), "--budget 0: a number above zero"),
        (("--slo", "tfft=2s"), "'tfft' is not known. Did you mean 'ttft'?"),
        (("--slo", "ttft=0"), "'0' is no time above zero"),
        (("--slo", "ttft"), "is no time above zero"),
        (("--slo", "ttft=1s,ttft=2s"), "ttft is there twice"),
        (("--engine", "vlm"), "Did you mean 'vllm'?"),
        (("--quant", "fp9"), "Did you mean 'fp8'?"),
        (("--gpu", ""), "--gpu needs a name"),
        (("--slo", "ttft=200"), "'200' has no unit. Write ttft=200ms or ttft=200s"),
        (("--svg", "nowhere/a.svg"), "--svg nowhere/a.svg: there is no folder nowhere"),
        (("--write", "nowhere/a.yaml"), "--write nowhere/a.yaml: there is no folder nowhere"),
        (("--engine", "llamacpp", "--write", "a.yaml"), "for llama.cpp: it serves GGUF files"),
        (("--context", "100"), "shorter than --input 500 and --output 200 together"),
        (("--input", "99999999"), "at most 10,000,000 tokens"),
        (("--here", "--gpu", "t4"), "--here and --gpu: say one of them"),
    ],
)
def test_what_can_not_be_meant_is_told_with_the_way_out(run: Run, argv: tuple[str, ...], told: str) -> None:
    """The option, its value, and what to write instead; never an answer to another question."""
    shown = run("plan", MODEL, *argv)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("error: ")
    assert told in shown.err


def test_programs_can_tell_what_was_not_planned(run: Run) -> None:
    """Exit code 2 and one JSON object with the words; 1 is an answer: it does not do what is asked."""
    shown = run("plan", MODEL, "--gpu", "rtx409", "--json")
    assert shown.code == 2
    assert json.loads(shown.out)["verdict"] == "not_planned"
    assert "Did you mean 'rtx4090'?" in json.loads(shown.out)["error"]


def test_a_model_of_ones_own_is_read_from_its_config(run: Run) -> None:
    """A folder with a config.json is planned as it is, and the file names the folder; what is no config is refused."""
    folder = Path("mine")
    folder.mkdir()
    fields = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
        "tie_word_embeddings": True, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(fields))
    assert run("plan", "./mine", "--gpu", "l4", "--users", "4", "--write", "a.yaml").code == 0
    assert f"model: file:{folder.absolute()}" in Path("a.yaml").read_text()
    (folder / "config.json").write_text("[]")
    refused = run("plan", "./mine", "--gpu", "l4")
    assert refused.code == 2
    assert "config.json" in refused.err


def test_no_market_place_is_chosen_unasked(run: Run) -> None:
    """Devices to rent have prices that anybody gets; asked for by name, a market place's price is called so."""
    assert all(each.device.price.kind != "market place" for each in for_rent(OwnFacts()) if each.device.price)
    shown = run("plan", MODEL, "--gpu", "rtx-pro-6000", *LOAD)
    assert "market place price of" in shown.out
    assert "the lowest that a market place asked" in " ".join(shown.out.split())
