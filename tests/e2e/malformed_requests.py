"""Requests that are broken in every way we know of, made from a seed.

Each generator returns the bytes of one connection. `Broken.may_pass` marks those that a server may also take
for a good request, because what is wrong with them is not the gateway's to judge.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from inferry.core.request import ROUTES

from .gateway_harness import CHAT_BODY, CHAT_STREAM

SMUGGLED = b"smuggled-in"
"""Stands in requests that hide in others; whoever sees it has been tricked."""


@dataclass(frozen=True)
class Broken:
    """The bytes of one connection."""

    name: str
    data: bytes
    may_pass: bool = False


def _request(
    *headers: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1", body: bytes = CHAT_BODY
) -> bytes:
    return b"\r\n".join([line, b"Host: x", b"Connection: close", *headers, b"", b""]) + body


def _length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def _hidden() -> bytes:
    body = CHAT_BODY.replace(b"hi", SMUGGLED)
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (_length(body), body)


def _bytes(rng: random.Random, length_max: int) -> bytes:
    return rng.randbytes(rng.randint(1, length_max))


# --- heads --------------------------------------------------------------------------------------------


def request_line(rng: random.Random) -> Broken:
    """No request line of HTTP/1, or one that asks for nothing that is here."""
    path = b"/v1/chat/completions"
    line = rng.choice(
        [
            b"POST", b"", b"POST  HTTP/1.1", b"POST " + path + b" HTTP/9.9", b"POST " + path + b" HTTP/1",
            b"POST " + path + b" HTTTP/1.1", b"POST " + path + b" http/1.1", b"POST " + path + b" HTTP/1.1 x",
            b"post " + path + b" HTTP/1.1", b"BREW " + path + b" HTTP/1.1", b"POST" * 50 + b" " + path + b" HTTP/1.1",
            b"POST\t" + path + b"\tHTTP/1.1", b" POST " + path + b" HTTP/1.1", b"POST " + path + b"\x00 HTTP/1.1",
            b"POST " + path + b"\x7f\xff HTTP/1.1", b"POST /v1/%00/%ff/%zz HTTP/1.1", b"POST /" + b"a/" * 40_000 + b" HTTP/1.1",
            b"POST /v1/../../etc/passwd HTTP/1.1", b"POST * HTTP/1.1", b"POST http:// HTTP/1.1", b"CONNECT x:1 HTTP/1.1",
            b"PRI * HTTP/2.0\r\n\r\nSM", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + _bytes(rng, 200),
            b"\x00" * 20, b"\r" * 20, _bytes(rng, 300), b"PUT " + path + b" HTTP/1.1", b"DELETE /v1/models HTTP/1.1",
            b"POST /v1/chat/completionss HTTP/1.1", b"POST /V1/CHAT/COMPLETIONS HTTP/1.1", b"OPTIONS * HTTP/1.1",
        ]
    )  # fmt: skip
    return Broken("request line", _request(_length(CHAT_BODY), line=line))


def header(rng: random.Random) -> Broken:
    """Headers that are none."""
    broken = rng.choice(
        [
            b"no colon here", b": no name", b"bad name: x", b"bad\x00name: x", b"bad\xffname: x", b"name : x", b" folded: x",
            b"a: b\r\n folded", b"a: b\r\n\tfolded", b"a: b\x00c", b"a: b\rc", b"a: \x01\x02", b"(a): b", b"a\x0b: b",
            b"x-big: " + b"a" * 70_000, b"x" * 70_000 + b": a", b"\r\n".join(b"h%d: %d" % (n, n) for n in range(12_000)),
            b"\x00: \x00", _bytes(rng, 60).replace(b"\n", b"") + b": x",
        ]
    )  # fmt: skip
    return Broken("header", _request(broken, _length(CHAT_BODY)), may_pass=True)


def bare_line_feeds(rng: random.Random) -> Broken:
    """Line ends without CR, or CR without LF, somewhere."""
    data = _request(b"X-A: b", _length(CHAT_BODY))
    places = [index for index in range(len(data) - 1) if data[index : index + 2] == b"\r\n"]
    for place in sorted(rng.sample(places, rng.randint(1, len(places))), reverse=True):
        data = data[:place] + rng.choice([b"\n", b"\r", b"\r\r\n", b"\n\r"]) + data[place + 2 :]
    return Broken("line ends", data, may_pass=True)


# --- smuggling ----------------------------------------------------------------------------------------


def two_lengths(rng: random.Random) -> Broken:
    """A length and chunks, two lengths, lengths that are no number: where one body ends is open to dispute."""
    hidden = _hidden()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT_BODY), CHAT_BODY)
    short, long = b"Content-Length: 5", b"Content-Length: %d" % (len(chunked) + len(hidden))
    te = b"Transfer-Encoding: chunked"
    headers = rng.choice(
        [
            [short, te], [te, short], [long, te], [te, long], [short, long], [long, short], [b"Content-Length: 5, 6"],
            [b"Content-Length: +5"], [b"Content-Length: -5"], [b"Content-Length: 0x5"], [b"Content-Length: 5 5"],
            [b"Content-Length: 5a"], [b"Content-Length: "], [b"Content-Length: " + b"9" * 30], [b"Content-Length: 1e1"],
            [b"Content-Length: 18446744073709551617"], [b"Content-Length:\x0b5"], [b"Content-Length: \xd9\xa5"],
            [te, b"Transfer-Encoding: identity"], [b"Transfer-Encoding: chunked, identity"], [b"Transfer-Encoding: xchunked"],
            [b"Transfer-Encoding: chunked\x00"], [b"Transfer-Encoding : chunked"], [b"Transfer-Encoding:\x0bchunked"],
            [b"Transfer-Encoding: gzip"], [b"Transfer-Encoding: 'chunked'"], [b"Transfer\xffEncoding: chunked", short],
            [b" Transfer-Encoding: chunked", short], [b"X: y\r\n Transfer-Encoding: chunked", short],
            [b"X: y\nTransfer-Encoding: chunked", short], [b"Transfer-Encoding: chunked\r\n , identity"],
        ]
    )  # fmt: skip
    return Broken("two lengths", _request(*headers, body=chunked + hidden), may_pass=True)


def chunk_tricks(rng: random.Random) -> Broken:
    """Chunks whose sizes or ends are not what they must be."""
    size = b"%x" % len(CHAT_BODY)
    body = rng.choice(
        [
            b"-" + size + b"\r\n" + CHAT_BODY, b"0x" + size + b"\r\n" + CHAT_BODY, b"+" + size + b"\r\n" + CHAT_BODY,
            b"1" + b"0" * 16 + b"\r\n" + CHAT_BODY, b"f" * 16 + b"\r\n" + CHAT_BODY, b"zz\r\n" + CHAT_BODY, b"\r\n" + CHAT_BODY,
            size + b"\n" + CHAT_BODY + b"\n0\n\n", size + b"\r" + CHAT_BODY, size + b" \r\n" + CHAT_BODY, b" " + size + b"\r\n" + CHAT_BODY,
            size + b";a=\x00\r\n" + CHAT_BODY, size + b";" + b"a" * 70_000 + b"\r\n" + CHAT_BODY, size + b";a\nb\r\n" + CHAT_BODY,
            size + b"\r\n" + CHAT_BODY + b"xx", size + b"\r\n" + CHAT_BODY, size + b"\r\n" + CHAT_BODY + b"\r\n",
            size + b"\r\n" + CHAT_BODY + b"\r\n0\r\nTrailer\x00: x\r\n\r\n", b"5\r\n" + CHAT_BODY + b"\r\n0\r\n\r\n",
            size + b"\r\n" + CHAT_BODY + b"\r\n0\r\n" + b"a: b\r\n" * 15_000 + b"\r\n", b"0\r\n\r\n", b"00000000000000000000\r\n\r\n",
        ]
    )  # fmt: skip
    return Broken("chunks", _request(b"Transfer-Encoding: chunked", body=body + _hidden()), may_pass=True)


# --- bodies -------------------------------------------------------------------------------------------


def no_json(rng: random.Random) -> Broken:
    """Bodies that are no JSON object in UTF-8."""
    deep = rng.choice([10, 1000, 20_000])
    body = rng.choice(
        [
            b"", b" ", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"{]", b"{'model': 'chat'}", b"{model: 1}", b"//\n{}",
            b"\xef\xbb\xbf" + CHAT_BODY, CHAT_BODY.decode().encode("utf-16"), b"\xff\xfe", CHAT_BODY + b"x", CHAT_BODY + CHAT_BODY,
            CHAT_BODY.replace(b"hi", b"\xff"), CHAT_BODY.replace(b"chat", b"\xc3"), CHAT_BODY.replace(b"hi", b"\x00"),
            CHAT_BODY.replace(b"role", b"\xed\xa0\x80"), CHAT_BODY.replace(b'"hi"', b"NaN"), CHAT_BODY.replace(b'"hi"', b"Infinity"),
            CHAT_BODY.replace(b'"hi"', b'"\\ud800"'), CHAT_BODY.replace(b'"hi"', b'"\\x"'), CHAT_BODY.replace(b'"hi"', b'"\n"'),
            b"[" * deep, b'{"a":' * deep, CHAT_BODY.replace(b'"hi"', b"[" * deep + b"]" * deep),
            CHAT_BODY.replace(b'"hi"', b'{"a":' * deep + b"1" + b"}" * deep), CHAT_BODY.replace(b'"hi"', b"9" * deep),
            CHAT_BODY.replace(b'"hi"', b"1e" + b"9" * deep), CHAT_BODY[: rng.randrange(len(CHAT_BODY))], _bytes(rng, 500),
        ]
    )  # fmt: skip
    return Broken("no JSON", _request(_length(body), body=body), may_pass=True)


_ODD = [
    "null", "true", "false", "0", "-1", "1", "0.5", "-0.0", "1e308", "1e400", "-1e-400", "9" * 30, "9" * 5000, "1" + "0" * 400, '""', '"x"',
    '"' + "x" * 3000 + '"', '"\\u0000"', "[]", "[[]]", "{}", '[{"role":1}]', '[{"role":"user"}]', "[null]", '{"include_usage":"yes"}', "[1,2]", '{"a":{"b":[]}}',
]  # fmt: skip
_FIELDS = [
    "model", "messages", "stream", "temperature", "top_p", "n", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "stream_options", "prompt", "input", "query", "documents", "content", "tools", "stop", "user", "\\u0000", "",
]  # fmt: skip


def wrong_types(rng: random.Random) -> Broken:
    """Each field with each kind of value, on every route."""
    path = rng.choice(list(ROUTES))
    fields = {
        "model": '"chat"',
        "messages": '[{"role":"user","content":"x"}]',
        "prompt": '"x"',
        "input": '"x"',
    }
    for _ in range(rng.randint(1, 3)):
        fields[rng.choice(_FIELDS)] = rng.choice(_ODD)
    if rng.random() < 0.2:
        fields.pop(rng.choice(list(fields)))
    pairs = [f'"{name}":{value}' for name, value in fields.items()]
    if rng.random() < 0.1:
        pairs += pairs[:1]
    body = ("{" + ",".join(pairs) + "}").encode()
    line = f"POST {path} HTTP/1.1".encode()
    return Broken("wrong types", _request(_length(body), line=line, body=body), may_pass=True)


# --- whole connections --------------------------------------------------------------------------------


def cut_off(rng: random.Random) -> Broken:
    """A good request of which the end is missing."""
    data = _request(_length(CHAT_BODY))
    return Broken("cut off", data[: rng.randrange(1, len(data))])


def behind_a_good_one(rng: random.Random) -> Broken:
    """Garbage in line behind a good request."""
    first = _request(_length(CHAT_STREAM), body=CHAT_STREAM).replace(b"Connection: close\r\n", b"")
    rest = rng.choice([request_line, header, two_lengths, chunk_tricks, cut_off])(rng).data
    return Broken("pipelined", first + rng.choice([rest, _bytes(rng, 100) + rest]), may_pass=True)


def mutated(rng: random.Random) -> Broken:
    """A good request with a few bytes changed, taken out, put in or doubled."""
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT_BODY), CHAT_BODY)
    data = bytearray(
        rng.choice([_request(_length(CHAT_BODY)), _request(b"Transfer-Encoding: chunked", body=chunked)])
    )
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randint(1, 8)]
            case 2:
                data[place:place] = _bytes(rng, 8)
            case _:
                data[place:place] = data[place : place + 20]
        data = data or bytearray(b"x")
    return Broken("mutated", bytes(data), may_pass=True)


GENERATORS: list[Callable[[random.Random], Broken]] = [
    request_line, header, bare_line_feeds, two_lengths, chunk_tricks, no_json, wrong_types, cut_off, behind_a_good_one,
    mutated,
]  # fmt: skip


def broken_request(seed: int) -> Broken:
    """The request that belongs to `seed`."""
    rng = random.Random(seed)
    return rng.choice(GENERATORS)(rng)


def broken_body(seed: int) -> bytes:
    """A body for the decoder: JSON with odd values, or a good body with bytes changed."""
    rng = random.Random(seed)
    data = rng.choice([no_json, wrong_types])(rng).data.partition(b"\r\n\r\n")[2]
    if rng.random() < 0.5 and data:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.choice(b'{}[]",:0123456789.eE-+\\ntf\x00\xff')
        data = bytes(changed)
    return data
