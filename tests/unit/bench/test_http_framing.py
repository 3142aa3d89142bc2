"""Where a response ends, from any split of its bytes."""

from __future__ import annotations

import pytest

from inferry.bench.http_framing import HEAD_BYTES_MAX, LINE_BYTES_MAX, BadFraming, ResponseReader

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;name=value\r\nhello\r\nB\r\n, \r\nworld 0\r\n0\r\nX-Trailer: yes\r\n\r\n"
)
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\na\r\n\r\nbc"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH
TO_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nall there is"


def read(*parts: bytes) -> tuple[ResponseReader, bytes]:
    reader = ResponseReader()
    return reader, b"".join(reader.feed(part) for part in parts)


@pytest.mark.parametrize(
    ("response", "body", "complete"),
    [
        (CHUNKED, b"hello, \r\nworld 0", True),
        (LENGTH, b"a\r\n\r\nbc", True),
        (INTERIM, b"a\r\n\r\nbc", True),
        (TO_CLOSE, b"all there is", False),
    ],
)
def test_any_split_reads_the_same(response: bytes, body: bytes, complete: bool) -> None:
    """Split in two anywhere, or into single bytes: body, status and end are the same."""
    splits = [(response[:at], response[at:]) for at in range(1, len(response))]
    for parts in [*splits, tuple(response[at : at + 1] for at in range(len(response)))]:
        reader, found = read(*parts)
        assert (reader.status, found, reader.complete, reader.surplus) == (200, body, complete, False)


def test_the_connections_end_ends_what_has_no_length() -> None:
    """Without length and chunks the body goes on to the connection's end; then it is whole, and nothing is kept."""
    reader, _ = read(TO_CLOSE)
    assert not reader.keep_alive
    assert reader.connection_ended()


@pytest.mark.parametrize("cut", [CHUNKED[:-2], CHUNKED[:-20], LENGTH[:-1]])
def test_an_end_before_the_end_is_none(cut: bytes) -> None:
    """A connection that ends before the length or the last chunk has cut the answer."""
    reader, _ = read(cut)
    assert not reader.connection_ended()


@pytest.mark.parametrize("response", [CHUNKED, LENGTH])
def test_what_comes_after_the_end_is_surplus(response: bytes) -> None:
    """More bytes than the response's are noticed, in the same read or a later one, and are in no body."""
    together, body = read(response + b"HTTP")
    apart, same = read(response, b"H")
    assert together.surplus
    assert apart.surplus
    assert body == same
    assert b"HTTP" not in body


def test_the_connection_is_kept_unless_somebody_says_otherwise() -> None:
    """HTTP/1.1 keeps a connection; `Connection: close` and HTTP/1.0 don't."""
    assert read(LENGTH)[0].keep_alive
    assert not read(LENGTH.replace(b"\r\n", b"\r\nConnection: foo, Close\r\n", 1))[0].keep_alive
    assert not read(LENGTH.replace(b"1.1", b"1.0"))[0].keep_alive


def test_some_statuses_have_no_body() -> None:
    """204 and 304 end with their head."""
    assert read(b"HTTP/1.1 204 No Content\r\n\r\n")[0].complete
    assert read(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n")[0].complete


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"SSH-2.0-x\r\n", "not HTTP"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "no status line"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "another protocol"),
        (HEAD + b"x" * (HEAD_BYTES_MAX + 1), "longer than"),
        (HEAD + b"no colon\r\n\r\n", "not a header"),
        (HEAD + b"content-length: -1\r\n\r\n", "not a length"),
        (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", "not a length"),
        (HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "both"),
        (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n", "not known"),
        (CHUNKS + b"0x5\r\nhello\r\n", "not a chunk's size"),
        (CHUNKS + b"+5\r\nhello\r\n", "not a chunk's size"),
        (CHUNKS + b"1_0\r\n", "not a chunk's size"),
        (CHUNKS + b"\r\nhello\r\n", "not a chunk's size"),
        (CHUNKS + b"5\r\nhello!\r\n", "longer than its size"),
        (CHUNKS + b"5\r\nhello!", "longer than its size"),
        (CHUNKS + b"5" * (LINE_BYTES_MAX + 1), "does not end"),
        (CHUNKS + b"0\r\n" + b"a: bcdefg\r\n" * LINE_BYTES_MAX, "trailers"),
    ],
)
def test_what_could_be_read_in_two_ways_is_an_error(bad: bytes, words: str) -> None:
    """Nothing is guessed: what is not HTTP, or whose end two readers could see at two places, is refused."""
    with pytest.raises(BadFraming, match=words):
        read(bad)
