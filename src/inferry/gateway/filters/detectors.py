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
# Groups of one digit would make every list of numbers a candidate, and `/` every date.
_PHONE_AT_HOME = r"[(]?\b[0-9]{1,5}(?:[ ().\-]{1,2}[0-9]{2,10}){1,5}\b"
_PHONE_AT_HOME_UNGROUPED = r"\b[0-9]{6,14}\b"
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

# Total lengths by country: the SWIFT IBAN registry. Known beforehand, so that each candidate is checked once.
_IBAN_CHARS = {
    country: int(chars)
    for line in (
        "15 NO,16 BE,18 DK FI FK FO GL NL SD,19 MK SI,20 AT BA EE KZ LT LU MN XK,21 CH HR LI LV",
        "22 BG BH CR DE GB GE IE ME RS VA,23 AE GI IL IQ OM SO TL,24 AD CZ ES MD PK RO SA SE SK TN VG",
        "25 LY PT ST,26 IS TR,27 BI DJ FR GR IT MC MR SM,28 AL AZ BY CY DO GT HU LB NI PL SV",
        "29 BR EG PS QA UA,30 JO KW MU YE,31 MT SC,32 LC,33 RU",
    )
    for group in line.split(",")
    for chars, *countries in (group.split(),)
    for country in countries
}
_PHONE_TRIES_MAX = 4


def email() -> PatternMatcher:
    """ASCII addresses with a domain name; no quoted local parts, no address literals."""
    return PatternMatcher([_EMAIL])


def card() -> PatternMatcher:
    """Payment card numbers of the usual issuers' lengths with a right check digit, digits together or in groups
    with one space or hyphen between. Of random numbers that begin so, one in ten has a right check digit."""
    lengths: dict[str, set[int]] = {}
    for low, high, known in _ISSUERS:
        for first in range(low, high + 1):
            lengths.setdefault(str(first), set()).update(known)

    def check(candidate: str) -> int:
        places = [at for at, sign in enumerate(candidate) if sign.isdigit()]
        digits = candidate.replace(" ", "").replace("-", "")
        for length in sorted(lengths.get(digits[:4], ()), reverse=True):
            if length > len(digits):
                continue
            end = places[length - 1] + 1
            if candidate[end : end + 1].isdigit():
                continue  # in the middle of a group
            if luhn.is_valid(digits[:length]):
                return end
        return 0

    return PatternMatcher([_CARD], check=check)


def iban_number() -> PatternMatcher:
    """IBANs with right length and check digits for their country, together or in groups."""

    def check(candidate: str) -> int:
        wanted = _IBAN_CHARS.get(candidate[:2].upper(), len(candidate) + 1)
        places = [at for at, sign in enumerate(candidate) if sign != " "]
        if wanted > len(places):
            return 0
        end = places[wanted - 1] + 1
        behind = candidate[end : end + 1]
        return 0 if behind.isalnum() or not iban.is_valid(candidate[:end]) else end

    return PatternMatcher([_IBAN], check=check)


def phone(region: str | None) -> PatternMatcher:
    """Numbers that a country's plan has: with `+`, and, if a region is given, as they are written there.

    Raises ValueError for a region that there is not.
    """
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"phone_region '{region}' is no country: write DE, US, CN and so on")
    patterns = [_PHONE_ABROAD]
    if region is not None:
        patterns += [_PHONE_AT_HOME, _PHONE_AT_HOME_UNGROUPED]
    at_home = _digits_at_home(region)

    def valid(candidate: str) -> bool:
        if candidate[0] != "+" and sum(map(str.isdigit, candidate)) not in at_home:
            return False  # told at once; to parse it takes some 30 us
        try:
            return phonenumbers.is_valid_number(phonenumbers.parse(candidate, region))
        except phonenumbers.NumberParseException:
            return False

    return PatternMatcher(patterns, check=_longest_start(valid, min_chars=7))


def _digits_at_home(region: str | None) -> frozenset[int]:
    """How many digits a number of the region can have, with and without the prefix for long distance."""
    plan = None if region is None else phonenumbers.PhoneMetadata.metadata_for_region(region)
    if plan is None or plan.general_desc is None:
        return frozenset()
    lengths = [length for length in plan.general_desc.possible_length if length > 0]
    prefix = len(plan.national_prefix or "")
    return frozenset([*lengths, *(length + prefix for length in lengths)])


def ip() -> PatternMatcher:
    """IPv4 and IPv6 addresses. A version number of four parts (1.2.3.4) looks the same."""
    return PatternMatcher([_IPV6, _IPV4], check=_check_ip)


def _longest_start(valid: Callable[[str], bool], min_chars: int) -> Callable[[str], int]:
    """The longest beginning of a candidate, ending where a group of signs ends, that is valid: what follows a
    number after a space may be the next one. So many groups at most are left out, because each try costs."""

    def check(candidate: str) -> int:
        end = len(candidate)
        for _ in range(_PHONE_TRIES_MAX):
            if end < min_chars:
                break
            if valid(candidate[:end]):
                return end
            # On to the end of the group before.
            end -= 1
            while end >= min_chars and (candidate[end].isalnum() or not candidate[end - 1].isalnum()):
                end -= 1
        return 0

    return check


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
