"""A few at a time, and nobody forgotten."""

from __future__ import annotations

import pytest

from inferry.gateway.in_turn import InTurn


@pytest.mark.parametrize("size", [0, 1, 7, 20, 2001])
def test_everybody_once_in_a_round(size: int) -> None:
    """A round of 20 calls names each once, at most a twentieth (and one) at a time."""
    in_turn = InTurn[int](20)
    for _ in range(3):
        parts = [in_turn.next(range(size)) for _ in range(20)]
        assert sorted(each for part in parts for each in part) == list(range(size))
        assert max(map(len, parts)) <= size // 20 + 1


def test_newcomers_wait_for_the_next_round() -> None:
    """Who comes in the middle has a turn in the round that begins then."""
    in_turn = InTurn[str](2)
    assert in_turn.next(["a", "b"]) == ["a"]
    assert in_turn.next(["a", "b", "c"]) == ["b"]
    assert in_turn.next(["c"]) == ["c"]
