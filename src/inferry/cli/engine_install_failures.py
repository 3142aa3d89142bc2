"""Why a step of an installation failed, in words and with the way out; read from what pip and the engine said."""

from __future__ import annotations

import errno
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inferry.core.errors import EngineInstallFailed
from inferry.models.disk import size_text

_OFFLINE = (
    "connection broken by",
    "Failed to establish a new connection",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "Connection refused",
    "Read timed out",
)
_COMPILER = re.compile(
    r"error: command '\S*(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+)\S*' failed"
    r"|(?:gcc|g\+\+|cc|clang|cmake|cargo|rustc)\S*: (?:command )?not found"
    r"|No such file or directory: '(?:gcc|g\+\+|cc|clang|cmake|cargo|rustc)'"
    r"|CMAKE_C(?:XX)?_COMPILER not set|Unknown compiler|can't find Rust compiler"
)
_TORCH_ABSENT = re.compile(
    r"(?:No matching distribution found for|Could not find a version that satisfies) .*torch"
)


def lacks_torch(log: str) -> bool:
    """Whether pip ended because none of its indexes has the torch that it needs."""
    return _TORCH_ABSENT.search(log) is not None


def full_disk(folder: Path) -> EngineInstallFailed:
    return EngineInstallFailed(
        f"The disk that holds {folder} is full. Make room ('inferry engines remove' and 'inferry models rm' delete "
        "what is not needed), or set INFERRY_HOME to a folder on a larger disk; then install again."
    )


@contextmanager
def map_disk_errors(folder: Path) -> Iterator[None]:
    """Turns what the operating system raises about `folder` into EngineInstallFailed with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(folder) from error
        raise EngineInstallFailed(
            f"{error.filename or folder} failed: {error.strerror or error}. Correct that, or set INFERRY_HOME to a "
            "folder that you own; then try again."
        ) from error


def too_little_room(folder: Path, needed_bytes: int, free_bytes: int) -> EngineInstallFailed:
    return EngineInstallFailed(
        f"The environment takes about {size_text(needed_bytes)}, and the disk that holds {folder} has only "
        f"{size_text(free_bytes)} left. Make room, or set INFERRY_HOME to a folder on a larger disk."
    )


def explain_failure(label: str, code: int, log: str, log_path: Path) -> EngineInstallFailed:
    """What it means that the step `label` ended with `code` after saying `log`."""
    again = f"All that was said is in {log_path}."
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return full_disk(log_path.parent)
    if "ensurepip is not available" in log or "No module named ensurepip" in log:
        return EngineInstallFailed(
            f"{sys.executable} can't make environments with pip in them. On Debian and Ubuntu: apt install python3-venv"
        )
    if _COMPILER.search(log):
        return EngineInstallFailed(
            f"{label}: a package has no ready-made build for {_machine()} and could not be compiled here. Install a "
            f"compiler (on Debian and Ubuntu: apt install build-essential), or use Python 3.11 or 3.12. {again}"
        )
    if any(text in log for text in _OFFLINE):
        return EngineInstallFailed(
            f"{label}: the package index could not be reached. Check the network, and pip's proxy and index settings "
            f"('pip config list'), then run the same command again: whole files that pip has are kept. {again}"
        )
    versions = re.search(r"requirement (\S+?) .*\(from versions: ([^)]*)\)", log)
    if versions:
        known = "none" if versions[2] == "none" else ", ".join(versions[2].split(", ")[-8:])
        return EngineInstallFailed(
            f"{label}: pip finds no {versions[1].rstrip(';')} for {_machine()}. Versions that it finds: {known}. {again}"
        )
    return EngineInstallFailed(f"{label}: {_ended(code)} Its last words: {_last_words(log)} {again}")


def _machine() -> str:
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _ended(code: int) -> str:
    return f"it was ended by signal {-code}." if code < 0 else f"it ended with code {code}."


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"ERROR|\w*(Error|Exception)\b", line)]
    return (errors or lines or ["it said nothing."])[-1]
