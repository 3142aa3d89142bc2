"""What we tell and read of `transformers serve`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace
from inferry.core.server_engines import TransformersDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.transformers_serve import TransformersAdapter

from .golden_files import assert_golden
from .spec_text import SECRET, at_8123, spec_text

FULL: dict[str, object] = {
    "device": "cuda:0",
    "dtype": "bfloat16",
    "quantization": "bnb-4bit",
    "trust_remote_code": True,
    "gpus": [3],
    "env": {"OMP_NUM_THREADS": "4"},
    "extra_args": ["--reasoning", "off", "--compile"],
}


def adapter(**fields: object) -> TransformersAdapter:
    base = {"engine": "transformers", "model": "file:/models/m", "binary": sys.executable}
    return TransformersAdapter("chat", TransformersDeployment.model_validate({**base, **fields}))


@pytest.mark.parametrize(("name", "fields"), [("plain", {}), ("full", FULL)])
@pytest.mark.parametrize("version", ["5.12.1", "5.23.0"])
def test_golden_launch_spec(name: str, fields: dict[str, object], version: str) -> None:
    """What is started, per version: every word, variable and file."""
    spec = adapter(version=version, **fields).launch(at_8123(), {})
    assert_golden(f"transformers-{version}-{name}.txt", spec_text(spec))


def test_the_model_has_the_deployments_name(tmp_path: Path) -> None:
    """Run for real with a program that says where it is: the model lies beside it, under the name of requests."""
    model = tmp_path / "a model with spaces@main"
    model.mkdir()
    (model / "config.json").write_text("{}")
    program = tmp_path / "transformers"
    program.write_text('#!/bin/sh\necho "$@"\ncat "$2/config.json"\npwd\n')
    program.chmod(0o755)
    folder = tmp_path / "files"
    command = adapter(device="cpu")._command(
        CommandPlace("127.0.0.1", 8123, str(model), "chat", str(folder)), "5.23.0", str(program)
    )
    for _ in range(2):  # a restart finds the folder and the link of the start before
        said = subprocess.run([command.program, *command.args], capture_output=True, text=True, check=True)
        assert said.stdout.splitlines() == [
            "serve chat --host 127.0.0.1 --port 8123 --device cpu",
            f"{{}}{folder}",
        ]
    assert list(folder.iterdir()) == [folder / "chat"]
    assert (folder / "chat").resolve() == model


def test_a_hub_id_stays_what_it_is() -> None:
    """Where the engine fetches the model itself, there is no folder to give a name to."""
    command = adapter().command(CommandPlace("0.0.0.0", 8000, "org/model", "chat", "/inferry"))
    assert command.args[:3] == ("transformers", "serve", "org/model")
    assert "HF_HUB_OFFLINE" not in command.env


def test_no_key_is_given() -> None:
    """It has nowhere to put one: neither argument, variable nor file holds it."""
    assert SECRET not in spec_text(adapter().launch(at_8123(), {}))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--port", "1"], "drop '--port': Inferry sets it itself"),
        (["--device", "cpu"], "write 'device'"),
        (["--force-model", "m"], "'--force-model' is gone"),
        (["--continuous-batching"], "the temperature of the first request holds"),
        (["--devices", "cpu"], "Did you mean '--device'?"),
        (["--log-level"], "'--log-level' needs a value"),
    ],
)
def test_extra_arguments_are_checked(extra: list[str], said: str) -> None:
    """Ours, former ones, one that would be wrong for its users, unknown ones and incomplete ones are refused."""
    with pytest.raises(ConfigError) as raised:
        adapter(extra_args=extra).launch(at_8123(), {})
    assert said in raised.value.message


def test_versions_without_a_pinned_model_are_too_old() -> None:
    """Up to 5.5, any request could make it load any model."""
    with pytest.raises(ConfigError, match=r"transformers 5\.0\.0 is older.*use 5\.6\.0"):
        adapter(version="5.0.0").launch(at_8123(), {})


@pytest.mark.parametrize(
    ("key", "value"), [("context_tokens", 4096), ("tensor_parallel", 2), ("parallel", 2)]
)
def test_what_it_can_not_do_is_said_by_the_file(key: str, value: int) -> None:
    """Keys that other engines have and this one can't follow are mistakes, not silence."""
    with pytest.raises(ValidationError, match=key):
        adapter(**{key: value})


def test_missing_program_says_how_to_install(tmp_path: Path) -> None:
    """The way in is one command."""
    subject = TransformersAdapter(
        "chat", TransformersDeployment(engine="transformers", model="file:/models/m")
    )
    with pytest.raises(ConfigError, match="inferry engines install transformers"):
        subject.launch(at_8123(), {"PATH": str(tmp_path), "INFERRY_HOME": str(tmp_path)})


def test_health_and_exit_readings() -> None:
    """A dead batching thread is unwell; an option that it does not know is final; an exception is told."""
    subject = adapter()
    assert subject.read_probe(200, b'{"status":"ok"}').verdict is Verdict.READY
    assert subject.read_probe(503, b'{"reason":"cb_worker_dead"}').verdict is Verdict.UNWELL
    assert not subject.read_exit(2, ["│ No such option: --devise │"]).retryable
    assert "Unsupported dtype" in subject.read_exit(1, ["ValueError: Unsupported dtype: 'x'."]).message


def test_it_has_no_metrics() -> None:
    """No page, no figures; and no more than one request at a time is sent there."""
    assert adapter().metrics_path is None
    assert TransformersDeployment(engine="transformers", model="file:/m").parallel == 1
