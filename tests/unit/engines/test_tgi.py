"""What we tell and read of TGI."""

from __future__ import annotations

import sys

import pytest

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace
from inferry.core.server_engines import TgiDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.tgi import TgiAdapter

from .golden_files import assert_golden
from .spec_text import SECRET, at_8123, spec_text

FULL: dict[str, object] = {
    "context_tokens": 8192,
    "parallel": 64,
    "tensor_parallel": 2,
    "dtype": "bfloat16",
    "memory_fraction": 0.8,
    "batched_tokens": 4096,
    "prefix_caching": False,
    "kv_cache_dtype": "fp8_e4m3fn",
    "lora": {"law": "/adapters/law", "med": "org/med"},
    "speculative_tokens": 3,
    "trust_remote_code": True,
    "gpus": [0, 1],
    "env": {"NCCL_DEBUG": "WARN"},
    "extra_args": ["--max-best-of", "1", "--json-output"],
}


def adapter(**fields: object) -> TgiAdapter:
    base = {"engine": "tgi", "model": "file:/models/m", "binary": sys.executable}
    return TgiAdapter("chat", TgiDeployment.model_validate({**base, **fields}))


@pytest.mark.parametrize(("name", "fields"), [("plain", {}), ("full", FULL)])
@pytest.mark.parametrize("version", ["3.0.1", "3.3.7"])
def test_golden_launch_spec(name: str, fields: dict[str, object], version: str) -> None:
    """What is started, per version: every word, variable and file."""
    spec = adapter(version=version, **fields).launch(at_8123(), {})
    assert_golden(f"tgi-{version}-{name}.txt", spec_text(spec))


def test_the_key_is_in_the_environment_only() -> None:
    """The launcher reads API_KEY; the command that may be shown names the variable without its value."""
    spec = adapter().launch(at_8123(), {})
    assert spec.env["API_KEY"] == SECRET
    assert SECRET not in " ".join(spec.argv)
    command = adapter().command(CommandPlace("0.0.0.0", 80, "/model", "chat", "/inferry"))
    assert command.secret_env == ("API_KEY",)
    assert "API_KEY" not in command.env
    assert "--api-key" not in command.args


def test_the_log_does_not_hold_the_key() -> None:
    """The launcher prints its arguments at level info: it is told to be quieter than the router."""
    assert adapter().launch(at_8123(), {}).env["LOG_LEVEL"] == "info,text_generation_launcher=warn"
    assert adapter(env={"LOG_LEVEL": "debug"}).launch(at_8123(), {}).env["LOG_LEVEL"] == "debug"


def test_two_replicas_share_nothing() -> None:
    """Socket path and torch's port follow the replica's own port; no fixed port is left to collide on."""
    subject = adapter(tensor_parallel=2)
    one, two = (
        subject.command(CommandPlace("127.0.0.1", port, "/m", "chat", "/f")) for port in (41000, 41001)
    )
    for flag in ("--shard-uds-path", "--master-port"):
        assert one.args[one.args.index(flag) + 1] != two.args[two.args.index(flag) + 1]
    assert one.args[one.args.index("--master-port") + 1] == "19000"
    assert one.env["PROMETHEUS_PORT"] == "0"


def test_shards_end_before_they_would_be_orphans() -> None:
    """TGI has less time to end its shards than the launcher has until it is killed."""
    assert adapter(stop_grace_s=30).launch(at_8123(), {}).env["GRACEFUL_TERMINATION_TIMEOUT"] == "28"
    assert adapter(stop_grace_s=0).launch(at_8123(), {}).env["GRACEFUL_TERMINATION_TIMEOUT"] == "1"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--port", "1"], "drop '--port': Inferry sets it itself"),
        (["-p", "1"], "drop '-p'"),
        (["--num-shard", "2"], "write 'tensor_parallel'"),
        (["--max-batch-total-token", "9"], "Did you mean '--max-batch-total-tokens'?"),
        (["--max-best-of"], "'--max-best-of' needs a value"),
        (["--api-key=x"], "drop '--api-key'"),
    ],
)
def test_extra_arguments_are_checked(extra: list[str], said: str) -> None:
    """Ours, unknown ones and ones without their value are refused, with the way out."""
    with pytest.raises(ConfigError) as raised:
        adapter(extra_args=extra).launch(at_8123(), {})
    assert "deployments.chat.extra_args" in raised.value.message
    assert said in raised.value.message


def test_flags_of_a_later_version_are_unknown_to_an_earlier_one() -> None:
    """--prometheus-port came with 3.3; versions before 3 are not started at all."""
    extra = ["--prometheus-port", "9001"]
    assert "--prometheus-port" in adapter(extra_args=extra).launch(at_8123(), {}).argv
    with pytest.raises(ConfigError, match="--prometheus-port"):
        adapter(version="3.2.3", extra_args=extra).launch(at_8123(), {})
    with pytest.raises(ConfigError, match=r"tgi 2\.4\.1 is older"):
        adapter(version="2.4.1").launch(at_8123(), {})


def test_too_few_gpus() -> None:
    """GPUs that are named must be enough for the shards."""
    with pytest.raises(ConfigError, match=r"deployments\.chat\.gpus"):
        adapter(gpus=[0], tensor_parallel=2).launch(at_8123(), {})


def test_container() -> None:
    """The image of the version, its launcher as entry point, as many GPUs as shards, memory for NCCL."""
    needs = adapter(version="3.2.3", tensor_parallel=4).container()
    assert needs.image.endswith("/text-generation-inference:3.2.3")
    assert needs.entrypoint == ("text-generation-launcher",)
    assert (needs.gpus, needs.shared_memory_bytes) == (4, 2**30)
    assert adapter(image="mine:1").container().image == "mine:1"


def test_requests_ask_for_no_adapter() -> None:
    """Any other `model` than 'tgi' would be taken for a LoRA adapter's name."""
    assert adapter().served_name == "tgi"
    assert b'"model": "tgi"' in adapter().warmups[0].body


def test_health_readings() -> None:
    """200 is ready, too many requests is busy, all else unwell: while it loads nobody listens."""
    subject = adapter()
    assert subject.read_probe(200, b"").verdict is Verdict.READY
    assert subject.read_probe(429, b'{"error":"Model is overloaded"}').verdict is Verdict.BUSY
    assert subject.read_probe(503, b'{"error":"unhealthy"}').verdict is Verdict.UNWELL


def test_exit_readings() -> None:
    """A command line that it does not take is final; a shard that could not start is told and tried again."""
    subject = adapter()
    usage = subject.read_exit(2, ["error: unexpected argument '--prot' found"])
    assert (usage.retryable, "unexpected argument" in usage.message) == (False, True)
    refused = subject.read_exit(1, ['Error: ArgumentValidation("`max_input_tokens` must be < ...")'])
    assert not refused.retryable
    shard = subject.read_exit(1, ["torch.OutOfMemoryError: CUDA out of memory.", "Error: ShardCannotStart"])
    assert shard.retryable
    assert "not enough GPU memory" in shard.message
    assert subject.read_exit(-9, ["Error: ArgumentValidation"]).retryable


def test_only_what_it_serves_is_offered() -> None:
    """Chat and completions; the rest of OpenAI's routes it does not have."""
    assert adapter().routes == {"/v1/chat/completions", "/v1/completions"}
