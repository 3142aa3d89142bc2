"""Server-sent events out of pieces: the standard's rules, and when each event was complete."""

from __future__ import annotations

import pytest

from inferry.bench.dialects.sse import Event, events


def heard(*pieces: bytes, whole: bool = False) -> list[Event]:
    """Pieces come at 1, 2, 3… s."""
    return list(events(tuple((float(at), piece) for at, piece in enumerate(pieces, start=1)), whole=whole))


def test_an_event_has_the_time_of_its_last_byte() -> None:
    """Begun in the first piece and ended in the third: it came at 3 s; what was whole before came before."""
    assert heard(b"data: a\n\ndata: ", b"b", b"c\n\ndata: d\n\n") == [
        Event(1.0, b"a"),
        Event(3.0, b"bc"),
        Event(3.0, b"d"),
    ]


def test_an_event_ends_with_its_empty_line() -> None:
    """Without the second line end the reader could not know that it is over."""
    assert heard(b"data: a\n", b"\n") == [Event(2.0, b"a")]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"data: a\n\n", Event(1.0, b"a")),
        (b"data:a\n\n", Event(1.0, b"a")),
        (b"data:  a\n\n", Event(1.0, b" a")),
        (b"data: a\ndata: b\n\n", Event(1.0, b"a\nb")),
        (b"event: error\r\ndata: a\r\n\r\n", Event(1.0, b"a", "error")),
        (b"data: a\rid: 1\r\r", Event(1.0, b"a")),
        (b": comment\ndata: a\n\n", Event(1.0, b"a")),
        (b"\n\n\ndata: a\n\n", Event(1.0, b"a")),
        (b"\xef\xbb\xbfdata: a\n\n", Event(1.0, b"a")),
        (b"data: a: b\n\n", Event(1.0, b"a: b")),
    ],
)
def test_lines_are_read_as_the_standard_has_them(block: bytes, expected: Event) -> None:
    """Each form of a field, of line ends, and of what is skipped."""
    assert heard(block) == [expected]


@pytest.mark.parametrize(
    "block", [b"", b": ping\n\n", b"event: ping\n\n", b"data:\n\n", b"retry: 5\n\n", b"\n\n"]
)
def test_what_has_no_data_is_no_event(block: bytes) -> None:
    """Comments, pings and settings; also at the end of a whole body."""
    assert heard(block) == heard(block, whole=True) == []


def test_half_an_event_counts_only_at_a_proper_end() -> None:
    """A server that forgets the last empty line is understood; of a cut body the rest is nothing."""
    assert heard(b"data: a\n\ndata: b") == [Event(1.0, b"a")]
    assert heard(b"data: a\n\ndata: b\n", whole=True) == [Event(1.0, b"a"), Event(1.0, b"b")]


def test_no_pieces_are_no_events() -> None:
    """Nor are empty ones."""
    assert heard() == heard(b"", b"", whole=True) == []
