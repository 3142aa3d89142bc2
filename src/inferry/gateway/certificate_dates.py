"""Until when the server's certificate is valid: whoever watches it wants to know weeks before clients do."""

from __future__ import annotations

import ssl

from inferry.core.clock import wall_s_of

_SEQUENCE = 0x30
_VERSION = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18


def not_after_wall_s(pem: str) -> float | None:
    """When the first certificate of the file ends; None: that can't be read.

    Read by hand: Python's `ssl` tells dates only of certificates that it trusts, and of no expired one.
    """
    end = "-----END CERTIFICATE-----"
    begin = pem.find("-----BEGIN CERTIFICATE-----")
    if begin < 0 or end not in pem[begin:]:
        return None
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[begin : pem.index(end, begin)] + end)
        return _not_after(der)
    except (ValueError, IndexError):
        return None


def _not_after(der: bytes) -> float:
    # RFC 5280, 4.1: Certificate { tbsCertificate { [0] version, serial, algorithm, issuer, validity { from, to } } }
    _, certificate, _ = _element(der)
    _, inner, _ = _element(certificate)
    tag, _, rest = _element(inner)
    if tag == _VERSION:
        _, _, rest = _element(rest)
    for _ in ("algorithm", "issuer"):
        _, _, rest = _element(rest)
    tag, validity, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    _, _, rest = _element(validity)
    tag, text, _ = _element(rest)
    return _wall_s(tag, text.decode("ascii"))


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, contents, and what follows."""
    length, at = data[1], 2
    if length >= 0x80:  # then it is the number of bytes that tell the length
        at += length - 0x80
        length = int.from_bytes(data[2:at], "big")
    if at + length > len(data):
        raise ValueError("cut off")
    return data[0], data[at : at + length], data[at + length :]


def _wall_s(tag: int, text: str) -> float:
    if tag == _UTC_TIME:  # two digits of the year: up to 49 they are of this century
        text = ("20" if int(text[:2]) < 50 else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time where it should be")
    return wall_s_of(f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}Z")
