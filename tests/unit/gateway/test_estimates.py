"""What a deployment learns of its answers, and what no tenant can teach it."""

from __future__ import annotations

import pytest

from inferry.gateway.estimates import COMPLETION_TOKENS_MAX, TokenEstimates, capped_prompt_tokens

TEXT = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"word " * 188)


def taught(body: bytes, prompt_tokens: int, completion_tokens: int = 256) -> TokenEstimates:
    estimates = TokenEstimates()
    for _ in range(500):
        estimates.learn(body, prompt_tokens, completion_tokens)
    return estimates


def test_the_usual_ratio_is_learned() -> None:
    """After many answers the estimate is the engine's own count."""
    size = len(TEXT)
    assert taught(TEXT, size // 5).prompt_tokens(size) == pytest.approx(size / 5, abs=2)


@pytest.mark.parametrize(("ratio", "learned"), [(0.9, 0.6), (0.03, 0.05)])
def test_unusual_text_moves_it_to_the_bound(ratio: float, learned: float) -> None:
    """A script with more tokens per byte than any other counts as the bound."""
    estimates = taught(TEXT, round(len(TEXT) * ratio))
    assert estimates.prompt_tokens(100_000) == pytest.approx(learned * 100_000, rel=0.01)


@pytest.mark.parametrize(
    ("body", "prompt_tokens"),
    [
        (TEXT, 100 * len(TEXT)),
        (TEXT, 0),
        (TEXT.replace(b"word word", b"data:image"), round(len(TEXT) * 0.9)),
        (TEXT.replace(b"word word", b"image_url"), round(len(TEXT) * 0.03)),
    ],
)
def test_files_and_outliers_teach_nothing(body: bytes, prompt_tokens: int) -> None:
    """What one tenant's pictures or an odd engine's counts say must not move what others reserve."""
    assert taught(body, prompt_tokens).prompt_tokens(100_000) == TokenEstimates().prompt_tokens(100_000)


def test_long_answers_teach_only_so_much() -> None:
    """Answers of a million tokens do not make every request of others reserve a million."""
    assert taught(TEXT, 100, 1_000_000).completion_tokens(None, 1) <= COMPLETION_TOKENS_MAX


def test_the_cap_goes_by_the_body_alone() -> None:
    """A quarter token a byte: 4,000 bytes are 1,000 tokens, whatever was learned."""
    assert capped_prompt_tokens(4000) == 1000
