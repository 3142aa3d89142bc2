"""What we tell and read of SGLang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from inferry.core.errors import ConfigError
from inferry.core.launch import KEY_MARK, CommandPlace, EngineCommand
from inferry.core.server_engines import SglangDeployment
from inferry.engines.adapter import EngineMetrics, Verdict
from inferry.engines.sglang import SglangAdapter

from .golden_files import assert_golden
from .spec_text import SECRET, at_8123, spec_text

FULL: dict[str, object] = {
    "context_tokens": 8192,
    "parallel": 64,
    "tensor_parallel": 2,
    "pipeline_parallel": 2,
    "data_parallel": 2,
    "dtype": "bfloat16",
    "quantization": "fp8",
    "memory_fraction": 0.85,
    "batched_tokens": 4096,
    "chunked_prefill": True,
    "prefix_caching": False,
    "kv_cache_dtype": "fp8_e5m2",
    "lora": {"law": "/adapters/law", "odd": "/adapters/a=b"},
    "speculative": {"method": "eagle3", "model": "org/heads", "tokens": 3},
    "trust_remote_code": True,
    "gpus": [0, 1, 2, 3, 4, 5, 6, 7],
    "env": {"NCCL_DEBUG": "WARN"},
    "extra_args": ["--schedule-policy=lpm", "--enable-mixed-chunk"],
}
METRICS = Path(__file__).parents[2] / "fixtures" / "metrics" / "sglang-0.5.23.txt"


def adapter(**fields: object) -> SglangAdapter:
    base = {"engine": "sglang", "model": "file:/models/m", "binary": sys.executable}
    return SglangAdapter("chat", SglangDeployment.model_validate({**base, **fields}))


def command(**fields: object) -> EngineCommand:
    return adapter(**fields).command(CommandPlace("0.0.0.0", 30000, "/model", "chat", "/inferry"))


def value_after(args: tuple[str, ...], flag: str) -> str:
    return args[args.index(flag) + 1]


@pytest.mark.parametrize(("name", "fields"), [("plain", {}), ("full", FULL)])
@pytest.mark.parametrize("version", ["0.5.10", "0.5.16", "0.5.23"])
def test_golden_launch_spec(name: str, fields: dict[str, object], version: str) -> None:
    """What is started, per version: every word, variable and file."""
    spec = adapter(version=version, **fields).launch(at_8123(), {})
    assert_golden(f"sglang-{version}-{name}.txt", spec_text(spec))


def test_the_key_is_in_a_file_only() -> None:
    """SGLang reads it from the file of --config, whose keys are flags; a command that may be shown has a mark."""
    spec = adapter().launch(at_8123(), {})
    path = Path(value_after(spec.argv, "--config"))
    assert yaml.safe_load(spec.files[path]) == {"api-key": SECRET}
    assert SECRET not in " ".join((*spec.argv, *spec.env.values()))
    shown = command()
    assert yaml.safe_load(shown.files["sglang.yaml"]) == {"api-key": KEY_MARK}
    assert value_after(shown.args, "--config") == "/inferry/sglang.yaml"


def test_the_log_does_not_hold_the_key(tmp_path: Path) -> None:
    """The logger that prints all arguments is quiet, and the others are not."""
    config = tmp_path / "logging.json"
    config.write_text(command().files["sglang-logging.json"], encoding="utf-8")
    program = (
        "import json, logging, logging.config, sys\n"
        "logging.config.dictConfig(json.load(open(sys.argv[1])))\n"
        "logging.getLogger('sglang.srt.entrypoints.engine').info('server_args=KEY')\n"
        "logging.getLogger('sglang.srt.entrypoints.engine').error('broken')\n"
        "logging.getLogger('sglang.srt.managers.scheduler').info('loaded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(config)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "KEY" not in done.stderr
    assert "broken" in done.stderr
    assert "loaded" in done.stderr
    assert command().env["SGLANG_LOGGING_CONFIG_PATH"] == "/inferry/sglang-logging.json"


def test_probes_cost_no_tokens() -> None:
    """Its health page would generate one for each question; metrics are off unless asked for."""
    assert command().env["SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"] == "0"
    assert "--enable-metrics" in command().args


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({}, {}),
        ({"chunked_prefill": True}, {}),
        ({"chunked_prefill": False}, {"--chunked-prefill-size": "-1"}),
        (
            {"batched_tokens": 4096},
            {"--chunked-prefill-size": "4096", "--max-prefill-tokens": "4096"},
        ),
        (
            {"batched_tokens": 4096, "chunked_prefill": False},
            {"--chunked-prefill-size": "-1", "--max-prefill-tokens": "4096"},
        ),
    ],
)
def test_one_bound_becomes_two(fields: dict[str, object], flags: dict[str, str]) -> None:
    """Tokens of a step: SGLang counts those of a chunk and those of all prompts apart; -1 is no chunks."""
    args = command(**fields).args
    names = ("--chunked-prefill-size", "--max-prefill-tokens")
    assert {name: value_after(args, name) for name in names if name in args} == flags


@pytest.mark.parametrize(
    ("speculative", "flags"),
    [
        ({"method": "ngram", "tokens": 8}, ["NGRAM", "--speculative-num-draft-tokens", "8"]),
        (
            {"method": "mtp", "tokens": 1},
            [
                "NEXTN",
                "--speculative-num-steps",
                "1",
                "--speculative-eagle-topk",
                "1",
                "--speculative-num-draft-tokens",
                "2",
            ],
        ),
        (
            {"method": "draft_model", "model": "org/small", "tokens": 3},
            [
                "STANDALONE",
                "--speculative-draft-model-path",
                "org/small",
                "--speculative-num-steps",
                "3",
                "--speculative-eagle-topk",
                "1",
                "--speculative-num-draft-tokens",
                "4",
            ],
        ),
    ],
)
def test_speculative_decoding(speculative: dict[str, object], flags: list[str]) -> None:
    """In SGLang's names for the ways; a chain of n guesses is n steps and n + 1 draft tokens."""
    args = command(speculative=speculative).args
    at = args.index("--speculative-algorithm") + 1
    assert list(args[at:]) == flags


