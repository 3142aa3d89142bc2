"""One entry of `filters:`, compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inferry.core.errors import ConfigError
from inferry.core.filter_settings import Detector, Filter
from inferry.gateway.filters.matcher import Matcher

TERMS_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Who it is for, and what it looks for in texts. `matchers` is empty for the kinds that look at no text."""

    settings: Filter
    matchers: Sequence[Matcher]
    name: str
    action: Literal["block", "mask", "flag"]
    mask_with: str

    @property
    def hold_back_chars_max(self) -> int:
        if self.action == "flag":
            return 0
        return max((matcher.hold_back_chars_max for matcher in self.matchers), default=0)

    def concerns(self, tenant: str, key_id: str | None) -> bool:
        """Whether it looks at what this caller sends and gets."""
        settings = self.settings
        if settings.tenants is not None and tenant not in settings.tenants:
            return False
        if settings.keys is not None and key_id not in settings.keys:
            return False
        return tenant not in settings.except_tenants and key_id not in settings.except_keys

    @property
    def for_everybody(self) -> bool:
        settings = self.settings
        everyone = settings.tenants is None and settings.keys is None
        return everyone and not settings.except_tenants and not settings.except_keys


def compile_rule(settings: Filter) -> Rule:
    """Raises ConfigError that names the filter and the way out."""
    try:
        matchers = _matchers(settings)
    except ImportError as error:
        raise ConfigError(
            f"The filter '{settings.name}' needs the package {(error.name or '').partition('.')[0]}, which is not "
            "installed: pip install 'inferry[filters]'"
        ) from error
    except ValueError as error:
        raise ConfigError(f"The filter '{settings.name}': {error}.") from None
    return Rule(settings, matchers, settings.name, settings.action, settings.mask_with)


def _matchers(settings: Filter) -> Sequence[Matcher]:
    # Imported here: who uses none of these filters needs none of their libraries.
    if settings.terms is not None or settings.terms_file is not None:
        from inferry.gateway.filters.term_matcher import TermMatcher

        terms = [*(settings.terms or ()), *_terms_in(settings.terms_file)]
        return [TermMatcher(terms, settings.ignore_case, settings.whole_words)]
    if settings.patterns is not None:
        from inferry.gateway.filters.pattern_matcher import PatternMatcher

        return [PatternMatcher(settings.patterns, settings.max_chars)]
    return [matcher for each in settings.detect or () for matcher in _detector(each, settings.phone_region)]


def _detector(name: Detector, phone_region: str | None) -> Sequence[Matcher]:
    if name == "secret":
        from inferry.gateway.filters.secret_detector import secret

        return secret()
    from inferry.gateway.filters.detectors import card, email, iban_number, ip, phone

    makers: dict[Detector, Callable[[], Matcher]] = {
        "email": email,
        "phone": lambda: phone(phone_region),
        "card": card,
        "iban": iban_number,
        "ip": ip,
    }
    return [makers[name]()]


def _terms_in(path: str | None) -> Sequence[str]:
    if path is None:
        return ()
    try:
        with Path(path).open("rb") as file:
            content = file.read(TERMS_BYTES_MAX + 1)
        if len(content) > TERMS_BYTES_MAX:
            raise ValueError(f"{path} is longer than {TERMS_BYTES_MAX:,} bytes")
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"{path} can't be read ({error.strerror}): name a file that is there") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    terms = [line.strip() for line in lines]
    long = next((term for term in terms if len(term) > 200), None)
    if long is not None:
        raise ValueError(f"{path} has a line of {len(long)} characters: 200 at most")
    return [term for term in terms if term and not term.startswith("#")]
