"""Streams pass in whole events, however the network cuts them."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from inferry.gateway.sse import (
    HELD_BYTES_MAX,
    EventGate,
    ends_with_done,
    event_fields,
    split_events,
    without_done,
    without_usage,
)

USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
SPACED = b'data: {"id": "x", "choices": [], "usage": {"prompt_tokens": 1}}'
STREAMS = {
    "openai": b'data: {"a":1}\n\ndata: {"b":2}\n\n' + USAGE + b"\n\ndata: [DONE]\n\n",
    "spaced": b'data: {"a": 1}\n\n' + SPACED + b"\n\ndata: [DONE]\n\n",
    "crlf": b"event: m\r\ndata: 1\r\n\r\n" + USAGE + b"\r\n\r\ndata: [DONE]\r\n\r\n",
    "cr": b"data: 1\r\r" + USAGE + b"\r\rdata: 2\r\r",
    "mixed": b": ping\r\n\ndata: 1\n\r\n" + USAGE + b"\n\r\ndata: 2\r\n\r\ndata: 3\n\n",
    "comments": b":\n\n\n\n: x\n\n:\n\ndata: 1\n\n" + USAGE + b"\n\n",
    "blank lines": b"\n\n\ndata: 1\n\n\n\n" + USAGE + b"\n\n\n\ndata: 2\n\n",
    "many lines": b'id: 1\nevent: e\ndata: {"a":\ndata: 2}\n\n' + USAGE + b"\n\n",
    "cut short": b'data: {"a":1}\n\n' + USAGE + b'\n\ndata: {"b":',
    "usage last": b"data: 1\n\n" + USAGE + b"\n\n",
    "nothing": b"",
    "no event": b"data: half",
}
_WHOLE = re.compile(rb"(?s).*(?:\n\n|\n\r\n|\r\r)\Z")


def through(chunks: list[bytes], *, drop_usage: bool) -> list[bytes]:
    gate = EventGate()
    pieces = [*map(gate.feed, chunks), gate.finish()]
    return [without_usage(piece) if drop_usage else piece for piece in pieces]


def expected_without_usage(stream: bytes) -> bytes:
    """The claim, written another way: the event with the usage is cut out with its empty line."""
    return re.sub(
        rb"(?:" + re.escape(USAGE) + rb"|" + re.escape(SPACED) + rb")(?:\r\n\r\n|\n\r\n|\n\n|\r\r)",
        b"",
        stream,
    )


def cuts(stream: bytes) -> list[list[bytes]]:
    """Every split in two and in three, single bytes, and some random ones."""
    places = range(len(stream) + 1)
    found = [[stream[:at], stream[at:]] for at in places]
    found += [
        [stream[:a], stream[a:b], stream[b:]] for a, b in itertools.combinations_with_replacement(places, 2)
    ]
    found.append([stream[at : at + 1] for at in range(len(stream))])
    rng = random.Random(7)
    for _ in range(50):
        ends = sorted(rng.sample(places, min(6, len(places))))
        found.append([stream[a:b] for a, b in itertools.pairwise([0, *ends, len(stream)])])
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_passes_every_byte(name: str) -> None:
    """Whole streams come out as they went in, at every split in two and three."""
    stream = STREAMS[name]
    for chunks in cuts(stream):
        assert b"".join(through(chunks, drop_usage=False)) == stream, chunks


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_takes_out_the_usage_event(name: str) -> None:
    """The usage that only the gateway asked for never reaches the client, wherever the stream is cut."""
    expected = expected_without_usage(STREAMS[name])
    assert b"usage" not in expected
    for chunks in cuts(STREAMS[name]):
        assert b"".join(through(chunks, drop_usage=True)) == expected, chunks


@pytest.mark.parametrize("drop_usage", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_no_half_event_goes_out(name: str, drop_usage: bool) -> None:
    """Whatever has been sent ends at an empty line, so an error event can be put behind it at any time."""
    for chunks in cuts(STREAMS[name]):
        sent = b""
        gate = EventGate()
        for chunk in chunks:
            whole = gate.feed(chunk)
            sent += without_usage(whole) if drop_usage else whole
            assert sent == b"" or _WHOLE.match(sent), (chunks, sent)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_a_whole_event_is_not_kept_waiting(end: bytes) -> None:
    """An event goes out in the call that brings its end, also with the next one's beginning behind it."""
    for event in (b":", b"data: 1", b"data: " + b"x" * 1000):
        assert EventGate().feed(event + end) == event + end
        gate = EventGate()
        assert gate.feed(event + end + b"data: ") == event + end
        assert gate.finish() == b"data: "


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}',
        b'data: {"choices":[],"usage":null,"prompt_filter_results":[]}',
        b'data: {"choices":[]}',
        b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{"}}]}',
        b'data: {"usage":{"prompt_tokens":1}}',
        b'data: {"choices":[{"delta":{"tool_calls":[{"args":{"choices":[],"usage":{}}}]}}]}',
    ],
)
def test_only_the_usage_event_is_taken_out(event: bytes) -> None:
    """Events that carry text, or only look alike, pass."""
    stream = b"data: 1\n\n" + event + b"\n\ndata: [DONE]\n\n"
    assert b"".join(through([stream], drop_usage=True)) == stream


def test_a_broken_stream_loses_its_half_event() -> None:
    """`discard` forgets what was held."""
    gate = EventGate()
    assert gate.feed(b"data: 1\n\ndata: ha") == b"data: 1\n\n"
    gate.discard()
    assert gate.finish() == b""


def test_what_is_held_has_a_bound() -> None:
    """An endless event is passed on in pieces, and nothing of it is lost or doubled."""
    gate = EventGate()
    chunk = b"x" * 10_000
    out = b""
    for count in range(1, 101):
        out += gate.feed(chunk)
        assert count * len(chunk) - len(out) <= HELD_BYTES_MAX
    assert out + gate.finish() == chunk * 100


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b""])
def test_the_end_mark_is_known_and_taken_off(end: bytes) -> None:
    """`[DONE]` goes, with its event, whatever its line ends are; what came before it stays."""
    for before in (b"", b'data: {"a":1}\n\n', b'data: {"a":1}\r\n\r\n', b": ping\n\n"):
        stream = before + b"data: [DONE]" + end
        assert ends_with_done(stream) == (len(end) > 1)
        assert without_done(stream) == before


@pytest.mark.parametrize("stream", [b"", b"data: 1\n\n", b'data: {"a":"[DONE]"}\n\n', b"\n\n"])
def test_other_ends_stay(stream: bytes) -> None:
    """A model that writes the mark has not ended anything."""
    assert not ends_with_done(stream)
    assert without_done(stream) == stream


def test_events_are_taken_apart() -> None:
    """Objects of whole events; None for what is no object, and what is half there."""
    whole, rest = split_events(
        b'"}\n\nevent: e\r\ndata: {"a":\r\ndata: 2}\r\n\r\ndata: [1]\n\n: x\n\ndata: {"b"'
    )
    assert [event_fields(event) for event in whole] == [None, {"a": 2}, None, None]
    assert rest == b'data: {"b"'
    assert event_fields(rest) is None