@pytest.mark.parametrize(
    ("extra_args", "hint"),
    [
        (["--cuda-graph-max-bs", "8"], "'--cuda-graph-max-bs' is gone .*use --cuda-graph-max-bs-decode"),
        (["--tp", "2"], "drop '--tp': write 'tensor_parallel'"),
        (["--model", "m"], "drop '--model': write 'model'"),
        (["--config", "f.yaml"], "Inferry hands over its key in that file"),
        (["--api-key=k"], "Inferry sets it itself"),
        (["--log-level", "debug"], "SGLANG_LOGGING_CONFIG_PATH"),
        (["--schedule-polcy", "lpm"], "Did you mean '--schedule-policy'"),
    ],
)
def test_extra_args_are_checked_before_the_start(extra_args: list[str], hint: str) -> None:
    """Gone, managed and unknown flags are refused with a way out."""
    with pytest.raises(ConfigError, match=rf"^deployments\.chat\.extra_args: .*{hint}"):
        command(extra_args=extra_args)


def test_a_flag_is_judged_by_the_version() -> None:
    """What an older version has is an error in a newer one; what is newer than our tables passes."""
    old = ["--cuda-graph-max-bs", "8"]
    assert command(version="0.5.16", extra_args=old).args[-2:] == tuple(old)
    with pytest.raises(ConfigError, match="is gone"):
        command(version="0.5.23", extra_args=old)
    assert command(version="0.6.0", extra_args=["--brand-new", "1"]).args[-1] == "1"
    with pytest.raises(ConfigError, match=r"sglang 0\.4\.9 is older than what Inferry can start"):
        command(version="0.4.9")


def test_gpus_are_shown_and_counted() -> None:
    """Only those that are named are visible, and they must suffice."""
    assert command(gpus=[2, 3], tensor_parallel=2).env["CUDA_VISIBLE_DEVICES"] == "2,3"
    with pytest.raises(ConfigError, match=r"deployments\.chat\.gpus: 1 named, but its parallel keys want 2"):
        command(gpus=[2], tensor_parallel=2)


def test_what_its_container_needs() -> None:
    """Its image has no entry point that serves, so the program is said."""
    needs = adapter(tensor_parallel=4, data_parallel=2).container()
    assert needs.image == "lmsysorg/sglang:v0.5.23"
    assert needs.entrypoint == ("sglang",)
    assert needs.gpus == 8
    assert adapter(image="mirror.example/sglang:1").container().image == "mirror.example/sglang:1"


def test_probe_readings() -> None:
    """503 until its own warm-up is through."""
    subject = adapter()
    assert subject.read_probe(200, b"").verdict is Verdict.READY
    assert subject.read_probe(503, b"").verdict is Verdict.LOADING
    assert subject.read_probe(404, b"").verdict is Verdict.UNWELL


def test_metrics_under_our_names() -> None:
    """The page is of SGLang's own collectors, with figures set by hand: a running one needs a GPU."""
    assert adapter().read_metrics(METRICS.read_text(encoding="utf-8")) == EngineMetrics(
        running=4,
        waiting=2,
        tokens_generated=60,
        tokens_prompt=160,
        kv_cache_use=0.375,
        prefix_query_tokens=160,
        prefix_hit_tokens=30,
        preemptions=1,
        ttft_count=2,
        ttft_sum_s=0.75,
    )


def test_metrics_of_several_ranks_and_priorities() -> None:
    """Ranks of data parallelism are added up, the fullest cache counts, and priorities are not counted twice."""
    page = (
        'sglang:num_running_reqs{dp_rank="0",priority=""} 3.0\n'
        'sglang:num_running_reqs{dp_rank="0",priority="1"} 3.0\n'
        'sglang:num_running_reqs{dp_rank="1",priority=""} 1.0\n'
        'sglang:token_usage{dp_rank="0",priority=""} 0.5\n'
        'sglang:token_usage{dp_rank="1",priority=""} 0.25\n'
    )
    metrics = adapter().read_metrics(page)
    assert (metrics.running, metrics.kv_cache_use) == (4, 0.5)


def test_a_wrong_command_line_is_not_tried_again() -> None:
    """argparse's exit code, with its own words."""
    tail = ["usage: sglang serve [-h]", "sglang serve: error: argument --tp-size: invalid int value: 'x'"]
    reading = adapter().read_exit(2, tail)
    assert not reading.retryable
    assert "argument --tp-size: invalid int value: 'x'" in reading.message


def test_why_it_killed_itself() -> None:
    """When its scheduler fails, SGLang kills all its processes: the reason is in the log, not in the code."""
    tail = [
        "[2026-01-01 TP0] Scheduler hit an exception: Traceback (most recent call last):",
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        "[2026-01-01] Received sigquit from a child process. It usually means the child failed.",
    ]
    reading = adapter().read_exit(-9, tail)
    assert reading.retryable
    assert "SIGKILL" in reading.message
    assert "RuntimeError: Not enough memory." in reading.message
    assert "'memory_fraction'" in reading.message
    assert "log" not in adapter().read_exit(-9, ["nothing to see"]).message
    oom = adapter().read_exit(1, ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."])
    assert "not enough GPU memory" in oom.message
