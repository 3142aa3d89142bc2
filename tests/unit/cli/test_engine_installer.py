"""Environments for engines: whole or not at all. Small ones, with packages made here, since pip needs no network then."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from inferry.cli.engine_environments import EngineEnvironments, InstalledEngine
from inferry.cli.engine_installer import add_second_name, install
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError, EngineInstallFailed
from inferry.engines.install_recipes import PipInstall, PipUninstall, Recipe, RunsWell, SecondName, Step


class Heard:
    """Remembers the steps; `stop_at` is one that must be interrupted."""

    def __init__(self, stop_at: str = "nothing") -> None:
        self.steps: list[str] = []
        self.stop_at = stop_at

    def step(self, label: str) -> None:
        self.steps.append(label)
        if self.stop_at in label:
            raise KeyboardInterrupt

    def line(self, text: str) -> None:
        pass


def make_wheel(folder: Path, name: str, version: str, program: str = "", needs: str = "") -> None:
    """A package `name`, whose program of the same name runs the Python text `program`."""
    stem = f"{name.replace('-', '_')}-{version}"
    module = name.replace("-", "_")
    files = {
        f"{module}.py": f"def main():\n    {program or 'pass'}\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
    }
    record = "".join(f"{each},,\n" for each in files) + f"{stem}.dist-info/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{stem}.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)


class Place:
    """A home, a folder of wheels, and a recipe that installs from it."""

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "wheels"
        self.places = EngineEnvironments(folder / "home")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        self.environ: Mapping[str, str] = {
            **kept,
            "PIP_INDEX_URL": (folder / "empty").as_uri(),
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }

    def recipe(self, version: str, *more: Step) -> Recipe:
        steps = (PipInstall((f"tiny-engine=={version}",)), *more, RunsWell("tiny-engine", ()))
        return Recipe("tiny", version, disk_bytes=1, about="a test's", steps=steps)

    def install(self, version: str, *more: Step, heard: Heard | None = None) -> str:
        return self.make(self.recipe(version, *more), heard or Heard())

    def make(self, recipe: Recipe, heard: Heard) -> str:
        made = install(recipe, self.places, teller=heard, environ=self.environ, clock=SystemClock())
        return made.version

    def folders(self) -> int:
        """Environments on disk, finished or not."""
        return len(
            [each for each in (self.places.folder / ".made" / "tiny").glob("*") if not each.is_symlink()]
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One finished environment, in version 1.0."""
    place = Place(tmp_path_factory.mktemp("installed"))
    make_wheel(place.wheels, "tiny-engine", "1.0", "print('1.0 runs')")
    make_wheel(place.wheels, "tiny-extra", "1.0")
    extra = PipInstall(("tiny-extra",))
    assert place.install(
        "1.0", extra, PipUninstall(("tiny-extra",)), SecondName("tiny-engine", "tiny", "1.0+cpu")
    )
    return place


def test_all_steps_are_taken_in_an_environment_of_its_own(installed: Place) -> None:
    """The program is there and was run, what a step takes away is away, and the second name is known."""
    home = installed.places.path("tiny")
    assert (home / "bin" / "tiny-engine").exists()
    assert "1.0 runs" in installed.places.log("tiny").read_text()
    packages = {path.name for path in home.glob("lib/python3*/site-packages/*.dist-info")}
    assert {"tiny_engine-1.0.dist-info", "tiny-1.0+cpu.dist-info"} <= packages
    assert not [name for name in packages if name.startswith("tiny_extra")]
    copied = next(home.glob("lib/python3*/site-packages/tiny-1.0+cpu.dist-info/METADATA")).read_text()
    assert copied.splitlines()[1:3] == ["Name: tiny", "Version: 1.0+cpu"]
    assert not (home / "tmp").exists()


def test_what_is_here_is_not_made_again(installed: Place) -> None:
    """A second installation of the same version takes no step."""
    heard = Heard()
    assert installed.install("1.0", heard=heard) == "1.0"
    assert heard.steps == []


def test_a_failed_one_leaves_what_was_before(installed: Place) -> None:
    """A version that there is not is an error that names those that there are; the environment is as it was."""
    before = installed.places.path("tiny").resolve()
    with pytest.raises(EngineInstallFailed, match=r"finds no tiny-engine==2\.0.*1\.0"):
        installed.install("2.0")
    assert installed.places.path("tiny").resolve() == before
    assert installed.folders() == 1


