"""The text that people paste: what a real shell makes of it is the command, and no secret is in it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inferry.core.launch import KEY_MARK, EngineCommand
from inferry.engines.container import ContainerPlan, docker_argv
from inferry.engines.shell_text import comment, docker_text, process_text

from .container_plans import CONFIG, FROM_HUB, FULL, PLAIN
from .golden_files import assert_golden

KEY = "k3y-of-this-test"


def recorder(folder: Path, name: str) -> None:
    """A program of that name that writes down how it was called."""
    script = folder / name
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"json.dump([sys.argv[1:], dict(os.environ)], open({str(folder / 'called.json')!r}, 'w'))\n"
    )
    script.chmod(0o755)


def run(text: str, folder: Path, shell: str = "sh", **environ: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment that the recorded program got."""
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([shell, "-eu", "-c", text], check=True, env={"PATH": path, **environ}, cwd=folder)
    called: Any = json.loads((folder / "called.json").read_text())
    return called[0], called[1]


def at(plan: ContainerPlan, folder: Path) -> ContainerPlan:
    return replace(plan, files_folder=folder / "my files")


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("plan", [PLAIN, FULL, FROM_HUB], ids=["plain", "full", "from-hub"])
def test_a_shell_runs_docker_with_exactly_the_words(plan: ContainerPlan, shell: str, tmp_path: Path) -> None:
    """Pasted into a shell, the text calls docker with the very arguments of the plan, whatever is in them."""
    recorder(tmp_path, "docker")
    plan = at(plan, tmp_path)
    argv, environ = run(
        docker_text(plan), tmp_path, shell, INFERRY_ENGINE_KEY=KEY, REGISTRY_TOKEN="t", HF_TOKEN="h"
    )
    assert ("docker", *argv) == docker_argv(plan)
    assert not any(KEY in word for word in argv)
    for name in plan.command.secret_env:
        assert environ[name] == KEY


def test_a_shell_runs_the_process_with_exactly_the_words(tmp_path: Path) -> None:
    """The same for a process, with its variables set and the hidden ones taken from outside."""
    recorder(tmp_path, "engine")
    text = process_text(FULL.command, tmp_path / "files", FULL.hidden_env)
    argv, environ = run(text, tmp_path, INFERRY_ENGINE_KEY=KEY, REGISTRY_TOKEN="from outside")
    assert tuple(argv) == FULL.command.args
    assert environ["ENGINE_API_KEY"] == KEY
    assert environ["LEVEL"] == "a b$"
    assert environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert environ["REGISTRY_TOKEN"] == "from outside"


@pytest.mark.parametrize("form", ["docker", "process"])
def test_files_are_written_with_the_key_for_their_owner_only(form: str, tmp_path: Path) -> None:
    """A file is what the adapter wrote, character by character, with the key in it, in a folder of its owner's."""
    recorder(tmp_path, "docker")
    recorder(tmp_path, "engine")
    plan = at(FULL, tmp_path)
    text = docker_text(plan)
    if form == "process":
        text = process_text(plan.command, plan.files_folder, plan.hidden_env)
    run(text, tmp_path, INFERRY_ENGINE_KEY=KEY, REGISTRY_TOKEN="t")
    written = plan.files_folder / "config.yaml"
    assert written.read_text() == CONFIG.replace(KEY_MARK, KEY)
    assert plan.files_folder.stat().st_mode & 0o777 == 0o700


def test_a_file_without_a_key_is_written_as_it_is(tmp_path: Path) -> None:
    """Nothing in such a file is expanded, and it may hold the mark that ends it."""
    recorder(tmp_path, "engine")
    content = "$HOME `id`\nEND_OF_FILE\nlast"
    command = EngineCommand("engine", ("--config", "x"), files={"x.yaml": content})
    run(process_text(command, tmp_path / "f"), tmp_path)
    assert (tmp_path / "f" / "x.yaml").read_text() == content + "\n"


@pytest.mark.parametrize(("given", "missing"), [("REGISTRY_TOKEN", "INFERRY_ENGINE_KEY"), ("INFERRY_ENGINE_KEY", "REGISTRY_TOKEN")])  # fmt: skip
def test_what_is_not_set_is_asked_for(given: str, missing: str, tmp_path: Path) -> None:
    """Without the key, or a variable that the file takes from outside, nothing starts and the shell says which."""
    recorder(tmp_path, "docker")
    done = subprocess.run(
        ["sh", "-c", docker_text(at(FULL, tmp_path))],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", given: "x"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert missing in done.stderr
    assert "set it first" in done.stderr
    assert not (tmp_path / "called.json").exists()


def test_no_secret_is_in_the_text() -> None:
    """Neither the value of a hidden variable nor the mark for the key stays in what is printed."""
    texts = (docker_text(FULL), process_text(FULL.command, Path("/f"), FULL.hidden_env))
    for text in texts:
        assert "t0ken-of-the-file" not in text
        assert KEY_MARK not in text


def test_the_replicas_key_stands_above_one_of_the_file() -> None:
    """Where the file sets the variable of the key too, its value is not shown, and the variable not set twice."""
    plan = replace(FULL, command=replace(FULL.command, env={"ENGINE_API_KEY": "0ther"}))
    texts = (docker_text(plan), process_text(plan.command, Path("/f"), plan.hidden_env))
    for text in texts:
        assert "0ther" not in text
        assert text.count("export ENGINE_API_KEY=") == 1
    assert docker_argv(plan).count("ENGINE_API_KEY") == 1


def test_one_line_of_it_is_read_back_by_shlex() -> None:
    """The docker command of a plan without files is one line for any reader of shell words."""
    text = docker_text(PLAIN).replace("\\\n", "")
    assert tuple(shlex.split(text)) == docker_argv(PLAIN)


def test_comments_stay_comments() -> None:
    """A note of several lines can't become a command."""
    assert comment(["one", "two\nrm -rf"]) == "# one\n# two\n# rm -rf\n"


def test_golden_texts() -> None:
    """The texts are laid out as people know them."""
    assert_golden("shell-docker-plain.txt", docker_text(PLAIN))
    assert_golden("shell-docker-full.txt", docker_text(FULL))
    assert_golden("shell-process-full.txt", process_text(FULL.command, Path("/f"), FULL.hidden_env))
