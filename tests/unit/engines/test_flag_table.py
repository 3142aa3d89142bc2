"""The tables of flags that ship with Inferry."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from inferry.core.errors import ConfigError
from inferry.engines.flag_table import FlagTable, table_for
from inferry.engines.program import version_numbers

FILES = sorted(
    entry.name
    for entry in (resources.files("inferry.engines") / "tables").iterdir()
    if entry.name.endswith(".json")
)


def content(name: str) -> dict[str, object]:
    loaded = json.loads((resources.files("inferry.engines") / "tables" / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def table(name: str) -> FlagTable:
    loaded = content(name)
    return table_for(str(loaded["engine"]), str(loaded["from"]))


@pytest.mark.parametrize("name", FILES)
def test_each_table_is_sound(name: str) -> None:
    """It says what it was read from; aliases lead to flags; a flag is there or gone, not both."""
    subject = table(name)
    assert subject.since == content(name)["from"]
    assert any(char.isdigit() for char in subject.read_from), "names no version"
    assert len(subject.flags) > 5
    assert set(subject.flags.values()) <= {"switch", "value", "values", "maybe"}
    assert all(flag.startswith("-") for flag in (*subject.flags, *subject.aliases, *subject.gone))
    assert set(subject.aliases.values()) <= set(subject.flags)
    assert not set(subject.aliases) & set(subject.flags)
    if subject.through is None:
        assert not set(subject.gone) & {*subject.flags, *subject.aliases}


@pytest.mark.parametrize("name", FILES)
def test_gone_flags_have_a_way_out(name: str) -> None:
    """A successor that is named as a flag exists in the same table."""
    subject = table(name)
    for gone in subject.gone.values():
        assert gone.instead
        assert version_numbers(gone.since)
        for word in gone.instead.replace(",", " ").replace(":", " ").replace("'", " ").split():
            if word.startswith("--"):
                assert subject.known(word.partition("=")[0]) in subject.flags, word


@pytest.mark.parametrize("engine", sorted({str(content(name)["engine"]) for name in FILES}))
def test_the_ranges_of_an_engine_join(engine: str) -> None:
    """Each table ends where the next one begins, and the last one is open."""
    own = sorted(
        (content(name) for name in FILES if content(name)["engine"] == engine),
        key=lambda each: version_numbers(str(each["from"])),
    )
    assert [each["until"] for each in own] == [*(each["from"] for each in own[1:]), None]


def test_the_table_of_a_version() -> None:
    """The newest for none and for newer ones, the range's for others, an error for older ones."""
    newest = table_for("vllm", None)
    assert newest.until is None
    assert table_for("vllm", "99.1").flags == newest.flags
    assert table_for("vllm", f"{newest.since}+cpu").flags == newest.flags
    older = table_for("vllm", "0.11.0")
    assert older.until is not None
    with pytest.raises(ConfigError, match=r"vllm 0\.8\.5 is older than what Inferry can start: use "):
        table_for("vllm", "0.8.5")


def test_flags_come_and_go_within_a_range() -> None:
    """A table of several versions knows in which one a flag went; beyond the last of them it is not complete."""
    assert "--swap-space" not in table_for("vllm", "0.16.0").gone
    assert "--swap-space" in table_for("vllm", "0.18.1").gone
    assert "--preemption-mode" not in table_for("vllm", "0.10.0").gone
    assert "--preemption-mode" in table_for("vllm", "0.11.2").gone
    assert table_for("vllm", "0.16.0").complete
    assert not table_for("vllm", "0.17.0").complete
    assert table_for("vllm", None).complete
    assert not table_for("vllm", "99.1").complete


def test_an_engine_without_tables() -> None:
    """Is a mistake of ours, and told as one."""
    with pytest.raises(LookupError):
        table_for("no-such-engine", None)
