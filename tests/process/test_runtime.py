"""The local runtime with real children, on both event loops."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import structlog
import uvloop

from inferry.core.errors import StartFailed
from inferry.core.launch import LaunchSpec
from inferry.core.replica import Endpoint
from inferry.runtime.base import EXIT_CODE_UNKNOWN, Exit, Handle
from inferry.runtime.local import LocalRuntime
from inferry.runtime.local_process import LocalProcess
from inferry.runtime.replica_log import ReplicaLog

from .children import DEAF, PARENT_OF_DEAF, SLEEPER, holds_within, is_alive, spec_of

Scenario = Callable[[LocalRuntime], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a scenario with a runtime that is closed behind it; nothing may be left, not even a thread."""

    def carry_out(scenario: Scenario) -> None:
        async def main() -> None:
            runtime = LocalRuntime(
                tmp_path / "logs", make_log=partial(ReplicaLog, file_bytes_max=50_000, files_max=3)
            )
            try:
                async with asyncio.timeout(30):
                    await scenario(runtime)
            finally:
                guard_pid = runtime.guard_pid
                await runtime.close()
                assert guard_pid is None or not is_alive(guard_pid)
            assert runtime.running() == []

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        ours = ("log-", "wait-", "inferry-")
        assert holds_within(1, lambda: not any(t.name.startswith(ours) for t in threading.enumerate()))

    return carry_out


async def line_in_log(handle: Handle, start: str) -> str:
    while True:
        for line in handle.log_tail():
            if line.startswith(start):
                return line
        await asyncio.sleep(0.01)


def test_output_and_exit_code_are_kept(run: Run) -> None:
    """Both streams end up in the log, complete, before `wait` returns; the exit code is the process's."""

    async def scenario(runtime: LocalRuntime) -> None:
        code = "import sys, os; print('out', os.environ['MARK']); print('err', file=sys.stderr); sys.exit(7)"
        handle = await runtime.run(spec_of(code, env={"MARK": "here"}))
        assert await handle.wait() == Exit(7)
        assert sorted(handle.log_tail()) == ["err", "out here"]
        assert sorted(handle.log_path.read_text().splitlines()) == ["err", "out here"]
        assert handle.log_path.name == "chat-0.log"
        assert runtime.running() == []

    run(scenario)


@pytest.mark.slow  # where nothing else runs: it looks at a clock
def test_an_end_is_noticed_at_once(run: Run) -> None:
    """A process that is killed is reported within a fraction of a second, to all who wait."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(SLEEPER))
        await line_in_log(handle, "up")
        async with asyncio.TaskGroup() as group:
            waiters = [group.create_task(handle.ended()), group.create_task(handle.wait())]
            await asyncio.sleep(0)
            killed_s = time.monotonic()
            os.kill(handle.pid, signal.SIGKILL)
            await handle.ended()
            took_s = time.monotonic() - killed_s
        assert took_s < 0.25
        assert [waiter.result() for waiter in waiters] == [Exit(-9), Exit(-9)]

    run(scenario)


def test_stop_lets_a_polite_process_end(run: Run) -> None:
    """SIGTERM is enough for one that listens, and stopping twice gives the same exit."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(SLEEPER))
        await line_in_log(handle, "up")
        began_s = time.monotonic()
        assert await runtime.stop(handle, grace_s=20) == Exit(-signal.SIGTERM)
        assert time.monotonic() - began_s < 2
        assert await runtime.stop(handle, grace_s=20) == Exit(-signal.SIGTERM)

    run(scenario)


def test_stop_kills_a_deaf_process_after_its_grace(run: Run) -> None:
    """One that ignores SIGTERM is killed, not before the grace and not much later."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(DEAF))
        await line_in_log(handle, "up")
        began_s = time.monotonic()
        assert await runtime.stop(handle, grace_s=0.3) == Exit(-signal.SIGKILL)
        assert 0.3 <= time.monotonic() - began_s < 2

    run(scenario)


def test_cancelled_stop_kills_at_once(run: Run) -> None:
    """Whoever can't wait any longer leaves no process behind."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(DEAF))
        await line_in_log(handle, "up")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await runtime.stop(handle, grace_s=60)
        assert await handle.wait() == Exit(-signal.SIGKILL)

    run(scenario)


def test_kill_now_ends_every_grace(run: Run) -> None:
    """A stop under way kills at once, a later one does not wait at all, and what nobody has stopped dies too."""

    async def scenario(runtime: LocalRuntime) -> None:
        first, second = [await runtime.run(spec_of(DEAF, name)) for name in ("chat-0", "chat-1")]
        for handle in (first, second):
            await line_in_log(handle, "up")
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(runtime.stop(first, grace_s=600))
            await asyncio.sleep(0)
            runtime.kill_now()
        assert stopping.result() == Exit(-signal.SIGKILL)
        assert await second.wait() == Exit(-signal.SIGKILL)
        late = await runtime.run(spec_of(DEAF, "chat-2"))
        await line_in_log(late, "up")
        assert await runtime.stop(late, grace_s=600) == Exit(-signal.SIGKILL)

    run(scenario)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the code is lost on the way of os.waitid only")
