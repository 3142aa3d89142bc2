"""`inferry up` in odd places: readers that leave, signals that were ignored, homes that can't be written."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferry.core.errors import ConfigError
from inferry.gateway.server import bind_sockets

from .inferry_process import Inferry, Up, process_gone, wait_for

SIMULATED = "deployments:\n  chat: {engine: simulated}\n"


@pytest.fixture
def inferry(tmp_path: Path) -> Inferry:
    inferry = Inferry(tmp_path)
    inferry.write(SIMULATED)
    return inferry


@contextlib.contextmanager
def started(inferry: Inferry, *words: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`inferry WORDS`, with Popen's arguments in `how`; killed at the end if it still runs."""
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        [sys.executable, "-m", "inferry", *words],
        **{**silent, "cwd": inferry.folder, "env": inferry.environ, "start_new_session": True, **how},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def settled(inferry: Inferry, process: subprocess.Popen[bytes]) -> dict[str, dict[str, Any]]:
    """The replicas by id, once all are ready."""
    up = Up(inferry, process, inferry.folder / "none")

    def ready() -> dict[str, dict[str, Any]] | None:
        assert process.poll() is None, "inferry up has ended"
        try:
            replicas = up.replicas()
        except (ValueError, httpx.HTTPError):
            return None  # not yet
        return replicas if all(each["state"] == "ready" for each in replicas.values()) else None

    return wait_for("all replicas are ready", ready)


# --- those who read what it says ----------------------------------------------------------------------


def test_a_reader_that_leaves_ends_nothing(inferry: Inferry) -> None:
    """`inferry up | head -1`: the instance runs on, and its good end stays one."""
    with started(inferry, "up", "--port", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"inferry ")
        process.stdout.close()
        settled(inferry, process)
        process.send_signal(signal.SIGTERM)
        assert (process.wait(20), process.stderr.read()) == (0, b"")


@pytest.mark.slow
def test_a_reader_that_is_stuck_holds_nothing_up(inferry: Inferry) -> None:
    """A pipe that is full from the start: the instance comes up, answers and ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 65536)
    os.set_blocking(writing, True)
    with started(inferry, "up", "--port", "0", stdout=writing) as process:
        os.close(writing)
        settled(inferry, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    os.close(reading)


# --- where it runs ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("words", [("up", "--port", "0"), ("up", "--detach", "--port", "0")])
def test_a_home_that_cant_be_used_is_explained(inferry: Inferry, words: tuple[str, ...]) -> None:
    """INFERRY_HOME names a file: one message with the path and the way out, and nothing is started."""
    inferry.environ["INFERRY_HOME"] = str(inferry.folder / "inferry.yaml")
    done = inferry.run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {inferry.folder / 'inferry.yaml'}")
    assert "Not a directory" in done.stderr
    assert "INFERRY_HOME" in done.stderr


@pytest.mark.slow
def test_a_deep_temporary_folder_is_no_obstacle(inferry: Inferry) -> None:
    """With a TMPDIR too long for a socket's path, `up` and `down` work all the same."""
    deep = inferry.folder / ("d" * 100)
    deep.mkdir()
    inferry.environ["TMPDIR"] = str(deep)
    with started(inferry, "up", "--port", "0") as process:
        settled(inferry, process)
        assert inferry.run("down").returncode == 0
        assert process.wait(20) == 0


def test_the_last_port_has_no_next_one() -> None:
    """Where port 65535 is taken, a port that exists is proposed."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ConfigError):  # somebody else has it: as good
            stack.enter_context(bind_sockets("127.0.0.1", 65535)[0])
        with pytest.raises(ConfigError, match="--port 65534"):
            bind_sockets("127.0.0.1", 65535)[0]


# --- signals that were ignored from the start ---------------------------------------------------------


def test_a_hang_up_is_ignored_under_nohup(inferry: Inferry) -> None:
    """`nohup inferry up`: SIGHUP, ignored at the start, does not end it. SIGTERM does."""

    def like_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(inferry, "up", "--port", "0", preexec_fn=like_nohup) as process:
        settled(inferry, process)
        ignored = int(Path(f"/proc/{process.pid}/status").read_text().split("SigIgn:")[1].split()[0], 16)
        assert ignored & 1 << signal.SIGHUP - 1
        process.send_signal(signal.SIGHUP)
        settled(inferry, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_crashes_are_noticed_where_child_signals_were_ignored(inferry: Inferry) -> None:
    """A parent that ignores SIGCHLD hands that on; an engine's end is seen all the same, and it starts again."""

    def ignore_children() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    with started(inferry, "up", "--port", "0", preexec_fn=ignore_children) as process:
        victim = settled(inferry, process)["chat-0"]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_for(
            "chat-0 is back",
            lambda: Up(inferry, process, inferry.folder).replicas()["chat-0"]["restarts"] == 1,
        )
        settled(inferry, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


# --- engines that don't listen ------------------------------------------------------------------------


@pytest.fixture
def deaf(inferry: Inferry) -> Inferry:
    """A llama-server that answers, ignores SIGTERM, and would be given ten minutes to end."""
    program = inferry.folder / "llama-server"
    program.write_text(f"#!{sys.executable}\n{DEAF_SERVER}")
    program.chmod(0o755)
    (inferry.folder / "m.gguf").write_bytes(b"GGUF")
    inferry.write(
        "deployments:\n  chat:\n    {engine: llamacpp, model: 'file:m.gguf', binary: ./llama-server,"
        " stop_grace_s: 600}\n"
    )
    return inferry


DEAF_SERVER = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status": "ok", "choices": []}'
        if self.command == "POST":
            self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["second signal", "down --now", "down, then down --now"])
