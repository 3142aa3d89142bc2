"""Extra arguments are checked against the engine's flags before it starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.core.errors import ConfigError
from inferry.engines.flag_lint import lint
from inferry.engines.flag_table import FlagTable, GoneFlag

TABLE = FlagTable(
    engine="vllm",
    since="0.30.0",
    until=None,
    read_from="vLLM 0.32.0",
    through="0.32.0",
    flags={
        "--max-model-len": "value",
        "--enforce-eager": "switch",
        "--middleware": "values",
        "--flash": "maybe",
        "--hf-overrides": "value",
        "--optimization-level": "value",
        "--tensor-parallel-size": "value",
    },
    aliases={"-O": "--optimization-level", "-tp": "--tensor-parallel-size"},
    gone={"--swap-space": GoneFlag("0.20.0", "drop it")},
    underscores=True,
    dotted=True,
)
MANAGED = {"--tensor-parallel-size": "tensor_parallel", "--port": ""}


def test_a_managed_flag_is_found_by_any_name() -> None:
    """Where the engine's own table has the managed name as an alias of another one, both are refused."""
    table = replace(TABLE, aliases={"--tp-size": "--tensor-parallel-size"})
    for written in ("--tp-size", "--tensor-parallel-size"):
        with pytest.raises(ConfigError, match="write 'tensor_parallel'"):
            lint("here", [written, "4"], table, {"--tp-size": "tensor_parallel"})


def passes(*args: str, table: FlagTable = TABLE) -> bool:
    lint("here", args, table, MANAGED)
    return True


def problems(*args: str) -> str:
    with pytest.raises(ConfigError) as caught:
        lint("deployments.chat.extra_args", args, TABLE, MANAGED)
    return str(caught.value)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--max-model-len", "10"),
        ("--max-model-len=10", "--enforce-eager"),
        ("--max_model_len", "10"),
        ("--max-model-len", "-1"),
        ("--middleware", "a", "b", "--enforce-eager"),
        ("--flash", "--enforce-eager"),
        ("--flash", "on", "--enforce-eager"),
        ("--hf-overrides.rope.theta", "1e6"),
        ("--hf-overrides", '{"a": 1}'),
        ("--enforce-eager", '--hf-overrides={"a": 1, "b": "--x=1"}'),
        ("-O3",),
        ("-O", "3"),
    ],
)
def test_right_arguments_pass(args: tuple[str, ...]) -> None:
    """Values after a blank or an equals sign, negative numbers, JSON, short and dotted spellings."""
    assert passes(*args)


def test_an_unknown_flag() -> None:
    """The message names key, value, the nearest flag and what was compared with."""
    message = problems("--max-modle-len", "10")
    assert message.startswith("deployments.chat.extra_args: vllm has no flag '--max-modle-len'.")
    assert "Did you mean '--max-model-len'?" in message
    assert "vLLM 0.32.0" in message


def test_a_sentence_ends_once() -> None:
    """A flag that is near to none ends with one full stop, and a question with its mark."""
    assert "no flag '--qwertz-xyz'. (Known flags" in problems("--qwertz-xyz")
    assert "'--max-model-len'? (Known flags" in problems("--max-modle-len", "1")


def test_newer_engines_may_know_more() -> None:
    """Beyond the versions that were read, unknown flags pass; what is known to be wrong does not."""
    newer = replace(TABLE, complete=False)
    assert passes("--quantum", "a", "b", "--enforce-eager", table=newer)
    with pytest.raises(ConfigError, match=r"'--swap-space' is gone.*drop '--port'"):
        lint("here", ("--quantum", "--swap-space", "4", "--port", "1"), newer, MANAGED)


def test_a_flag_that_is_gone() -> None:
    """It says since when, and what to do, however it is spelled."""
    assert "'--swap-space' is gone (vllm 0.20.0 has it no more): drop it" in problems("--swap-space", "4")
    assert "'--swap_space' is gone (vllm 0.20.0 has it no more): drop it" in problems("--swap_space=4")


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("-tp", "2"), "drop '-tp': write 'tensor_parallel' in the deployment instead"),
        (("--tensor_parallel_size=2",), "write 'tensor_parallel'"),
        (("--port", "1"), "drop '--port': Inferry sets it itself"),
    ],
)
def test_a_flag_that_the_file_decides(args: tuple[str, ...], hint: str) -> None:
    """By any of its names, with the key to use in the file instead."""
    assert hint in problems(*args)


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("--max-model-len",), "'--max-model-len' needs a value"),
        (("--max-model-len", "--enforce-eager"), "'--max-model-len' needs a value"),
        (("--middleware",), "'--middleware' needs a value"),
        (("--enforce-eager=yes",), "'--enforce-eager' takes no value"),
        (("--enforce-eager", "yes"), "'yes' is not a flag, and follows none that takes it"),
        (("org/model",), "'org/model' is not a flag"),
        (("--flash", "on", "off"), "'off' is not a flag"),
    ],
)
def test_values_where_they_belong(args: tuple[str, ...], hint: str) -> None:
    """Missing ones and surplus ones are told."""
    assert hint in problems(*args)


def test_everything_that_is_wrong_at_once() -> None:
    """One message has all problems, so that one edit can mend them."""
    message = problems("--swap-space", "4", "--port", "1", "--nonsense-xyz", "--max-model-len")
    for hint in ("'--swap-space' is gone", "drop '--port'", "'--nonsense-xyz'", "needs a value"):
        assert hint in message
