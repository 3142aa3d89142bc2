"""Faults as they are commanded."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.testing.simulated_faults import (
    Fault,
    FaultBoard,
    FaultError,
    FaultKind,
    read_fault,
    read_fault_header,
)


def test_body_and_header_say_the_same() -> None:
    """Both forms give the same fault, with the same defaults."""
    assert read_fault_header("cut") == read_fault({"kind": "cut"}) == Fault(FaultKind.CUT)
    assert read_fault_header("stall; after_tokens=3; seconds=0.5") == read_fault(
        {"kind": "stall", "after_tokens": 3, "seconds": 0.5}
    )


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({}, "kind must be one of"),
        ({"kind": "explode"}, "kind must be one of"),
        ({"kind": ["cut"]}, "kind must be one of"),
        ({"kind": "cut", "after_token": 3}, "there is no 'after_token'"),
        ({"kind": "cut", "after_tokens": "many"}, "after_tokens must be int"),
        ({"kind": "cut", "after_tokens": -1}, "at least 0"),
        ({"kind": "stall", "seconds": float("nan")}, "at least 0"),
        ({"kind": "slow", "factor": 0}, "more than 0"),
        ({"kind": "error_status", "status": 200}, "400 to 599"),
        ({"kind": "bad_bytes", "where": "there"}, "framing or event"),
        ({"kind": "cut", "times": 0}, "times must be"),
        ({"kind": "cut", "times": "twice"}, "times must be"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(wanted: dict[str, Any], words: str) -> None:
    """The message names the part that is wrong, and nothing is armed."""
    board = FaultBoard()
    with pytest.raises(FaultError, match=words):
        board.arm(wanted)
    assert board.listing() == []


@pytest.mark.parametrize("header", ["", "cut;after_tokens", "cut;=3"])
def test_a_header_that_makes_no_sense_is_refused(header: str) -> None:
    """A typo in the header is an error, not a request without a fault."""
    with pytest.raises(FaultError):
        read_fault_header(header)


def test_faults_hit_in_order_and_so_many_times() -> None:
    """Each is used up by its number of requests; null lasts until cleared; clearing forgets all."""
    board = FaultBoard()
    board.arm({"kind": "cut", "times": 2})
    board.arm({"kind": "slow", "times": None})
    board.arm({"kind": "loading"})
    assert [entry["times"] for entry in board.listing()] == [2, None]  # loading begins at once
    hits = [board.take() for _ in range(4)]
    assert [hit.kind for hit in hits if hit is not None] == ["cut", "cut", "slow", "slow"]
    board.clear()
    assert board.take() is None
