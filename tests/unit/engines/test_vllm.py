"""What we tell and read of vLLM."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, EngineCommand
from inferry.core.server_engines import VllmDeployment
from inferry.engines.adapter import EngineMetrics, Verdict
from inferry.engines.vllm import VllmAdapter

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
    "kv_cache_dtype": "fp8",
    "lora": {"law": "/adapters/law", "odd": "/adapters/a,b"},
    "speculative": {"method": "eagle3", "model": "org/heads", "tokens": 3},
    "trust_remote_code": True,
    "gpus": [0, 1, 2, 3, 4, 5, 6, 7],
    "stop_grace_s": 60,
    "env": {"NCCL_DEBUG": "WARN"},
    "extra_args": ["--max_logprobs=5", "--enforce-eager"],
}
METRICS = Path(__file__).parents[2] / "fixtures" / "metrics" / "vllm-0.32.txt"


def adapter(**fields: object) -> VllmAdapter:
    base = {"engine": "vllm", "model": "file:/models/m", "binary": sys.executable}
    return VllmAdapter("chat", VllmDeployment.model_validate({**base, **fields}))


def command(**fields: object) -> EngineCommand:
    return adapter(**fields).command(CommandPlace("0.0.0.0", 8000, "/model", "chat", "/inferry"))


def value_after(args: tuple[str, ...], flag: str) -> str:
    return args[args.index(flag) + 1]


@pytest.mark.parametrize(("name", "fields"), [("plain", {}), ("full", FULL)])
@pytest.mark.parametrize("version", ["0.10.0", "0.16.0", "0.18.1", "0.32.0"])
def test_golden_launch_spec(name: str, fields: dict[str, object], version: str) -> None:
    """What is started, per version: every word, variable and file."""
    spec = adapter(version=version, **fields).launch(at_8123(), {})
    assert_golden(f"vllm-{version}-{name}.txt", spec_text(spec))


def test_the_key_is_in_the_environment_only() -> None:
    """vLLM reads VLLM_API_KEY; the command that may be shown names the variable without its value."""
    spec = adapter().launch(at_8123(), {})
    assert spec.env["VLLM_API_KEY"] == SECRET
    assert SECRET not in " ".join(spec.argv)
    assert command().secret_env == ("VLLM_API_KEY",)
    assert "VLLM_API_KEY" not in command().env


def test_the_model_comes_first() -> None:
    """`vllm serve` takes it by its place; newer versions know no other way."""
    assert command().args[:2] == ("serve", "/model")


def test_requests_under_way_get_most_of_the_grace() -> None:
    """Without --shutdown-timeout SIGTERM cuts them off; no grace, no flag; older versions have none."""
    assert value_after(command(stop_grace_s=60).args, "--shutdown-timeout") == "48"
    assert "--shutdown-timeout" not in command(stop_grace_s=0).args
    assert "--shutdown-timeout" not in command(version="0.16.0", stop_grace_s=60).args


@pytest.mark.parametrize(
    ("speculative", "config"),
    [
        ({"method": "ngram"}, {"method": "ngram", "num_speculative_tokens": 4}),
        ({"method": "mtp", "tokens": 1}, {"method": "mtp", "num_speculative_tokens": 1}),
        (
            {"method": "draft_model", "model": "org/small", "tokens": 5},
            {"method": "draft_model", "model": "org/small", "num_speculative_tokens": 5},
        ),
    ],
)
def test_speculative_decoding_is_one_json_value(
    speculative: dict[str, object], config: dict[str, object]
) -> None:
    """In the words of vLLM's SpeculativeConfig."""
    written = value_after(command(speculative=speculative).args, "--speculative-config")
    assert json.loads(written) == config


def test_flags_may_be_given_that_the_file_has_no_key_for() -> None:
    """Ways of speculation that the file does not know are free, until the file says `speculative` itself."""
    extra = ["--speculative-config", '{"method": "suffix", "num_speculative_tokens": 8}']
    assert command(extra_args=extra).args[-2:] == tuple(extra)
    with pytest.raises(ConfigError, match="drop '--speculative-config': write 'speculative'"):
        command(extra_args=extra, speculative={"method": "ngram"})


@pytest.mark.parametrize(
    ("extra_args", "hint"),
    [
        (["--disable-log-requests"], "'--disable-log-requests' is gone .*--enable-log-requests"),
        (["--task", "embed"], "'--task' is gone .*use --runner"),
        (["--max_model_len", "10"], "drop '--max_model_len': write 'context_tokens'"),
        (["-tp=2"], "drop '-tp': write 'tensor_parallel'"),
        (["--device-memory-utilization", "0.5"], "write 'memory_fraction'"),
        (["--no-enable-prefix-caching"], "write 'prefix_caching'"),
        (["--api-key", "k"], "Inferry sets it itself"),
        (["--ssl-keyfile", "k"], "Inferry speaks plain HTTP to its engines"),
        (["--enforce-eagre"], "Did you mean '--enforce-eager'"),
        (["--max-logprobs"], "'--max-logprobs' needs a value"),
    ],
)
def test_extra_args_are_checked_before_the_start(extra_args: list[str], hint: str) -> None:
    """Gone, managed, unknown and unfinished flags are refused with a way out."""
    with pytest.raises(ConfigError, match=rf"^deployments\.chat\.extra_args: .*{hint}"):
        command(extra_args=extra_args)


