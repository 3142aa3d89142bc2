"""The documented commands, typed one after the other into a shell, with the real engine."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, ROOT, Shown, blocks, shown_commands

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

PORT = "8080"
"""The one on the pages; here it becomes a free one."""
# What a command must print, as its page shows it. The rest (ids, times, counts) is different each time.
ESSENTIALS = {
    "inferry init": ("Wrote inferry.yaml. Next: inferry up",),
    "inferry config check": ("inferry.yaml is right: 1 deployment(s): chat",),
    "inferry up": (f"http://127.0.0.1:{PORT}/v1  serving inferry.yaml", "Ready after", "Running in the background, pid"),
    "curl": ('"finish_reason":"stop"', '"role":"assistant"', "Paris"),
    "inferry chat": ("The Eiffel Tower", "Paris"),
    "inferry status": (f"http://127.0.0.1:{PORT}/v1  ", "DEPLOYMENT  REPLICA", "chat-0", "chat-1", "RESTARTS"),
    "inferry logs": ("task", "slot"),
    "inferry down": (f"Stopped: http://127.0.0.1:{PORT} (pid ",),
    "pid=": (),
    "kill": (),
    "sleep": (),
}  # fmt: skip
BACK_AGAIN = "for _ in $(seq 60); do inferry status | grep -Eq 'chat-0 +ready' && break; sleep 1; done"
MARK = "=== documented command"


def console(page: Path) -> list[Shown]:
    return [shown for block in blocks(page) if block.language == "console" for shown in shown_commands(block)]


def words_of(command: str) -> tuple[str, ...]:
    [words] = [words for start, words in ESSENTIALS.items() if command.startswith(start)]
    return words


@pytest.fixture
def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "INFERRY_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


def type_in(commands: list[str], folder: Path, environ: dict[str, str]) -> list[tuple[int, str]]:
    """Exit code and output of each command, typed into one shell."""
    script = "".join(f"{command}\necho; echo '{MARK}' $?\n" for command in commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environ, timeout=280, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    parts = re.split(rf"^{MARK} (\d+)\n", done.stdout, flags=re.M)
    return [(int(code), output) for output, code in zip(parts[:-1:2], parts[1::2], strict=True)]


def test_the_pages_commands_do_what_they_show(
    tmp_path: Path, sample_model: Path, port: str, environ: dict[str, str]
) -> None:
    """The quickstart from `init` to `down`, with the gateway page's requests in the middle and the README's
    Python: each command succeeds and prints what its page shows."""
    pytest.importorskip("openai")
    quickstart, requests = console(DOCS / "quickstart.md"), console(DOCS / "gateway.md")
    before_down = len(quickstart) - 1
    assert quickstart[before_down].command == "inferry down"
    assert len(requests) >= 5
    [snippet] = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]
    (tmp_path / "snippet.py").write_text(snippet.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))

    def typed(shown: Shown) -> str:
        command = BACK_AGAIN if shown.command.startswith("sleep") else shown.command.replace(PORT, port)
        if shown.command == "inferry init":
            # Not the package index again: the file that is here.
            command += f" && sed -i.bak 's|model: .*|model: file:{sample_model}|' inferry.yaml"
        return command

    order = [*quickstart[:before_down], *requests, quickstart[before_down]]
    commands = [typed(shown) for shown in order]
    commands.insert(before_down, f"{sys.executable} snippet.py")
    try:
        results = type_in(commands, tmp_path, environ)
    finally:
        subprocess.run([sys.executable, "-m", "inferry", "down", "--now"], env=environ, capture_output=True)
    assert [code for code, _ in results] == [0] * len(commands), results
    _, said_by_snippet = results.pop(before_down)
    assert "Paris" in said_by_snippet

    for shown, (_, output) in zip(order, results, strict=True):
        if shown in requests:
            pieces = re.split(r"\.\.\.", shown.output.replace(PORT, port))
            assert_in_order(output, [line for piece in pieces for line in piece.strip().splitlines() if line])
            continue
        for word in words_of(shown.command):
            assert word in shown.output, f"{shown.block.place}: the page no longer shows '{word}'"
            assert word.replace(PORT, port) in output, f"{shown.command}: {output}"
    last_status = [
        out for shown, (_, out) in zip(order, results, strict=True) if shown.command == "inferry status"
    ][-1]
    assert re.search(r"^chat +chat-0 +ready .* 1$", last_status, re.M), last_status


def assert_in_order(output: str, pieces: list[str]) -> None:
    """Each of the pieces stands in the output, behind the one before."""
    at = 0
    for piece in pieces:
        found = output.find(piece, at)
        assert found >= 0, f"not (any more) in the output: {piece}\n{output}"
        at = found + len(piece)
