"""The log file: every line is one JSON object, whoever wrote it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from inferry.cli.logging_setup import log_to_file


@pytest.fixture
def log_path(tmp_path: Path) -> Iterator[Path]:
    """A log file; afterwards logging is as it was."""
    root = logging.getLogger()
    before, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    path = tmp_path / "inferry.jsonl"
    log_to_file(path)
    yield path
    for handler in [each for each in root.handlers if each not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.raiseExceptions = raises
    structlog.reset_defaults()


def test_each_line_is_json(log_path: Path) -> None:
    """Our events as they are; a library's words, over several lines even, as one event."""
    structlog.get_logger().info("replica_state", replica="chat-0")
    logging.getLogger("uvicorn.error").error("Cancel %s running task(s)\nand more", 3)
    ours, theirs = [json.loads(line) for line in log_path.read_text().splitlines()]
    assert (ours["event"], ours["replica"], ours["level"]) == ("replica_state", "chat-0", "info")
    assert theirs["message"] == "Cancel 3 running task(s)\nand more"
    assert (theirs["event"], theirs["logger"], theirs["level"]) == (
        "library_message",
        "uvicorn.error",
        "error",
    )
    assert theirs.keys() >= {"timestamp"}
