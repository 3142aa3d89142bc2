"""`names:` in the deployment file: what it takes, and what a person is told of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.core.config_file import LoadedFile, parse_text
from inferry.core.errors import ConfigError
from inferry.core.file_change import Effect, compare
from inferry.core.public_names import PERCENT_UNITS

DEPLOYMENTS = """\
deployments:
  v1: {engine: simulated, aliases: [gpt-4o]}
  v2: {engine: simulated}
  tuned: {engine: vllm, model: "hf:org/model", lora: {de: "hf:org/de"}}
names:
"""


def parse(names: str) -> LoadedFile:
    return parse_text(DEPLOYMENTS + names, Path("/srv/inferry.yaml"), {})


def test_a_split_needs_deployments_only() -> None:
    """Equal shares, nothing sticky, no fallback, no shadow: what is not asked for does not happen."""
    chat = parse("  chat: {split: [{deployment: v1}, {deployment: v2}]}\n").config.names["chat"]
    assert [(each.deployment, each.weight) for each in chat.split] == [("v1", 1), ("v2", 1)]
    assert (chat.sticky, chat.sticky_header, chat.fallbacks, chat.shadow) == ("none", None, [], [])


def test_a_sticky_header_is_known_in_lower_case() -> None:
    """HTTP's header names have no case."""
    chat = parse("  chat: {split: [{deployment: v1}], sticky: 'header:X-Session'}\n").config.names["chat"]
    assert chat.sticky_header == "x-session"


@pytest.mark.parametrize(("percent", "units"), [("5", 500), ("0.01", 1), ("33.333", 3333), ("100", 10_000)])
def test_a_shadows_percent_counts_in_hundredths(percent: str, units: int) -> None:
    """So that shares can be exact."""
    text = f"  chat: {{split: [{{deployment: v1}}], shadow: [{{deployment: v2, percent: {percent}}}]}}\n"
    [shadow] = parse(text).config.names["chat"].shadow
    assert (shadow.units, PERCENT_UNITS) == (units, 10_000)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "  v1: {split: [{deployment: v2}]}",
            "names.v1: 'v1' is a deployment. Give that one another name, and list it in 'split' by that",
        ),
        (
            "  gpt-4o: {split: [{deployment: v2}]}",
            "names.gpt-4o: 'gpt-4o' is another name of the deployment 'v1' already: take it out there",
        ),
        (
            "  tuned/de: {split: [{deployment: v2}]}",
            "names.tuned/de: 'tuned/de' is another name of the deployment 'tuned' already: take it out there",
        ),
        (
            "  chat: {split: [{deployment: v1}, {deployment: v3}]}",
            "names.chat: split[1]: there is no deployment 'v3'. Known: tuned, v1, v2.",
        ),
        (
            "  chat: {split: [{deployment: v1}], fallbacks: [v2, gpt-4o]}",
            "names.chat: fallbacks[1]: 'gpt-4o' is another name of 'v1': write 'v1'",
        ),
        (
            "  chat: {split: [{deployment: v1}], shadow: [{deployment: tunes}]}",
            "names.chat: shadow[0]: there is no deployment 'tunes'. Did you mean 'tuned'?",
        ),
        (
            "  chat: {split: [{deployment: v1, weight: 0}]}",
            "names.chat: every weight of 'split' is 0: nobody would answer. Give one of them more",
        ),
        (
            "  chat: {split: [{deployment: v1}, {deployment: v1}]}",
            "names.chat: 'split' has 'v1' twice: once is enough",
        ),
        (
            "  chat: {split: [{deployment: v1}], shadow: [{deployment: v2}], fallbacks: [v2]}",
            "names.chat: 'v2' is a shadow and answers clients, too: its figures would say nothing. Take it out of "
            "'shadow', or out of 'split' and 'fallbacks'",
        ),
        (
            "  chat: {split: [{deployment: v1}], sticky: session}",
            "names.chat.sticky: 'session' is not known: use none, user, key, or header:NAME (as in header:x-session)",
        ),
        (
            "  chat: {split: [{deployment: v1}], sticky: 'header:Authorization'}",
            "names.chat.sticky: 'header:Authorization' would go by a credential: use 'key', which goes by the API "
            "key's id",
        ),
        (
            "  'my chat': {split: [{deployment: v1}]}",
            "names.my chat: 'my chat' can't be a name: use letters, digits and . / : @ + - _, 200 at most",
        ),
        (
            "  chat: {split: [{deployment: v1, weigth: 2}]}",
            "names.chat.split.0.weigth: there is no such key. Did you mean 'weight'?",
        ),
        ("  chat: {}", "names.chat.split is missing: add 'split:'"),
        ("  chat: {split: []}", "names.chat.split is empty: at least 1 is needed."),
        ("  chat: {splits: [], split: [{deployment: v1}]}", "names.chat.splits: there is no such key. Did you mean 'split'?"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_told_with_the_way_out(names: str, message: str) -> None:
    """File, line, key, what is wrong and what to do instead."""
    with pytest.raises(ConfigError) as caught:
        parse(names + "\n")
    assert caught.value.message == f"inferry.yaml:6: {message}"


def test_wrong_deployments_are_told_once() -> None:
    """A name whose deployments could not be read is not blamed for that."""
    text = (
        "deployments:\n  v1: {engine: simulated, replica: 2}\nnames:\n  chat: {split: [{deployment: v1}]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse_text(text, Path("/srv/inferry.yaml"), {})
    assert (
        caught.value.message
        == "inferry.yaml:2: deployments.v1.replica: there is no such key. Did you mean 'replicas'?"
    )


def test_weights_change_while_everything_runs() -> None:
    """A canary grows by a change of the file: no engine is touched, nothing needs a restart."""
    old = parse("  chat: {split: [{deployment: v1, weight: 9}, {deployment: v2}]}\n")
    new = parse("  chat: {split: [{deployment: v1, weight: 1}, {deployment: v2}], fallbacks: [v1]}\n")
    change = compare(old, new)
    assert not change.restart
    assert {each.effect for each in change.deployments} == {Effect.UNCHANGED}
    assert change.refusal() is None
    assert {each.key for each in change.live} == {"names.chat.split", "names.chat.fallbacks"}
