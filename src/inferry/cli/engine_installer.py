"""Carries out a recipe of engines/install_recipes.py: one environment, whole or not at all."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from inferry.cli.engine_environments import EngineEnvironments, InstalledEngine
from inferry.cli.engine_install_failures import (
    explain_failure,
    lacks_torch,
    map_disk_errors,
    too_little_room,
)
from inferry.core.clock import Clock
from inferry.core.errors import EngineInstallFailed
from inferry.engines.install_recipes import PipInstall, PipUninstall, Recipe, RunsWell, SecondName, Step

POLL_S = 0.2
TERMINATE_S = 5.0
LOG_TAIL_BYTES = 64 * 1024
# These would send packages elsewhere, or let modules of ours into the engine's environment.
_LEFT_OUT = (
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"),
    *("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_NO_DEPS"),
)


class Teller(Protocol):
    """Is told how an installation goes on. What `line` raises ends it."""

    def step(self, label: str) -> None: ...

    def line(self, text: str) -> None:
        """What a program says; empty: nothing new for a moment."""


def install(
    recipe: Recipe, places: EngineEnvironments, *, teller: Teller, environ: Mapping[str, str], clock: Clock
) -> InstalledEngine:
    """The environment of `recipe`, made unless that version is here. Blocks for minutes.

    A second one of the same name waits for the first. Whatever ends it early leaves no environment behind, and
    the one that was there before, if any, as it was. Raises EngineInstallFailed.
    """
    waiting = _say_once(teller, f"waiting for another installation of {recipe.name}")
    with map_disk_errors(places.folder), places.lock(recipe.name, waiting):
        found = places.find(recipe.name)
        if found is not None and found.version == recipe.version:
            return found
        _require_room(places.folder, recipe)
        folder = places.begin(recipe.name)
        try:
            _make(recipe, folder, places.log(recipe.name), teller, environ)
            made = InstalledEngine(
                recipe.name, recipe.version, platform.python_version(), installed_wall_s=clock.wall_s()
            )
            places.publish(folder, made)
        except BaseException:
            places.discard(folder)
            raise
        return made


def _say_once(teller: Teller, label: str) -> Callable[[], None]:
    said: list[str] = []

    def tick() -> None:
        if not said:
            said.append(label)
            teller.step(label)

    return tick


def _require_room(folder: Path, recipe: Recipe) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < recipe.disk_bytes:
        raise too_little_room(folder, recipe.disk_bytes, free_bytes)


def _make(recipe: Recipe, folder: Path, log: Path, teller: Teller, environ: Mapping[str, str]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    temporary = folder / "tmp"
    temporary.mkdir()
    env = {name: value for name, value in environ.items() if name not in _LEFT_OUT}
    # TMPDIR: pip unpacks gigabytes there, and /tmp is often small. PYTHONUNBUFFERED: its words are shown as they come.
    programs = Programs(log, {**env, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}, teller)
    programs.must_end_well("making an environment", [sys.executable, "-P", "-m", "venv", str(folder)])
    for step in recipe.steps:
        take(step, folder, programs)
    shutil.rmtree(temporary)


class Programs:
    """Runs programs, one after the other, into one log."""

    def __init__(self, log: Path, env: Mapping[str, str], teller: Teller) -> None:
        self.log = log
        self._env = env
        self.teller = teller

    def must_end_well(self, label: str, argv: Sequence[str]) -> None:
        code, said = self.run(label, argv)
        if code != 0:
            raise explain_failure(label, code, said, self.log)

    def run(self, label: str, argv: Sequence[str]) -> tuple[int, str]:
        """Its exit code, and the end of what it said; whatever ends the wait early, ends the program too."""
        self.teller.step(label)
        with self.log.open("ab") as sink:
            sink.write(f"\n== {label}: {' '.join(argv)}\n".encode())
            sink.flush()
            start = sink.tell()
            process = subprocess.Popen(
                argv, env=self._env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )
        try:
            while True:
                try:
                    code = process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    self.teller.line(_last_line(self._said_since(start)))
                else:
                    return code, self._said_since(start)
        finally:
            _end(process)

    def _said_since(self, start: int) -> str:
        with self.log.open("rb") as source:
            end = source.seek(0, os.SEEK_END)
            source.seek(max(start, end - LOG_TAIL_BYTES))
            return source.read().decode("utf-8", "replace")


def take(step: Step, folder: Path, programs: Programs) -> None:
    """One step, in the environment at `folder`. Raises EngineInstallFailed."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check"]
    match step:
        case PipInstall():
            _pip_install(step, [*pip, "install", "--progress-bar=off", "--prefer-binary"], programs)
        case PipUninstall():
            label = f"removing {', '.join(step.packages)}"
            programs.must_end_well(label, [*pip, "uninstall", "--yes", *step.packages])
        case SecondName():
            programs.teller.step(f"naming {step.distribution} {step.name} {step.version} too")
            add_second_name(step, folder)
        case RunsWell():
            label = f"trying {step.program}"
            programs.must_end_well(label, [str(folder / "bin" / step.program), *step.args])


def _pip_install(step: PipInstall, pip: Sequence[str], programs: Programs) -> None:
    label = f"installing {step.requirements[0].partition(';')[0]}"
    code, said = programs.run(label, [*pip, *step.requirements])
    if code != 0 and step.torch_index is not None and lacks_torch(said):
        label = f"{label}, with torch from {step.torch_index}"
        code, said = programs.run(label, [*pip, "--extra-index-url", step.torch_index, *step.requirements])
    if code != 0:
        raise explain_failure(label, code, said, programs.log)


def add_second_name(step: SecondName, folder: Path) -> None:
    """Copies the metadata folder of `step.distribution`, with another name and version in its METADATA."""
    stem = step.distribution.replace("-", "_")
    found = sorted(folder.glob(f"lib/python3*/site-packages/{stem}-*.dist-info"))
    if len(found) != 1:
        raise EngineInstallFailed(
            f"{step.distribution} was installed without the metadata that Inferry needs ({stem}-*.dist-info): this "
            "version is packed in another way than the one that the recipe was made for. Install without --version."
        )
    copy = found[0].with_name(f"{step.name}-{step.version}.dist-info")
    shutil.copytree(found[0], copy)
    metadata = copy / "METADATA"
    text = metadata.read_text()
    for field, value in (("Name", step.name), ("Version", step.version)):
        text = re.sub(rf"^{field}: .*$", f"{field}: {value}", text, count=1, flags=re.MULTILINE)
    metadata.write_text(text)


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip() and not line.lstrip().startswith("WARNING")]
    return lines[-1].strip() if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(TERMINATE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
