"""A deployment file is repaired in one round: what hides behind a mistake is told with it, and nothing that isn't so."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferry.core.config_file import parse_text
from inferry.core.errors import ConfigError

LLAMA = "deployments:\n  a:\n    engine: llamacpp\n    model: file:m\n"


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_text(text, Path("inferry.yaml"), environ)
    return [line.removeprefix("inferry.yaml:") for line in caught.value.message.splitlines()]


@pytest.mark.parametrize(
    ("text", "beginnings"),
    [
        pytest.param(
            LLAMA + "    replicas: 0\n    extra_args: [x]\n",
            ["2: deployments.a: 'extra_args' are for", "5: deployments.a.replicas: must be at least 1"],
            id="a value, and what the deployment means",
        ),
        pytest.param(
            LLAMA + "    replicas: 0\n  b: {engine: simulated, aliases: [a]}\n",
            ["1: 'a' names both 'a' and 'b'", "5: deployments.a.replicas: must"],
            id="a value, and what the whole file means",
        ),
        pytest.param(
            LLAMA + "    extra_args: [x]\n  b: {engine: simulated, aliases: [a]}\n",
            ["1: 'a' names both 'a' and 'b'", "2: deployments.a: 'extra_args' are for"],
            id="what a deployment means, and what the whole file means",
        ),
        pytest.param(
            LLAMA + "    replicas: 0\nnames: {n: {split: [{deployment: c}]}}\n",
            ["5: deployments.a.replicas: must", "6: names.n: split[0]: there is no deployment 'c'."],
            id="a deployment, and names that lead nowhere",
        ),
        pytest.param(
            "deployments: {a: {model: x}}\ngateway: {listen: '0.0.0.0:1', workers: 0}\n",
            [
                "1: deployments.a.engine is missing",
                "2: gateway.workers: must",
                "2: gateway: '0.0.0.0:1' can be reached",
            ],
            id="a deployment without an engine, and what another section means",
        ),
        pytest.param(
            LLAMA + "    replicas: 0\n    threads: ${UNSET}\ngateway: {listen: '${UNSET}'}\n",
            [
                "5: deployments.a.replicas: must",
                "6: deployments.a.threads: the environment variable UNSET is not set",
                "7: gateway.listen: the environment variable UNSET is not set",
            ],
            id="variables that are not set, and a value",
        ),
    ],
)
def test_what_hides_behind_a_mistake_is_told_with_it(text: str, beginnings: list[str]) -> None:
    """Keys, sections and the whole file, and variables that are not set: in one message, in the file's order."""
    found = problems(text)
    assert len(found) == len(beginnings), found
    assert [line for line, begins in zip(found, beginnings, strict=True) if not line.startswith(begins)] == []


@pytest.mark.parametrize(
    ("text", "only"),
    [
        (LLAMA + "    load: on_demnd\n    idle_unload_s: 5\n", "5: deployments.a.load: "),
        (LLAMA + "    lod: on_demand\n    idle_unload_s: 5\n", "5: deployments.a.lod: "),
        (LLAMA + "    binray: ./llama-server\n    extra_args: [x]\n", "5: deployments.a.binray: "),
        (LLAMA + "    routing: {policy: sesion, load_bound: 2}\n", "5: deployments.a.routing.policy: "),
        (LLAMA + "gateway: {listen: '0.0.0.0:1', auth: kyes}\n", "5: gateway.auth: "),
        (LLAMA + "    filters: [{name: f, trems: [x]}]\n", "5: deployments.a.filters.0.trems: "),
        (
            "deployments:\n  Guard: {engine: simulated}\n"
            "  b: {engine: simulated, filters: [{name: f, guard: Guard}]}\nnames: {n: {split: [{deployment: Guard}]}}\n",
            "2: deployments.Guard: ",
        ),
        (
            "deployments:\n  a: {engine: lama, aliases: [x]}\n  b: {engine: simulated}\n"
            "names: {n: {split: [{deployment: a}, {deployment: b}]}}\n",
            "2: deployments.a.engine: ",
        ),
        (LLAMA + "    health: {stuck_after_s: x, hand_over_after_s: 20}\n", "5: deployments.a.health.stuck"),
    ],
)
def test_what_only_follows_from_a_mistake_is_not_told(text: str, only: str) -> None:
    """What would be right if the first mistake were not there is not called wrong."""
    [line] = problems(text)
    assert line.startswith(only)


GOOD = """\
gateway: {listen: "127.0.0.1:1", auth: keys, cors: {origins: ["*"]}, filters: [{name: f, terms: [x]}]}
host: {memory_budget: 8GiB}
tenants: {t: {limits: {requests_per_minute: 5}, weight: 2}}
deployments:
  a: {engine: llamacpp, model: "file:m", replicas: 2, aliases: [x, y], routing: {policy: session, load_bound: 2}}
  b: {engine: openai, model: m, endpoints: ["http://h:1/v1"], weights: {"http://h:1/v1": 2}}
  c: {engine: vllm, model: "hf:a/b", speculative: {method: ngram}, lora: {l: ./l}, health: {breaker: {open_s: 3}}}
names: {n: {split: [{deployment: a, weight: 3}, {deployment: b}], fallbacks: [c], shadow: []}}
"""


def spoil(value: Any, dice: random.Random) -> None:
    """Drop, rename or replace one thing, somewhere in `value`."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = dice.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and dice.random() < 0.8:
        spoil(value[key], dice)
        return
    old = value.pop(key)
    if isinstance(value, dict):
        match dice.randrange(3):
            case 0:
                value[f"{key}X"] = old
            case 1:
                value[key] = dice.choice([None, -1, "x y", [], {}, True, [1], {"q": 1}])


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_spoilt_is_answered_in_lines(seed: int) -> None:
    """Several random mistakes in a file end as a right file or as lines that each begin with a place, each once."""
    dice = random.Random(seed)
    tree = copy.deepcopy(yaml.safe_load(GOOD))
    for _ in range(dice.randrange(1, 6)):
        if tree:
            spoil(tree, dice)
    text = yaml.safe_dump(tree, sort_keys=False) if tree else "{}"
    try:
        parse_text(text, Path("inferry.yaml"), {})
    except ConfigError as error:
        lines = error.message.splitlines()
        assert [line for line in lines if not line.startswith("inferry.yaml:")] == []
        assert len(set(lines)) == len(lines)