def test_an_end_is_noticed_when_the_code_is_lost(run: Run) -> None:
    """Where the system reaps children itself, the end is reported all the same, with a code that says so."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(SLEEPER))
        await line_in_log(handle, "up")
        os.kill(handle.pid, signal.SIGKILL)
        assert await handle.ended() == await handle.wait() == Exit(EXIT_CODE_UNKNOWN)

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        run(scenario)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_those_who_wait_hear_of_the_end_whatever_breaks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while the group is cleared away is logged, and nobody waits forever."""

    def broken(_: LocalProcess) -> None:
        raise RuntimeError("a bug")

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of("import sys; sys.exit(7)"))
        assert await handle.wait() == Exit(7)

    monkeypatch.setattr(LocalProcess, "_await_group_end", broken)
    with structlog.testing.capture_logs() as events:
        run(scenario)
    assert "process_watch_broke" in [event["event"] for event in events]


def test_a_stopped_process_can_be_stopped(run: Run) -> None:
    """One that SIGSTOP froze hears the SIGTERM all the same."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(SLEEPER))
        await line_in_log(handle, "up")
        os.kill(handle.pid, signal.SIGSTOP)
        assert await runtime.stop(handle, grace_s=20) == Exit(-signal.SIGTERM)

    run(scenario)


@pytest.mark.parametrize("how", ["stop", "kill", "close"])
def test_grandchildren_go_with_their_leader(run: Run, how: str) -> None:
    """However the leader ends, nothing of its group is left when `wait` returns."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(PARENT_OF_DEAF))
        grandchild = int((await line_in_log(handle, "child")).split()[1])
        assert is_alive(grandchild)
        if how == "stop":
            await runtime.stop(handle, grace_s=5)
        elif how == "kill":
            os.kill(handle.pid, signal.SIGKILL)
        else:
            await runtime.close()
        await handle.wait()
        assert not is_alive(grandchild)

    run(scenario)


def test_output_held_open_by_an_escaped_process_is_not_waited_for(run: Run) -> None:
    """A daemon that left the group keeps the pipe open; the replica's end is reported all the same."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "print(f'escaped {child.pid}', flush=True)\n"
    )

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(code))
        assert await handle.wait() == Exit(0)
        os.kill(int((await line_in_log(handle, "escaped")).split()[1]), signal.SIGKILL)

    run(scenario)


@pytest.mark.parametrize(
    ("program", "reason"), [("no-such-program", "No such file"), (None, "Permission denied")]
)
def test_a_program_that_cant_run_is_a_failed_start(
    run: Run, tmp_path: Path, program: str | None, reason: str
) -> None:
    """The message names the program and the system's reason, and no process is left."""
    plain_file = tmp_path / "not-executable"
    plain_file.write_text("#!/bin/sh\n")
    wanted = str(plain_file) if program is None else program

    async def scenario(runtime: LocalRuntime) -> None:
        with pytest.raises(StartFailed, match=reason) as caught:
            await runtime.run(LaunchSpec("chat-0", (wanted, "--flag"), Endpoint("127.0.0.1", 1)))
        assert wanted in caught.value.message
        assert runtime.running() == []

    run(scenario)


def test_a_flood_of_output_neither_blocks_nor_fills_the_disk(run: Run) -> None:
    """A child that prints 20 MB is not held up, and its log stays within its bounds."""
    code = "import sys\nfor n in range(200_000): sys.stdout.write(f'{n:>99}\\n')"

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(code))
        assert await handle.wait() == Exit(0)
        assert handle.log_tail()[-1].strip() == "199999"
        logs = list(handle.log_path.parent.iterdir())
        assert len(logs) == 3
        assert all(path.stat().st_size <= 50_000 + 65_536 for path in logs)

    run(scenario)


def test_children_get_no_descriptors_and_default_signals(run: Run) -> None:
    """An engine inherits nothing but its three streams (least of all the guard's pipe), no input, and
    signals as a fresh process has them."""
    code = (
        "import os, signal, sys\n"
        "print('fds', sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')))\n"
        "print('in', sys.stdin.read() == '')\n"
        "print('term', signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)\n"
        "print('leads', os.getpid() == os.getpgrp() == os.getsid(0))\n"
        "print('pipe', [line for line in open('/proc/self/status') if line.startswith('SigIgn')][0].split()[1])\n"
    )
    if sys.platform != "linux":
        pytest.skip("looks into /proc")

    async def scenario(runtime: LocalRuntime) -> None:
        await runtime.run(spec_of(SLEEPER, "other-0"))
        handle = await runtime.run(
            LaunchSpec(
                "chat-0", ("/bin/sh", "-c", 'exec "$0" -I -S -c "$1"', sys.executable, code), Endpoint("h", 1)
            )
        )
        await handle.wait()
        said = dict(line.split(" ", 1) for line in handle.log_tail())
        assert said["fds"] == "[0, 1, 2]"
        assert (said["in"], said["term"], said["leads"]) == ("True", "True", "True")

    run(scenario)


def test_cancelled_start_leaves_nothing(run: Run) -> None:
    """A start that is given up half way has no process to show for it."""

    async def scenario(runtime: LocalRuntime) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await runtime.run(spec_of(SLEEPER))
        await asyncio.sleep(0)
        for handle in runtime.running():
            assert (await handle.wait()).code in (-signal.SIGKILL, 0)

    run(scenario)


def test_a_killed_guard_is_replaced(run: Run) -> None:
    """The guard's death is noticed, and another one takes over without harm to the engines."""

    async def scenario(runtime: LocalRuntime) -> None:
        handle = await runtime.run(spec_of(SLEEPER))
        await line_in_log(handle, "up")
        first = runtime.guard_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        while runtime.guard_pid == first:
            await asyncio.sleep(0.01)
        assert is_alive(handle.pid)
        other = await runtime.run(spec_of(SLEEPER, "chat-1"))
        assert {one.replica_id for one in runtime.running()} == {"chat-0", "chat-1"}
        await runtime.stop(other, grace_s=5)

    run(scenario)
