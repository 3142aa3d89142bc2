"""From the journal to the output."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from inferry.batch.journal import Header, Journal, journal_path
from inferry.batch.output import write_output
from inferry.batch.record import Record


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def journal(output: Path) -> Journal:
    """Lines 3, 1, 4 and 2 in the order of their end; 3 has failed."""
    journal = Journal(journal_path(output), Header("run1", "sha", None, None), 5)
    for line in (3, 1, 4, 2):
        journal.append(Record(line, msgspec.Raw(b'{"n":%d}' % line), "500" if line == 3 else None))
    return journal


def test_the_output_is_in_the_inputs_order(journal: Journal, output: Path) -> None:
    """One line each, failures in their place, and nothing else left in the folder."""
    write_output(journal, output, None)
    assert output.read_text() == '{"n":1}\n{"n":2}\n{"n":3}\n{"n":4}\n'
    assert [each.name for each in output.parent.iterdir()] == ["out.jsonl"]


def test_failures_may_have_a_file_of_their_own(journal: Journal, output: Path) -> None:
    """Then the output has the answers only, both in order; the file is there also without failures."""
    errors = output.with_name("errors.jsonl")
    write_output(journal, output, errors)
    assert output.read_text() == '{"n":1}\n{"n":2}\n{"n":4}\n'
    assert errors.read_text() == '{"n":3}\n'


def test_killed_on_the_way_it_is_done_again(
    journal: Journal, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails before the output has its name leaves the journal, and no half output; a second go makes it
    whole."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        write_output(journal, output, None)
    assert not output.exists()
    journal.close()
    again = Journal(journal.path, journal.header, 5)
    write_output(again, output, None)
    assert output.read_text() == '{"n":1}\n{"n":2}\n{"n":3}\n{"n":4}\n'
    assert [each.name for each in output.parent.iterdir()] == ["out.jsonl"]
