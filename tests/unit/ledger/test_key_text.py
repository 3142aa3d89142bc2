"""What a key looks like."""

from __future__ import annotations

import hashlib
import re

import pytest

from inferry.ledger.key_text import (
    PREFIX_CHARS,
    TEXT_CHARS,
    TEXT_PATTERN,
    digest_of,
    is_well_formed,
    looks_like_key,
    make_key_text,
    prefix_of,
)


def test_keys_are_recognisable() -> None:
    """A scanner finds a key in other text, whole, and can check it without us."""
    text = make_key_text()
    assert re.findall(TEXT_PATTERN, f'OPENAI_API_KEY="{text}";') == [text]
    assert len(text) == TEXT_CHARS == 65
    assert is_well_formed(text)


def test_no_two_are_alike() -> None:
    """Neither whole nor in the part by which they are found."""
    texts = [make_key_text() for _ in range(2000)]
    assert len({prefix_of(text) for text in texts}) == 2000
    assert len({text[PREFIX_CHARS:] for text in texts}) == 2000


def test_all_digits_occur_everywhere() -> None:
    """The secret part uses its whole alphabet at each place but the first, which holds what 256 bits leave for it."""
    texts = [make_key_text()[PREFIX_CHARS:-6] for _ in range(3000)]
    assert min(len({text[place] for text in texts}) for place in range(1, 43)) == 62
    assert len({text[0] for text in texts}) > 50


def test_a_slip_is_told_apart() -> None:
    """Any one character changed, lost or swapped with its neighbour is noticed without asking the store."""
    text = make_key_text()
    changed = [text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :] for at in range(4, len(text))]
    lost = [text[:at] + text[at + 1 :] for at in range(4, len(text))]
    swapped = [
        text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        for at in range(4, len(text) - 1)
        if text[at] != text[at + 1]
    ]
    assert [slip for slip in changed + lost + swapped if is_well_formed(slip)] == []


@pytest.mark.parametrize("text", ["", "inf-", "sk-abc", "inf-\n" + "a" * 61, "é" * 65])
def test_other_texts_are_no_keys(text: str) -> None:
    """Anything may come in a header."""
    assert not is_well_formed(text)


def test_prefixes_ids_and_names_are_no_secrets() -> None:
    """A key's text is told from what may be typed in its place."""
    text = make_key_text()
    assert looks_like_key(text)
    assert looks_like_key(text[:-1])
    assert not looks_like_key(prefix_of(text))
    assert not looks_like_key("key_0123456789abcdef")


def test_the_digest_is_that_of_the_whole_text() -> None:
    """SHA-256, as any tool can compute it."""
    text = make_key_text()
    assert digest_of(text) == hashlib.sha256(text.encode()).digest()