def test_a_flag_is_judged_by_the_version() -> None:
    """What one version needs is an error in another."""
    old = ["--disable-log-requests", "--swap-space", "4"]
    assert command(version="0.10.0", extra_args=old).args[-3:] == tuple(old)
    with pytest.raises(ConfigError, match="'--swap-space' is gone"):
        command(version="0.32.0", extra_args=old)
    with pytest.raises(ConfigError, match="vllm has no flag '--max-num-queued-reqs'"):
        command(version="0.16.0", extra_args=["--max-num-queued-reqs", "9"])
    assert command(version="0.32.0", extra_args=["--max-num-queued-reqs", "9"]).args[-1] == "9"


def test_the_installed_version_decides(tmp_path: Path) -> None:
    """Without `version`, flags are those of the program that will run."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    info = tmp_path / "lib" / "python3.12" / "site-packages" / "vllm-0.16.0+cpu.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.16.0+cpu\n")
    spec = adapter(binary=str(program)).launch(at_8123(), {})
    assert spec.argv[0] == str(program)
    assert "--shutdown-timeout" not in spec.argv
    with pytest.raises(ConfigError, match=r"deployments\.chat\.version: '0\.32\.0', but .* is 0\.16\.0\+cpu"):
        adapter(binary=str(program), version="0.32.0").launch(at_8123(), {})


def test_gpus_are_shown_and_counted() -> None:
    """Only those that are named are visible, and they must suffice."""
    assert command(gpus=[2, 3], tensor_parallel=2).env["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "CUDA_VISIBLE_DEVICES" not in command().env
    with pytest.raises(ConfigError, match=r"deployments\.chat\.gpus: 2 named, but its parallel keys want 4"):
        command(gpus=[2, 3], tensor_parallel=2, data_parallel=2)


def test_the_operators_environment_has_the_last_word() -> None:
    """`env` may set what we set, and whatever the CPU build needs."""
    env = command(env={"VLLM_NO_USAGE_STATS": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}).env
    assert env == {"VLLM_NO_USAGE_STATS": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}


def test_what_its_container_needs() -> None:
    """The image of the version, the program said explicitly, and the GPUs of all parts."""
    needs = adapter(version="0.30.0", tensor_parallel=2, pipeline_parallel=2).container()
    assert needs.image == "vllm/vllm-openai:v0.30.0"
    assert needs.entrypoint == ("vllm",)
    assert needs.gpus == 4
    assert needs.shared_memory_bytes == 8 * 1024**3
    assert adapter(image="mirror.example/vllm:1").container().image == "mirror.example/vllm:1"
    assert adapter(version="0.32").container().image == "vllm/vllm-openai:v0.32.0"


def test_a_container_of_the_cpu_build() -> None:
    """It has an image of its own, which must be named, and no GPU."""
    assert adapter(version="0.32.0+cpu", image="mirror.example/vllm-cpu:1").container().gpus == 0
    with pytest.raises(ConfigError, match=r"deployments\.chat\.image: name an image of vLLM's CPU build"):
        adapter(version="0.32.0+cpu").container()


def test_routes_grow_with_the_version() -> None:
    """Anthropic's API came to vLLM later than OpenAI's."""
    assert "/v1/messages" not in adapter(version="0.10.0").routes
    assert "/v1/messages" in adapter(version="0.13.0").routes
    assert "/v1/messages/count_tokens" not in adapter(version="0.13.0").routes
    assert "/v1/messages/count_tokens" in adapter().routes


def test_probe_readings() -> None:
    """It listens when it is loaded, and goes red only when its engine is dead: 503 is never a start or a load."""
    subject = adapter()
    assert subject.read_probe(200, b"").verdict is Verdict.READY
    dead = subject.read_probe(503, b"")
    assert dead.verdict is Verdict.UNWELL
    assert "engine is dead" in dead.reason
    assert subject.read_probe(404, b"").verdict is Verdict.UNWELL


def test_metrics_of_a_real_page() -> None:
    """vLLM 0.32.0 (CPU) with SmolLM2, 4 requests at a time, 9 streams sent at once, recorded while they ran."""
    metrics = adapter().read_metrics(METRICS.read_text(encoding="utf-8"))
    assert metrics == EngineMetrics(
        running=4,
        waiting=1,
        tokens_generated=1469,
        tokens_prompt=1157,
        kv_cache_use=0.011019283746556474,
        prefix_query_tokens=1157,
        prefix_hit_tokens=256,
        preemptions=0,
        ttft_count=17,
        ttft_sum_s=29.324167251586914,
    )


def test_metrics_of_older_versions() -> None:
    """Before 0.10 let them go, the cache gauge had another name; with several engines the fullest one counts."""
    old = 'vllm:gpu_cache_usage_perc{engine="0"} 0.25\n'
    assert adapter().read_metrics(old).kv_cache_use == 0.25
    two = 'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.75\n'
    assert adapter().read_metrics(old + two).kv_cache_use == 0.75


def test_adapters_may_come_while_it_runs() -> None:
    """Only where the file says so: whoever has the engine's key may load files into it then."""
    live = command(lora_live=True)
    assert "--enable-lora" in live.args
    assert "--lora-modules" not in live.args
    assert live.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in command(lora={"law": "/srv/law"}).env
    assert command(lora={"law": "/srv/law"}, lora_live=True).args.count("--enable-lora") == 1
