"""Who really asks, behind proxies: address and scheme from `X-Forwarded-For` and `X-Forwarded-Proto`.

Anybody can write these headers, so they are believed only as far as trusted proxies wrote them: from the right,
each address was put there by the one right of it, and the first that is no trusted proxy is the client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNKNOWN = "unknown"
_REMEMBERED_MAX = 4096
_TEXT_LEN_MAX = 100
_HOPS_MAX = 32


class ClientAddresses:
    """Finds the client of a request. Remembers what it found out about addresses, up to a bound."""

    def __init__(self, trusted: Sequence[str]) -> None:
        """`trusted`: addresses and networks, as `gateway.trusted_proxies` has them."""
        self._networks = [ipaddress.ip_network(each, strict=False) for each in trusted]
        self._look_up = lru_cache(_REMEMBERED_MAX)(self._judge)

    def find(self, peer: str | None, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
        """Address and scheme of the client. `peer`: who is connected (None: not known), by which `scheme`."""
        if peer is None:
            return UNKNOWN, scheme
        if not self._networks:
            return peer, scheme
        client, is_trusted = self._look_up(peer) or (peer, False)
        if not is_trusted:
            return client, scheme
        forwarded: list[str] = []
        schemes: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                forwarded += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                schemes += value.decode("latin-1").split(",")
        position = -1
        for hop in range(1, min(len(forwarded), _HOPS_MAX) + 1):
            text = forwarded[-hop]
            found = self._look_up(text) if len(text) <= _TEXT_LEN_MAX else None
            if found is None:
                break  # whoever wrote that, the one before it is the last that we know
            client, position = found[0], -hop
            if not found[1]:
                break
        return client, _scheme(schemes, len(forwarded), position) or scheme

    def _judge(self, text: str) -> tuple[str, bool] | None:
        """The address in `text` and whether it is a trusted proxy's; None if it is no address."""
        address = _parse(text)
        if address is None:
            return None
        return str(address), any(address in network for network in self._networks)


def _parse(text: str) -> _Address | None:
    """The address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def _scheme(schemes: list[str], hops: int, position: int) -> str | None:
    """The scheme beside the client's address if each proxy added its own, else what the nearest proxy says."""
    if not schemes:
        return None
    text = schemes[position if len(schemes) == hops else -1].strip().lower()
    return text if text in ("http", "https") else None
