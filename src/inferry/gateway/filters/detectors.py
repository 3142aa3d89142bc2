"""Finds personal data: RE2 gives bounded candidates, a well-kept library says which of them are real.

Each entry says what it finds and what it does not; docs/filters.md repeats it for operators.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import phonenumbers
from stdnum import iban, luhn

from inferry.gateway.filters.pattern_matcher import PatternMatcher

# RFC 5321 4.5.3.1: 64 octets before the @; a domain's parts have 63 at most (RFC 1035 2.3.4).
_EMAIL = (
    r"[A-Za-z0-9_%+-](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,4}[A-Za-z]{2,24}\b"
)
# ISO/IEC 7812: 12 to 19 digits; as people write them, in groups.
_CARD = r"\b[1-9](?:[ -]?[0-9]){11,18}\b"
# ISO 13616: country, two check digits, up to 30 signs; printed in groups of four.
_IBAN = r"\b[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11,30}\b"
# E.164: 15 digits at most.
_PHONE_ABROAD = r"\+[1-9](?:[ ().\-/]{0,2}[0-9]){6,14}\b"
_PHONE_AT_HOME = r"[(]?\b[0-9](?:[ ().\-/]{0,2}[0-9]){5,13}\b"
_IPV4 = r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b"
# RFC 4291 2.2: eight groups, `::` for some of them, the last two maybe as IPv4.
_IPV6 = (
    r"(?:\b[0-9A-Fa-f]{1,4}|:):(?:[0-9A-Fa-f]{0,4}:){0,6}"
    rf"(?:{_IPV4}|[0-9A-Fa-f]{{1,4}}\b|:)?"
)
_DIGIT = re.compile(r"[0-9]")
# Issuer ranges with their lengths: Visa, Mastercard, American Express, Discover, JCB, Diners, UnionPay, Maestro.
_ISSUERS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (4000, 4999, frozenset({13, 16, 19})),
    (5100, 5599, frozenset({16})),
    (2221, 2720, frozenset({16})),
    (3400, 3499, frozenset({15})),
    (3700, 3799, frozenset({15})),
    (6011, 6011, frozenset({16, 19})),
    (6440, 6599, frozenset({16, 19})),
    (3528, 3589, frozenset({16, 17, 18, 19})),
    (3000, 3059, frozenset({14, 16, 19})),
    (3600, 3699, frozenset({14, 16, 19})),
    (3800, 3999, frozenset({14, 16, 19})),
    (6200, 6299, frozenset({16, 17, 18, 19})),
    (5000, 5099, frozenset(range(12, 20))),
    (5600, 5899, frozenset(range(12, 20))),
    (6300, 6399, frozenset(range(12, 20))),
    (6700, 6799, frozenset(range(12, 20))),
)


def email() -> PatternMatcher:
    """ASCII addresses with a domain name; no quoted local parts, no address literals."""
    return PatternMatcher([_EMAIL])


def card() -> PatternMatcher:
    """Payment card numbers of the usual issuers' lengths with a right check digit, digits together or in groups
    with one space or hyphen between. Of random numbers that begin so, one in ten has a right check digit."""
    return PatternMatcher([_CARD], check=_longest_start(_is_card, min_chars=12))


def iban_number() -> PatternMatcher:
    """IBANs with right length and check digits for their country, together or in groups."""
    return PatternMatcher([_IBAN], check=_longest_start(iban.is_valid, min_chars=15))


def phone(region: str | None) -> PatternMatcher:
    """Numbers that a country's plan has: with `+`, and, if a region is given, as they are written there.

    Raises ValueError for a region that there is not.
    """
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"phone_region '{region}' is no country: write DE, US, CN and so on")
    patterns = [_PHONE_ABROAD] if region is None else [_PHONE_ABROAD, _PHONE_AT_HOME]

    def valid(candidate: str) -> bool:
        try:
            return phonenumbers.is_valid_number(phonenumbers.parse(candidate, region))
        except phonenumbers.NumberParseException:
            return False

    return PatternMatcher(patterns, check=_longest_start(valid, min_chars=7))


def ip() -> PatternMatcher:
    """IPv4 and IPv6 addresses. A version number of four parts (1.2.3.4) looks the same."""
    return PatternMatcher([_IPV6, _IPV4], check=_check_ip)


def _longest_start(valid: Callable[[str], bool], min_chars: int) -> Callable[[str], int]:
    """The longest beginning of a candidate, ending where a group of signs ends, that is valid: what follows a
    number after a space may be the next one."""

    def check(candidate: str) -> int:
        end = len(candidate)
        while end >= min_chars:
            if candidate[end - 1].isalnum() and valid(candidate[:end]):
                return end
            # On to the end of the group before.
            end -= 1
            while end >= min_chars and (candidate[end].isalnum() or not candidate[end - 1].isalnum()):
                end -= 1
        return 0

    return check


def _is_card(candidate: str) -> bool:
    digits = candidate.replace(" ", "").replace("-", "")
    first = int(digits[:4])
    fits = any(low <= first <= high and len(digits) in lengths for low, high, lengths in _ISSUERS)
    return fits and bool(luhn.is_valid(digits))


def _check_ip(candidate: str) -> int:
    text = candidate.rstrip(":") if not candidate.endswith("::") else candidate
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0
    if address.version == 6 and not (
        len([part for part in text.split(":") if part]) > 1 and _DIGIT.search(text)
    ):
        return 0  # `::`, `a::` and `a::b` stand in programs for other things
    return len(text)
