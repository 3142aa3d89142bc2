"""The command's outer border: exit codes, and one message in place of a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inferry.cli import entry
from inferry.cli.main import EXIT_INTERNAL, main
from inferry.core.deployment import ENGINE_TYPES
from inferry.core.errors import ConfigError

from .conftest import Run


def test_without_a_verb_the_help_shows(run: Run) -> None:
    """`inferry` alone lists its verbs."""
    shown = run()
    for verb in ("init", "up", "status", "chat", "logs", "down", "models", "config", "version"):
        assert f" {verb} " in shown.out + shown.err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("nope",), "nope"),
        (("up", "--nope"), "--nope"),
        (("config", "nope"), "nope"),
        (("status", "--port", "0"), "--port"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, argv: tuple[str, ...], named: str) -> None:
    """A slip on the command line is told from a failure."""
    shown = run(*argv)
    assert (shown.code, shown.out) == (2, "")
    assert named in shown.err


@pytest.mark.parametrize("verb", [("status",), ("down",), ("chat", "hi"), ("status", "--json")])
def test_nothing_runs(run: Run, verb: tuple[str, ...]) -> None:
    """Verbs that need a running instance say that there is none, and what starts one."""
    shown = run(*verb)
    assert (shown.code, shown.out) == (1, "")
    assert shown.err == "error: Nothing is running here. Start something with 'inferry up'.\n"


def test_no_logs_yet(run: Run) -> None:
    """`logs` before the first `up` is one message."""
    shown = run("logs")
    assert (shown.code, shown.err) == (
        1,
        "error: There are no logs: nothing has run here yet. Start with 'inferry up'.\n",
    )


def test_a_fault_of_ours_is_named_as_such(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a bug ends in a message and its own exit code; INFERRY_DEBUG shows the traceback."""

    def broken(*_: object) -> None:
        raise RuntimeError("oh")

    run("init")
    monkeypatch.setattr("inferry.cli.config.load_file", broken)
    shown = run("config", "check")
    assert shown.code == EXIT_INTERNAL
    assert shown.err.startswith("error: This is a fault in Inferry: RuntimeError: oh\n")
    assert "INFERRY_DEBUG=1" in shown.err
    monkeypatch.setenv("INFERRY_DEBUG", "1")
    with pytest.raises(RuntimeError, match="oh"):
        main()


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with the exit code that shells expect."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inferry.cli.main.main", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130


def test_interrupted_while_loading(tmp_path: Path) -> None:
    """Ctrl-C in the first moments, while modules load, is as silent as later."""
    # `python -m` looks in the working directory first: this one raises what Ctrl-C would.
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    with inferry("version", cwd=tmp_path) as program:
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out, err) == (130, "", "")


def inferry(*argv: str, cwd: Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "inferry", *argv],
        cwd=cwd,
        env={**os.environ, "INFERRY_HOME": str(cwd / "home")},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_as_a_program(tmp_path: Path) -> None:
    """From a shell: exit code 1, nothing on stdout, one message and no traceback on stderr."""
    (tmp_path / "inferry.yaml").write_text("deployments:\n  a: {engine: xyz}\n")
    with inferry("config", "check", cwd=tmp_path) as program:
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out) == (1, "")
    assert err == (
        "error: inferry.yaml:2: deployments.a.engine: 'xyz' is not known. "
        f"One of: {', '.join(sorted(ENGINE_TYPES))}.\n"
    )


def test_reader_that_leaves_early(tmp_path: Path) -> None:
    """`inferry config schema | head -1` is silent about the closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    with inferry("config", "schema", cwd=tmp_path, stdout=writing) as program:
        os.close(writing)
        _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (1, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_onto_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    """`inferry version > /dev/full` is one message, and no second error when the interpreter ends."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with (
        Path("/dev/full").open("wb") as full,
        inferry("version", cwd=tmp_path, stdout=full.fileno()) as program,
    ):
        _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (
        1,
        "error: The output can't be written: No space left on device.\n",
    )


def test_an_error_in_a_task_group_is_named_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of one error, however deep, is that error: for the message and for the exit code."""

    def grouped(error: Exception) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise ExceptionGroup("outer", [ExceptionGroup("inner", [error])])

        return fail

    monkeypatch.setattr("inferry.cli.config.load_file", grouped(ConfigError("the cause")))
    assert run("config", "check").err == "error: the cause\n"
    monkeypatch.setattr("inferry.cli.config.load_file", grouped(RuntimeError("oh")))
    shown = run("config", "check")
    assert shown.code == EXIT_INTERNAL
    assert shown.err.startswith("error: This is a fault in Inferry: RuntimeError: oh\n")


@pytest.mark.parametrize(
    ("argv", "code", "shown"),
    [
        ((), 0, "chat-0 | one\nchat-0 | two\nchat-1 | caf\ufffd\n"),
        (("chat-0", "-n", "1"), 0, "two\n"),
        (("chat-22",), 1, "error: There is no log of 'chat-22'. Did you mean 'chat-1'?\n"),
    ],
)
def test_logs_of_an_ended_instance(tmp_path: Path, argv: tuple[str, ...], code: int, shown: str) -> None:
    """Logs outlive their instance: the last lines of all replicas, or of the one that is named."""
    folder = tmp_path / "home" / "run" / "8000" / "logs"
    folder.mkdir(parents=True)
    (folder / "chat-0.log").write_text("one\ntwo\n")
    (folder / "chat-1.log").write_bytes(b"caf\xe9\n")
    with inferry("logs", *argv, cwd=tmp_path) as program:
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out + err) == (code, shown)


def test_other_tools_words_lead_to_ours(run: Run) -> None:
    """`inferry stop` says that the verb is `down`."""
    done = run("stop")
    assert done.code == 2
    assert "Did you mean 'down'?" in done.err