def test_the_second_call_kills_engines_that_ignore_the_first(deaf: Inferry, how: str) -> None:
    """A second Ctrl-C, or `down --now`, waits for no engine's grace; the end is still a good one."""
    with started(deaf, "up", "--port", "0") as process:
        engine = settled(deaf, process)["chat-0"]["pid"]
        if how == "second signal":
            process.send_signal(signal.SIGTERM)
            wait_for_draining(deaf, process)
            process.send_signal(signal.SIGTERM)
        elif how == "down --now":
            assert deaf.run("down", "--now").returncode == 0
        else:
            with started(deaf, "down") as down:
                wait_for_draining(deaf, process)
                assert deaf.run("down", "--now").returncode == 0
                assert down.wait(10) == 0
        assert process.wait(10) == 0
        assert process_gone(engine)


def wait_for_draining(inferry: Inferry, process: subprocess.Popen[bytes]) -> None:
    """Until the engines have been asked to end."""
    up = Up(inferry, process, inferry.folder)
    wait_for("it is draining", lambda: up.replicas()["chat-0"]["state"] == "draining")


# --- an instance in the background that is given up ---------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_while_detaching_leaves_nothing(inferry: Inferry) -> None:
    """Ctrl-C while `up --detach` waits for the replicas ends the instance and its engines, and says so."""
    program = inferry.folder / "llama-server"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    (inferry.folder / "m.gguf").write_bytes(b"GGUF")
    inferry.write("deployments:\n  chat: {engine: llamacpp, model: 'file:m.gguf', binary: ./llama-server}\n")

    def hears_ctrl_c() -> None:  # also where the tests run in a script's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    words = ("up", "--detach", "--port", "0")
    with started(inferry, *words, stderr=subprocess.PIPE, preexec_fn=hears_ctrl_c) as process:
        up = Up(inferry, process, inferry.folder)

        def engine_pid() -> int | None:
            try:
                pid: int | None = up.replicas()["chat-0"]["pid"]
            except (ValueError, httpx.HTTPError):
                return None
            return pid

        engine = wait_for("the engine runs", engine_pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert b"Stopping what had been started" in process.stderr.read()
    wait_for("the engine is gone", lambda: process_gone(engine))
    assert "Nothing is running" in inferry.run("status").stderr


# --- the edge, wrong from the start -------------------------------------------------------------------


def test_a_certificate_that_cannot_be_used_is_explained_before_anything_starts(inferry: Inferry) -> None:
    """The message names key and file; no engine is started for it."""
    inferry.write("gateway: {tls: {certificate: no.pem, key: no.key}}\n" + SIMULATED)
    done = inferry.run("up", "--port", "0")
    assert done.returncode == 1
    assert f"tls.certificate: can't read '{inferry.folder / 'no.pem'}'" in done.stderr
    assert "starting" not in done.stdout


@pytest.mark.slow
def test_a_taken_admin_port_is_named_as_such(inferry: Inferry) -> None:
    """The way out is the key that holds it, not the gateway's."""
    [taken] = bind_sockets("127.0.0.1", 0)
    with taken:
        port = taken.getsockname()[1]
        inferry.write(f"admin: {{listen: '127.0.0.1:{port}'}}\n" + SIMULATED)
        done = inferry.run("up", "--port", "0")
    assert done.returncode == 1
    assert "admin.listen in the file" in done.stderr
    assert "--port" not in done.stderr
