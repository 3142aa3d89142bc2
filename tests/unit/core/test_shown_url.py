"""URLs, and what was meant to be one, without their secrets."""

from __future__ import annotations

import pytest

from inferry.core.shown_url import shown_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h:1/m.gguf", "https://h:1/m.gguf"),
        ("https://user:secret@h/m.gguf", "https://...@h/m.gguf"),
        ("htp://user:sec/r@t@h/m.gguf?sig=secret", "htp://...@h/m.gguf?..."),
        ("https://h/m.gguf?sig=secret#sha256=ab", "https://h/m.gguf?...#sha256=ab"),
        ("hf:org/name@main", "hf:org/name@main"),
        ("what?", "what?"),
    ],
)
def test_secrets_are_left_out(text: str, shown: str) -> None:
    """User, password and query are replaced; what is no URL stays as it is."""
    assert shown_url(text) == shown
