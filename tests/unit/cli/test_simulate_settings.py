"""`--set`: other values in a deployment file, with the file's own checks and words."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.simulate_settings import load_with, setting_of, settings_of
from inferry.core.config_file import LoadedFile
from inferry.core.errors import ConfigError
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.scaling_settings import ScalingRule

FILE = """\
deployments:
  llama-3.1:
    engine: simulated
    scaling: &same
      max: 10
      rules:
        - {metric: queue_depth, above: 50, add: 2}
  chat:
    engine: simulated
    replicas: ${CHATS:-3}
    scaling: *same
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inferry.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def _deployment(loaded: LoadedFile, name: str) -> SimulatedDeployment:
    found = loaded.config.deployments[name]
    assert isinstance(found, SimulatedDeployment)
    return found


def _rules(loaded: LoadedFile, name: str) -> list[ScalingRule]:
    scaling = _deployment(loaded, name).scaling
    assert scaling is not None
    return scaling.rules


def test_a_value_is_set_where_the_path_says(file: Path) -> None:
    """Keys that are not written are made; all others stay, references to the environment too."""
    loaded = load_with(file, [setting_of("deployments.chat.routing.policy=round_robin")], {})
    assert _deployment(loaded, "chat").routing.policy == "round_robin"
    assert _deployment(loaded, "chat").replicas == 3
    assert _deployment(loaded, "llama-3.1").routing.policy != "round_robin"


def test_names_with_dots_are_found(file: Path) -> None:
    """The path of `llama-3.1` has a dot more than its keys."""
    loaded = load_with(file, [setting_of("deployments.llama-3.1.replicas=4")], {})
    assert _deployment(loaded, "llama-3.1").replicas == 4


@pytest.mark.parametrize("entry", ["rules[0].above", "rules.0.above"])
def test_an_entry_of_a_list_is_set_without_touching_its_alias(file: Path, entry: str) -> None:
    """What two deployments share by an alias differs afterwards."""
    loaded = load_with(file, [setting_of(f"deployments.chat.scaling.{entry}=7")], {})
    assert [_rules(loaded, name)[0].above for name in ("llama-3.1", "chat")] == [50, 7]


def test_a_list_gets_one_more_entry(file: Path) -> None:
    """The number behind its last one adds; values are YAML."""
    text = "deployments.chat.scaling.rules.1={metric: running, target: 3}"
    rules = _rules(load_with(file, [setting_of(text)], {}), "chat")
    assert [each.metric for each in rules] == ["queue_depth", "running"]


def test_nothing_is_a_value_too(file: Path) -> None:
    """`KEY=` is as if the key were left out: here, no scaling."""
    loaded = load_with(file, [setting_of("deployments.chat.scaling=")], {})
    assert _deployment(loaded, "chat").scaling is None


def test_several_settings_stand_in_one_text() -> None:
    """A comma belongs to the value, unless a key and '=' follow."""
    found = settings_of("a.b=[1, 2],c.d=x", "--compare")
    assert [(each.key, each.value) for each in found] == [("a.b", "[1, 2]"), ("c.d", "x")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployments.chat.routng.policy=x", "deployments.chat.routng: there is no such key. Did you mean 'routing'?"),
        ("deployments.chta.replicas=1", "there is no deployment 'chta'. Did you mean 'chat'?"),
        ("gatway.listen=x", "gatway: there is no such key. Did you mean 'gateway'?"),
        ("deployments.chat.replicas=300", "deployments.chat.replicas: must be at most 256, not 300"),
        ("deployments.chat.replicas=[", "the value is not YAML"),
        ("deployments.chat.replicas.x=1", "'x' can't be looked for in '${CHATS:-3}'"),
        ("deployments.chat.scaling.rules.9.above=1", "the list has 1 entries"),
    ],
)  # fmt: skip
def test_mistakes_are_told_as_the_file_would(file: Path, text: str, said: str) -> None:
    """With the setting, the key and the way out; without lines of a text that nobody wrote."""
    with pytest.raises(ConfigError) as caught:
        load_with(file, [setting_of(text)], {})
    assert said in caught.value.message
    assert f"--set {text}" in caught.value.message
    assert "inferry.yaml:" not in caught.value.message


def test_mistakes_name_the_option_that_was_given(file: Path) -> None:
    """A value of --compare is no value of --set."""
    for text in ("deployments.chat.foo=3", "deployments.chta.replicas=1"):
        with pytest.raises(ConfigError) as caught:
            load_with(file, settings_of(text, "--compare"), {})
        assert (f"--compare {text}" in caught.value.message, "--set" in caught.value.message) == (True, False)


@pytest.mark.parametrize("text", ["hello", "=3", "a..b=1", "a b=1"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    """The error shows how one is written."""
    with pytest.raises(ConfigError, match=r"write it as KEY=VALUE"):
        setting_of(text)


def test_the_files_own_mistakes_come_first(file: Path) -> None:
    """With their lines, as everywhere."""
    file.write_text(FILE.replace("max: 10", "mix: 10"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"inferry.yaml:5: "):
        load_with(file, [setting_of("deployments.chat.replicas=1")], {})
