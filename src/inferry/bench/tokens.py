"""Texts of a wanted number of tokens, made of words that are one token each."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec import Struct

_FREQUENT = """
the of and to in is that for it as was with be by on not he this are or his from at which but have an had
they you were there one all we can her has been if more when will would who so no out up into them then than
only some could time these two may other do first new people my over also our after me most made such before
where must well down should because each just those how too state good very make world still see men work
long get here between life both being under never day same another know while last might us great old year
off come since against go came right used take three house use again place around small found number part
school night home water side point city name high
"""
WORDS = tuple(_FREQUENT.split())
"""Short and frequent enough that practically every vocabulary made from English has each as one token."""

CHARS_PER_TOKEN = 4.0
"""Of English text, where no tokenizer is at hand: the rule of thumb in OpenAI's help pages."""

SAFE_IDS = range(1000, 30_000)
"""Ids that are ordinary tokens in the vocabularies of today's models: control tokens, bytes and places kept free are
below (Mistral's: the first 1,000) or above what the smallest of them has (Llama 2: 32,000)."""

_PHRASE_TOKENS = 16
_PHRASES = 2048
"""Long texts are written in phrases, in a tenth of the time: a client that writes what it sends must not be slow. The
first words of each part are chosen one by one, or one in 2,048 prompts would begin as another does."""

Parts = Iterable[tuple[int, Random]]
"""Pieces of a prompt, in order: how many tokens, and the chance that chooses them. The same chance gives the same
beginning, whatever the length."""


class Wording(Struct, frozen=True, kw_only=True):
    """How texts of known lengths are written for one model. Plain data: worker processes get it as JSON.

    As it is without a tokenizer, it estimates; `inferry.bench.fitting` makes it exact.
    """

    openers: tuple[str, ...] = WORDS
    """Words that are one token at the beginning of a text."""
    words: tuple[str, ...] = WORDS
    """Words that are one token after another word and a space."""
    overhead_tokens: int = 0
    """That a prompt has besides its text, as the server counts: chat template, BOS."""
    turn_tokens: int = 0
    """That an earlier question with its answer adds besides their texts."""
    system_tokens: int = 0
    """That a system message adds besides its text; less than 0 where it takes the place of a template's own."""
    exact: bool = False
    """Lengths were compared with a tokenizer's; else they are an estimate."""
    source: str = "no tokenizer: each of some frequent words is taken for one token"
    """Where the lengths come from, for people."""
    chars_per_token: float = CHARS_PER_TOKEN
    """Of ordinary text, for texts that were not made here."""
    tokenizer_path: str | None = None
    """A tokenizer.json that counts such texts exactly."""


class Writer:
    """Writes texts for one wording."""

    def __init__(self, wording: Wording) -> None:
        self._openers, self._words = wording.openers, wording.words
        chance = Random(0)
        self._phrases = [" ".join(chance.choices(self._words, k=_PHRASE_TOKENS)) for _ in range(_PHRASES)]

    def text(self, parts: Parts) -> str:
        """One text with exactly so many tokens, all parts together."""
        written: list[str] = []
        for tokens, chance in parts:
            if tokens < 1:
                continue
            words = min(tokens, _PHRASE_TOKENS)
            if not written:
                written += chance.choices(self._openers)
                words -= 1
            written += chance.choices(self._words, k=words)
            if (rest := tokens - _PHRASE_TOKENS) > 0:
                phrases = chance.choices(self._phrases, k=-(-rest // _PHRASE_TOKENS))
                if words := rest % _PHRASE_TOKENS:  # a longer text goes on with the rest of this phrase
                    phrases[-1] = " ".join(phrases[-1].split(" ")[:words])
                written += phrases
        return " ".join(written)


def token_ids(parts: Parts) -> tuple[int, ...]:
    """A prompt as ids, with exactly so many."""
    return tuple(each for tokens, chance in parts for each in chance.choices(SAFE_IDS, k=tokens))
