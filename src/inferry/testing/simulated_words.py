"""The simulated engine's language: reversible tokens, and the next token as a pure function of all before.

A token is a word with its leading space. Like a real model this one is autoregressive: the next token follows
from the ids so far and the seed, and from nothing else. So an answer that broke off anywhere, on any route,
is continued exactly by whoever is given its beginning, also by another process.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

_SPLIT = re.compile(r" ?\S{1,16}|\s")
_TABLE_WORDS_MAX = 1_000_000
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"

# Eight phases of an answer, from opening to end; a phase lasts six tokens on average, so that answers have
# 48 +- 16 tokens. The words of a phase appear in no other phase: the last token tells how far an answer is.
# A few are not ASCII on purpose: a relay that cuts or re-encodes characters shows.
_PHASES = (
    "the quick answer, in short: simulated words begin here, and nothing below was ever thought by anyone",
    "small rivers carry old stones toward quiet harbours where patient boats wait for morning light",
    "then seven lamps turned slowly while careful hands counted every bright copper coin again, twice",
    "meanwhile our naïve café clock kept perfect time, ticking past noon, 北京 , São and Ålesund",
    "because no weights were loaded, each token follows only from what came before it, exactly",
    "further along some green hills hold winter barley, tall fences and one narrow iron gate 🌱",
    "after that two friends walked home under silver clouds, talking of trains, maps & weather",
    "finally evening falls, so let this be enough: good night, sleep well, thank you. goodbye.",
)
_MEAN_PHASE_TOKENS = 6


@dataclass(frozen=True, slots=True)
class Token:
    """One token, with its text as it stands inside a JSON string."""

    id: int
    text: str
    json: bytes


def _make_token(text: str) -> Token:
    return Token(_hash_id(text), text, json.dumps(text, ensure_ascii=False)[1:-1].encode())


def _hash_id(text: str) -> int:
    # Equal in every process, so that ids from one replica mean the same at another. 0 to 15 are special.
    return 16 + zlib.crc32(text.encode()) % (2**31 - 16)


END = Token(0, "", b"")
"""Ends an answer; counted as a token, and has no text."""
BEGIN_ROLE = {"system": 1, "developer": 1, "user": 2, "assistant": 3, "tool": 4}
END_OF_MESSAGE = 5


def _vocabulary() -> tuple[tuple[Token, ...], ...]:
    phases: list[tuple[Token, ...]] = []
    seen: set[str] = set()
    for phase in _PHASES:
        words = [word for word in dict.fromkeys(phase.split()) if word not in seen]
        seen.update(words)
        phases.append(tuple(_make_token(" " + word) for word in words))
    return tuple(phases)


_SPACED = _vocabulary()
_BARE: tuple[tuple[Token, ...], ...] = tuple(
    tuple(_make_token(token.text[1:]) for token in phase) for phase in _SPACED
)
_PHASE_OF_ID = {
    token.id: phase for words in (_SPACED, _BARE) for phase, tokens in enumerate(words) for token in tokens
}
_SPECIAL_TEXTS = {0: "", 1: "<|system|>", 2: "<|user|>", 3: "<|assistant|>", 4: "<|tool|>", 5: "<|end|>"}
# After these a word stands without a leading space.
_BARE_AFTER = frozenset([*_SPECIAL_TEXTS, *(_hash_id(space) for space in " \n\t\r")])


class TokenTable:
    """Text to ids and back. Ids are hashes; the table remembers the words it met, to give them back."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._texts: dict[int, str] = dict(_SPECIAL_TEXTS)
        for words in (*_SPACED, *_BARE):
            for token in words:
                self._ids[token.text] = token.id
                self._texts[token.id] = token.text

    def encode(self, text: str) -> array[int]:
        """The ids of `text`; `decode` gives back the same text, character for character."""
        known = self._ids
        words = _SPLIT.findall(text)
        try:
            return array("I", [known[word] for word in words])
        except KeyError:
            return array("I", [self._learn(word) for word in words])

    def _learn(self, word: str) -> int:
        found = self._ids.get(word)
        if found is not None:
            return found
        token_id = _hash_id(word)
        if len(self._ids) < _TABLE_WORDS_MAX:  # beyond it `decode` forgets, and nothing else changes
            self._ids[word] = token_id
            self._texts[token_id] = word
        return token_id

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; one that this process never met becomes a replacement character."""
        texts = self._texts
        return "".join([texts.get(token_id, _UNKNOWN) for token_id in ids])

    def text_of(self, token_id: int) -> str:
        return self._texts.get(token_id, _UNKNOWN)


class Speech:
    """An endless source of the tokens that follow a prompt."""

    __slots__ = ("_bare", "_healed", "_phase", "_state")

    def __init__(self, seed: int, prompt: array[int], table: TokenTable) -> None:
        start = zlib.crc32((seed % 2**64).to_bytes(8, "little"))
        self._healed: Token | None = None
        if prompt and (cut := self._cut_word(start, prompt, table)) is not None:
            self._healed = cut
            return
        self._state = zlib.crc32(prompt, start)
        self._follow(prompt[-1] if prompt else END.id)

    def _cut_word(self, start: int, prompt: array[int], table: TokenTable) -> Token | None:
        """The rest of the last word, where the prompt broke off in the middle of the word expected there.

        Otherwise an answer cut between two characters of one token would be continued by another one.
        """
        last = prompt[-1]
        if last < 16:
            return None
        self._state = zlib.crc32(prompt[:-1], start)
        self._follow(prompt[-2] if len(prompt) > 1 else END.id)
        expected = self._draw(may_end=False)
        beginning = table.text_of(last)
        if expected.id == last or not expected.text.startswith(beginning):
            return None
        self._advance(expected)
        return _make_token(expected.text[len(beginning) :])

    def _follow(self, last_id: int) -> None:
        self._phase = _PHASE_OF_ID.get(last_id, 0)
        self._bare = last_id in _BARE_AFTER

    def next(self, may_end: bool = True) -> Token:
        """The next token; where the answer would end, END, or without `may_end` a word of a new beginning."""
        if self._healed is not None:
            token, self._healed = self._healed, None
            return token
        token = self._draw(may_end)
        if token is not END:
            self._advance(token)
        return token

    def _draw(self, may_end: bool) -> Token:
        # Two rounds of a 64-bit mix (the multipliers of splitmix64): a CRC alone is linear, and its low bits
        # would repeat from one token to the next.
        x = (self._state + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        x >>= 24
        phase = self._phase + (x % _MEAN_PHASE_TOKENS == 0)
        if phase == len(_PHASES):
            if may_end:
                return END
            phase = 0
        words = (_BARE if self._bare else _SPACED)[phase]
        return words[(x >> 8) % len(words)]

    def _advance(self, token: Token) -> None:
        self._state = zlib.crc32(token.id.to_bytes(4, sys.byteorder), self._state)
        self._phase = _PHASE_OF_ID.get(token.id, 0)
        self._bare = False


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector that depends on the words of `text` alone; texts that share words lie nearer."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        for probe in range(4):
            mark = zlib.crc32(f"{probe}:{word}".encode())
            vector[mark % dimensions] += 1.0 if mark & 0x10000 else -1.0
    length = sum(x * x for x in vector) ** 0.5
    if length == 0.0:
        vector[0] = length = 1.0
    return [x / length for x in vector]
