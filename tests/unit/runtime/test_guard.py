"""The guard's reading of its pipe."""

from __future__ import annotations

import os

from inferry.runtime.guard import read_groups


def test_groups_are_registered_and_forgotten() -> None:
    """What is left at end of file is what was registered and not forgotten; lines may come in pieces."""
    read_fd, write_fd = os.pipe()
    for piece in (b"+100\n+2", b"00\n+300\n", b"-100\n"):
        os.write(write_fd, piece)
    os.close(write_fd)
    assert read_groups(read_fd) == {200, 300}
    os.close(read_fd)


def test_dangerous_and_broken_lines_are_passed_over() -> None:
    """Neither everyone (1), nor the guard's own group (0), nor rubbish is ever registered."""
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"+0\n+1\n+-5\n+\n\nx\n+12x\n+500\n+7")
    os.close(write_fd)
    assert read_groups(read_fd) == {500}
    os.close(read_fd)
