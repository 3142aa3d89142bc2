"""What a key looks like: `inf-`, 12 characters to find it by, 43 that are secret, 6 that tell a slip of the hand.

    inf-4fQz81LkXw0a 8mYt...43...Pq 2Nf0bC        (one word, without the gaps)

All characters after `inf-` are letters and digits, so that a double click selects them. The secret part holds
256 random bits. The last six are the CRC-32 of everything before them, as in GitHub's tokens
(https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/): a mistyped key is told apart
from an unknown one, and a secret scanner that looks for TEXT_PATTERN can check what it found without asking us.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

MARK = "inf-"
_LOOKUP_CHARS = 12
_SECRET_CHARS = 43  # 62**43 > 2**256
_CHECK_CHARS = 6  # 62**6 > 2**32
PREFIX_CHARS = len(MARK) + _LOOKUP_CHARS
"""The part that is no secret: 71 random bits, so that no two keys share it."""
TEXT_CHARS = PREFIX_CHARS + _SECRET_CHARS + _CHECK_CHARS
TEXT_PATTERN = rf"\b{MARK}[0-9A-Za-z]{{{TEXT_CHARS - len(MARK)}}}\b"
"""For secret scanners."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def make_key_text() -> str:
    """A new key, from the system's random numbers."""
    lookup = "".join(secrets.choice(_DIGITS) for _ in range(_LOOKUP_CHARS))
    unchecked = MARK + lookup + _base62(secrets.randbits(256), _SECRET_CHARS)
    return unchecked + _check(unchecked)


def prefix_of(text: str) -> str:
    """The part by which a key is found, and which may be shown."""
    return text[:PREFIX_CHARS]


def digest_of(text: str) -> bytes:
    """SHA-256 of the whole text: 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def looks_like_key(text: str) -> bool:
    """Whether `text` is, or was meant to be, a key's secret text, as opposed to its id, name or prefix."""
    return text.startswith(MARK) and len(text) > PREFIX_CHARS


def is_well_formed(text: str) -> bool:
    """Whether `text` has a key's form and its checksum fits; says nothing about whether such a key exists."""
    return re.fullmatch(TEXT_PATTERN, text) is not None and text[-_CHECK_CHARS:] == _check(
        text[:-_CHECK_CHARS]
    )


def _check(unchecked: str) -> str:
    return _base62(zlib.crc32(unchecked.encode()), _CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
