"""From the journal to the output: in the input's order, and there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from inferry.batch.journal import Journal

PART_SUFFIX = ".part"


def write_output(journal: Journal, output: Path, errors: Path | None) -> None:
    """Write all records, then delete the journal. With `errors`, failed requests go there and not into `output`.

    Killed at any moment, it can be done again: the journal goes last. Raises OSError where the disk fails.
    """
    with contextlib.ExitStack() as stack:
        answers = stack.enter_context(_whole_file(output))
        failures = answers if errors is None else stack.enter_context(_whole_file(errors))
        for record in journal.in_input_order():
            (answers if record.failure is None else failures).write(bytes(record.entry) + b"\n")
    journal.discard()


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends without an error, after it has reached the disk."""
    part = path.with_name(path.name + PART_SUFFIX)
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