@pytest.mark.parametrize("step", ["installing", pytest.param("trying", marks=pytest.mark.slow)])
def test_an_interrupted_one_is_never_taken_for_whole(tmp_path: Path, step: str) -> None:
    """Ctrl-C in the middle, even when only the trial is missing, leaves no environment and no rest."""
    place = Place(tmp_path)
    make_wheel(place.wheels, "tiny-engine", "1.0")
    with pytest.raises(KeyboardInterrupt):
        place.install("1.0", heard=Heard(stop_at=step))
    assert place.places.find("tiny") is None
    assert not place.places.path("tiny").exists()
    assert place.folders() == 0


@pytest.mark.slow
def test_an_engine_that_does_not_run_is_not_installed(tmp_path: Path) -> None:
    """If the program fails at its trial, its last words are told, and nothing is left."""
    place = Place(tmp_path)
    make_wheel(place.wheels, "tiny-engine", "1.0", "raise ImportError('libodd.so is missing')")
    with pytest.raises(EngineInstallFailed, match=r"trying tiny-engine: .*libodd\.so is missing"):
        place.install("1.0")
    assert place.places.find("tiny") is None


@pytest.mark.slow
def test_torch_is_looked_for_at_its_own_index_if_need_be(tmp_path: Path) -> None:
    """Where the user's indexes have no such torch, the one of the recipe is asked too; otherwise it never is."""
    place, heard = Place(tmp_path), Heard()
    make_wheel(place.wheels, "tiny-engine", "1.0", needs="torch==9.9+cpu")
    index = tmp_path / "pytorch"
    make_wheel(index / "torch", "torch", "9.9+cpu")
    [wheel] = (index / "torch").iterdir()
    (index / "torch" / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    step = PipInstall(("tiny-engine==1.0",), torch_index=index.as_uri())
    recipe = dataclasses.replace(place.recipe("1.0"), steps=(step,))
    with pytest.raises(EngineInstallFailed, match=r"torch==9\.9\+cpu"):
        place.make(dataclasses.replace(recipe, steps=(PipInstall(("tiny-engine==1.0",)),)), Heard())
    place.make(recipe, heard)
    assert heard.steps == [
        "making an environment",
        "installing tiny-engine==1.0",
        f"installing tiny-engine==1.0, with torch from {index.as_uri()}",
    ]


def test_rests_of_a_killed_one_are_deleted_by_the_next(tmp_path: Path) -> None:
    """`begin` takes a new folder, and what a process left that could not clean up is gone; the current one stays."""
    places = EngineEnvironments(tmp_path)
    rest = places.begin("tiny")
    (rest / "half").write_text("half")
    current = places.begin("tiny")
    assert not rest.exists()
    assert current != rest


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A folder that has the name and is not ours is neither replaced nor deleted."""
    places = EngineEnvironments(tmp_path)
    (places.path("tiny") / "bin").mkdir(parents=True)
    for touch in (lambda: places.begin("tiny"), lambda: places.remove("tiny")):
        with pytest.raises(ConfigError, match="left alone"):
            touch()
    assert (places.path("tiny") / "bin").is_dir()


def test_too_little_room_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    """A recipe that can't fit is refused with both sizes, without a step."""
    place, heard = Place(tmp_path), Heard()
    free_bytes = shutil.disk_usage(tmp_path).free
    recipe = dataclasses.replace(place.recipe("1.0"), disk_bytes=10 * free_bytes)
    with pytest.raises(EngineInstallFailed, match=r"takes about .* has only .* left"):
        place.make(recipe, heard)
    assert heard.steps == []


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    """While one installs, another says that it waits, once; it finds what the first has made."""
    place, heard = Place(tmp_path), Heard()
    found: list[str] = []
    with place.places.lock("tiny", lambda: None):
        thread = threading.Thread(target=lambda: found.append(place.install("1.0", heard=heard)))
        thread.start()
        while not heard.steps:
            assert thread.is_alive()
        made = InstalledEngine("tiny", "1.0", "3.11", installed_wall_s=0.0)
        place.places.publish(place.places.begin("tiny"), made)
    thread.join(60)
    assert found == ["1.0"]
    assert heard.steps == ["waiting for another installation of tiny"]


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    """The environment, its rests and its log are gone; a second time there is nothing to remove."""
    places = EngineEnvironments(tmp_path)
    places.begin("tiny")
    assert places.remove("tiny")
    assert not places.remove("tiny")
    assert list((places.folder / ".made" / "tiny").iterdir()) == []


def test_a_package_packed_otherwise_is_told(tmp_path: Path) -> None:
    """Without the expected metadata the second name can't be made, and the message says what to do."""
    with pytest.raises(EngineInstallFailed, match="Install without --version"):
        add_second_name(SecondName("tiny-engine", "tiny", "1.0+cpu"), tmp_path)
