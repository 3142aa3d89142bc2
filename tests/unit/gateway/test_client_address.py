"""Forwarded addresses: believed from trusted proxies, and from nobody else."""

from __future__ import annotations

import pytest

from inferry.gateway.client_address import UNKNOWN, ClientAddresses

PROXY = "10.0.0.1"


def find(
    peer: str | None, *forwarded: str, trusted: tuple[str, ...] = ("10.0.0.0/8",), proto: str | None = None
) -> tuple[str, str]:
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    if proto is not None:
        headers.append((b"x-forwarded-proto", proto.encode()))
    return ClientAddresses(trusted).find(peer, "http", headers)


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    """Nobody is believed by default."""
    assert find("127.0.0.1", "203.0.113.9", trusted=(), proto="https") == ("127.0.0.1", "http")
    assert find(None, "203.0.113.9") == (UNKNOWN, "http")


def test_a_peer_that_is_no_proxy_can_claim_nothing() -> None:
    """Headers from an address outside of trusted_proxies are ignored."""
    assert find("198.51.100.7", "203.0.113.9", proto="https") == ("198.51.100.7", "http")


def test_a_trusted_proxy_is_believed() -> None:
    """Address and scheme are what the proxy saw."""
    assert find(PROXY, "203.0.113.9", proto="https") == ("203.0.113.9", "https")
    assert find(PROXY) == (PROXY, "http")


def test_what_the_client_wrote_itself_is_not_believed() -> None:
    """The walk goes from the right, and stops at the first address that is no trusted proxy."""
    assert find(PROXY, "1.1.1.1, 203.0.113.9")[0] == "203.0.113.9"
    assert find(PROXY, "1.1.1.1, 203.0.113.9, 10.0.0.2")[0] == "203.0.113.9"
    assert find(PROXY, "1.1.1.1", "203.0.113.9, 10.0.0.2")[0] == "203.0.113.9"
    assert find(PROXY, "10.0.0.3, 10.0.0.2")[0] == "10.0.0.3"


@pytest.mark.parametrize("junk", ["unknown", "_hidden", "", "<script>", "1.2.3", "1" * 5000, "fe80::1%eth0"])
def test_junk_ends_the_walk(junk: str) -> None:
    """Behind something that is no address, the last address that is known stands."""
    assert find(PROXY, f"203.0.113.9, {junk}, 10.0.0.2")[0] == "10.0.0.2"
    assert find(PROXY, junk)[0] == PROXY


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_addresses_come_in_many_spellings(written: str, address: str) -> None:
    """Ports, brackets, quotes and IPv4 inside IPv6 are understood."""
    assert find(PROXY, written)[0] == address


def test_ipv4_inside_ipv6_peers_match_ipv4_networks() -> None:
    """A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d; they are the same peers."""
    assert find("::ffff:10.0.0.1", "203.0.113.9")[0] == "203.0.113.9"
    assert find("::ffff:198.51.100.7", "203.0.113.9")[0] == "198.51.100.7"


@pytest.mark.parametrize(
    ("forwarded", "proto", "scheme"),
    [
        ("203.0.113.9, 10.0.0.2", "https, http", "https"),
        ("203.0.113.9, 10.0.0.2", "https", "https"),
        ("1.1.1.1, 203.0.113.9", "https, http", "http"),
        ("203.0.113.9", "ftp", "http"),
        ("203.0.113.9", "", "http"),
    ],
)
def test_scheme_belongs_to_the_clients_hop(forwarded: str, proto: str, scheme: str) -> None:
    """If each proxy added a scheme, the client's own one counts; anything but http and https is ignored."""
    assert find(PROXY, forwarded, proto=proto)[1] == scheme


def test_long_walks_are_bounded() -> None:
    """A list of thousands of proxies is not walked to its end."""
    assert find(PROXY, ", ".join(["203.0.113.9"] + ["10.0.0.2"] * 5000))[0] == "10.0.0.2"
