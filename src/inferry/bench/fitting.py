"""Finds out, before a run, how texts of exact lengths are written for the target's model.

Which words are one token each is asked of a tokenizer.json, of the server's /tokenize, or of the server's own usage,
whichever there is; what a prompt has besides its text, always of usage. A dozen counts: after them texts of any
length are exact without asking.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from itertools import count as numbers
from pathlib import Path

from msgspec.structs import replace

from inferry.bench.chance import stream
from inferry.bench.plan import Target
from inferry.bench.records import Ask
from inferry.bench.server_count import CountFailed, ServerCount
from inferry.bench.tokenizer_file import open_tokenizer
from inferry.bench.tokens import WORDS, Wording, Writer

Count = Callable[[str], int]
"""Tokens of a text, with the same number of others that stand around each. May raise CountFailed."""

COUNTS_MAX = 80
"""Each may be a request. All words fit with 9; one that doesn't costs 15 more, since the list is halved."""
_OPENERS_TRIED = 4
_WORDS_LEAST = 16
"""With fewer, prompts that are to be unique would be too much alike."""
_CHECKED_LENGTHS = (2, 17, 200)
_ORDINARY = (
    "A benchmark measures what a service does under load. Whoever reads its result wants to know how many people can "
    "be served at once, and how long each of them waits: first until an answer begins, and then for every word of it. "
    "The numbers depend on the machine, on the model, and on what is asked."
)
"""Prose, to see how long the tokens of such a text are."""


def fit_wording(target: Target, *, tokenizer_path: str | None = None, timeout_s: float = 60.0) -> Wording:
    """How to write for `target`. Sends it some small requests, and blocks until they are answered.

    Where nobody counts, the wording only estimates, and its `source` says why. Raises BadBenchPlan for a
    `tokenizer_path` that is none.
    """
    local = None if tokenizer_path is None else open_tokenizer(Path(tokenizer_path))
    with ServerCount(target, timeout_s=timeout_s) as server:
        try:
            if local is not None:
                wording = fit_words(local, f"the tokenizer in {tokenizer_path}")
                wording = replace(wording, tokenizer_path=tokenizer_path)
            elif server.has_tokenize():
                wording = fit_words(server.tokenize, "the server's /tokenize")
            else:
                wording = fit_words(server.usage_of, "the server's usage of a few prompts")
        except CountFailed as failure:
            return Wording(source=f"estimated: {failure}")
        return _with_overhead(wording, server)


def _with_overhead(wording: Wording, server: ServerCount) -> Wording:
    """With what the server itself says of two prompts and a conversation. If it doesn't, lengths are of texts alone."""
    length = _CHECKED_LENGTHS[-1]
    try:
        overhead_tokens = server.usage_of(wording.openers[0]) - 1
        long_tokens = server.usage_of(_sample(wording, length))
    except CountFailed as failure:
        return replace(
            wording,
            overhead_tokens=0,
            exact=False,
            source=f"{wording.source}; of the text alone, since {failure}",
        )
    source = wording.source
    if (differs := long_tokens - overhead_tokens - length) and wording.exact:
        source += f"; but the server's usage differs from it by {differs} of {length} tokens"
    word = wording.openers[0]
    return replace(
        wording,
        overhead_tokens=overhead_tokens,
        turn_tokens=_added(("user", "assistant", "user"), word, overhead_tokens, server),
        system_tokens=_added(("system", "user"), word, overhead_tokens, server),
        exact=wording.exact and not differs,
        source=source,
    )


def _added(roles: Sequence[str], word: str, overhead_tokens: int, server: ServerCount) -> int:
    """By a conversation's other messages, besides their texts; 0 where it can't be counted: a template may refuse what
    another takes."""
    messages = tuple((role, word) for role in roles)
    try:
        return server.usage(Ask(number=0, due_s=None, messages=messages)) - overhead_tokens - len(roles)
    except CountFailed:
        return 0


# --- words --------------------------------------------------------------------------------------------


class _DoesNotFit(Exception):
    """Its tokens are no words."""


def fit_words(count: Count, source: str) -> Wording:
    """A wording whose texts have exactly as many tokens as `count` says, and `overhead_tokens` as found with them; one
    that only estimates if there are too few words of one token. Raises CountFailed as `count` does."""
    asked = numbers(1)

    def counted(text: str) -> int:
        if next(asked) > COUNTS_MAX:
            raise _DoesNotFit
        return count(text)

    try:
        return _fitted(counted, source)
    except _DoesNotFit:
        return Wording(source=f"estimated: by {source}, frequent words are not one token each")


def _fitted(count: Count, source: str) -> Wording:
    alone = {word: count(word) for word in WORDS[:_OPENERS_TRIED]}
    # Taken for one token, since all of them are. If none is, that shows when words are put together.
    overhead_tokens = min(alone.values()) - 1
    openers = tuple(word for word, tokens in alone.items() if tokens == overhead_tokens + 1)

    def are_single(words: Sequence[str]) -> bool:
        return count(" ".join((openers[0], *words))) == overhead_tokens + 1 + len(words)

    words = _those_single(WORDS, are_single)
    if len(words) < _WORDS_LEAST:
        raise _DoesNotFit
    fitted = Wording(
        openers=openers,
        words=words,
        overhead_tokens=overhead_tokens,
        exact=True,
        source=source,
        chars_per_token=len(_ORDINARY) / max(1, count(_ORDINARY) - overhead_tokens),
    )
    for length in _CHECKED_LENGTHS:
        if count(_sample(fitted, length)) != overhead_tokens + length:
            raise _DoesNotFit
    return fitted


def _those_single(words: Sequence[str], are_single: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    """Found by halves. Two errors that make up for each other pass; the check of whole texts finds them."""
    if not words or are_single(words):
        return tuple(words)
    if len(words) == 1:
        return ()
    middle = len(words) // 2
    return _those_single(words[:middle], are_single) + _those_single(words[middle:], are_single)


def _sample(wording: Wording, tokens: int) -> str:
    """Another one each time: some servers state less usage, or more, for what their cache had."""
    return Writer(wording).text([(tokens, stream(0, secrets.token_hex(4)))])
