"""CORS: what a page may do and read, by origin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inferry.core.gateway_settings import Cors
from inferry.gateway.cors import EXPOSED, CorsPolicy, normal_origin

PAGE = b"https://chat.example"


def names(lines: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)


def asking(origin: bytes, headers: bytes = b"authorization, content-type") -> list[tuple[bytes, bytes]]:
    return [
        (b"origin", origin),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", headers),
    ]


def test_without_settings_nothing_is_allowed() -> None:
    """No CORS section: no header at all, and every preflight is refused."""
    policy = CorsPolicy(None)
    assert policy.lines(None) == policy.lines(PAGE) == b""
    assert not policy.allows(PAGE)
    assert policy.preflight(asking(PAGE)) == (403, b"")


def test_an_allowed_page_may_read_our_headers() -> None:
    """An origin of the file gets permission by name, and may read each of our headers."""
    lines = names(CorsPolicy(Cors(origins=["https://chat.example"])).lines(PAGE))
    assert lines["access-control-allow-origin"] == "https://chat.example"
    assert lines["access-control-expose-headers"].split(", ") == list(EXPOSED)
    assert lines["vary"] == "Origin"
    assert "access-control-allow-credentials" not in lines


def test_other_pages_get_nothing_but_vary() -> None:
    """Answers without permission still say that they depend on the origin, so that caches keep them apart."""
    policy = CorsPolicy(Cors(origins=["https://chat.example"]))
    for origin in (None, b"https://evil.example", b"https://chat.example.evil.example", b"null"):
        assert policy.lines(origin) == b"vary: Origin\r\n"
    assert policy.preflight(asking(b"https://evil.example")) == (403, b"vary: Origin\r\n")


def test_star_allows_every_page_without_credentials() -> None:
    """'*' allows all, sandboxed pages too, and never together with credentials."""
    policy = CorsPolicy(Cors(origins=["*"]))
    for origin in (None, PAGE, b"null"):
        assert names(policy.lines(origin))["access-control-allow-origin"] == "*"
    assert policy.allows(b"null")


def test_credentials_are_allowed_only_where_the_file_says_so() -> None:
    """`credentials: true` is told to allowed origins only."""
    policy = CorsPolicy(Cors(origins=["https://chat.example"], credentials=True))
    assert names(policy.lines(PAGE))["access-control-allow-credentials"] == "true"
    assert b"credentials" not in policy.lines(b"https://evil.example")


def test_preflight_allows_the_headers_that_were_asked_for() -> None:
    """SDKs in browsers send headers of their own; each is allowed by name."""
    policy = CorsPolicy(Cors(origins=["https://chat.example"], max_age_s=60))
    result = policy.preflight(asking(PAGE, b"authorization,x-stainless-os"))
    assert result is not None
    status, lines = result
    assert status == 204
    assert names(lines)["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert names(lines)["access-control-max-age"] == "60"
    assert "POST" in names(lines)["access-control-allow-methods"]


@pytest.mark.parametrize("asked", [b"a b", b"x\x00", b"", b"a,,b", b"x" * 5000, b"a: b"])
def test_odd_header_names_are_not_repeated(asked: bytes) -> None:
    """What is no list of header names never comes back in an answer."""
    result = CorsPolicy(Cors(origins=["*"])).preflight(asking(PAGE, asked))
    assert result is not None
    assert b"allow-headers" not in result[1]


def test_options_without_a_question_is_no_preflight() -> None:
    """An OPTIONS request of a program is not answered as if a browser had asked."""
    policy = CorsPolicy(Cors(origins=["*"]))
    assert policy.preflight([]) is None
    assert policy.preflight([(b"origin", PAGE)]) is None


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://Chat.Example", b"https://chat.example"),
        ("https://chat.example:443", b"https://chat.example"),
        ("http://chat.example:80", b"http://chat.example"),
        ("http://chat.example:443", b"http://chat.example:443"),
    ],
)
def test_origins_may_be_written_as_people_do(written: str, sent: bytes) -> None:
    """Case and the scheme's own port make no difference."""
    assert normal_origin(written) == sent
    assert CorsPolicy(Cors(origins=[written])).allows(sent)


def test_every_header_of_ours_may_be_read() -> None:
    """A header that the gateway adds to answers is in EXPOSED; only what clients send is not."""
    source = Path(__file__).parents[3] / "src" / "inferry" / "gateway"
    written = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"x-inferry-[a-z-]*[a-z]", path.read_text(encoding="utf-8"))
    }
    assert written - {"x-inferry-explain", "x-inferry-model"} <= set(EXPOSED)
