"""Texts of exact lengths: what a wording writes, and how one is fitted to a tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from inferry.bench.fitting import COUNTS_MAX, fit_wording, fit_words
from inferry.bench.plan import Target
from inferry.bench.records import Ask
from inferry.bench.server_count import CountFailed, ServerCount
from inferry.bench.tokenizer_file import open_tokenizer
from inferry.bench.tokens import SAFE_IDS, WORDS, Wording, Writer, token_ids
from inferry.core.errors import BadBenchPlan

# --- writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(1,), (7,), (0, 5), (4, 0, 9), (16,), (17, 31), (32, 33), (0, 1000)])
def test_a_text_has_as_many_words_as_its_parts(lengths: tuple[int, ...]) -> None:
    """Parts of nothing too; the first word, whichever part it is in, is one that may begin a text."""
    writer = Writer(Wording(openers=("Begin",)))
    text = writer.text((length, Random(place)) for place, length in enumerate(lengths))
    assert len(text.split(" ")) == sum(lengths)
    assert text.startswith("Begin")
    assert text.count("Begin") == 1


def test_the_same_chance_gives_the_same_beginning() -> None:
    """A longer piece begins as a shorter one does: so beginnings can be shared by prompts of any length."""
    writer = Writer(Wording())
    long = writer.text([(80, Random(1))])
    for length in range(1, 80):
        assert long.startswith(writer.text([(length, Random(1))]) + " ")
    assert token_ids([(80, Random(1))])[:50] == token_ids([(50, Random(1))])


def test_ids_are_ordinary_tokens() -> None:
    """All within the range that has no control tokens in today's vocabularies; as many as asked for."""
    ids = token_ids([(300, Random(1)), (200, Random(2))])
    assert len(ids) == 500
    assert set(ids) <= set(SAFE_IDS)


def test_the_words_are_many_and_different() -> None:
    """More than a hundred: six of them make a beginning that no other prompt has (143^6 is 8e12)."""
    assert len(set(WORDS)) == len(WORDS) > 100


# --- fitting ------------------------------------------------------------------------------------------


class Tokenizer:
    """Words are one token; those of `broken` are two. `around` more for each text."""

    def __init__(self, broken: set[str] = frozenset(), around: int = 0) -> None:  # type: ignore[assignment]
        self.broken, self.around = broken, around
        self.counts = 0

    def __call__(self, text: str) -> int:
        self.counts += 1
        return self.around + sum(2 if word in self.broken else 1 for word in text.split())


def test_all_words_fit() -> None:
    """In nine counts, and what stands around each text is found with them."""
    tokenizer = Tokenizer(around=5)
    wording = fit_words(tokenizer, "here")
    assert (wording.exact, wording.words, wording.overhead_tokens) == (True, WORDS, 5)
    assert tokenizer.counts == 9


def test_words_of_two_tokens_are_not_used() -> None:
    """Neither inside a text nor at its beginning; and every length is then exact."""
    tokenizer = Tokenizer(broken={"of", "water", "high"}, around=1)
    wording = fit_words(tokenizer, "here")
    assert wording.exact
    assert set(WORDS) - set(wording.words) == {"of", "water", "high"}
    assert "of" not in wording.openers
    writer = Writer(wording)
    for length in range(1, 300, 7):
        assert tokenizer(writer.text([(length, Random(length))])) == length + 1


@pytest.mark.parametrize("count", [len, lambda text: len(text.split()) // 2 + 1], ids=["characters", "pairs"])
def test_another_kind_of_tokenizer_is_only_estimated(count: Callable[[str], int]) -> None:
    """It says so, and does not ask for ever."""
    asked = 0

    def counted(text: str) -> int:
        nonlocal asked
        asked += 1
        return count(text)

    wording = fit_words(counted, "here")
    assert asked <= COUNTS_MAX
    assert not wording.exact
    assert wording.source == "estimated: by here, frequent words are not one token each"
    assert wording.words == WORDS


# --- from a file --------------------------------------------------------------------------------------


def tokenizer_json(folder: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the 'prompt-truth' extra")
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocabulary = {word: number for number, word in enumerate(("<s>", *WORDS))}
    made = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="<s>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.enable_truncation(3)
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_a_tokenizer_json_counts(tmp_path: Path) -> None:
    """The text's own tokens: without a BOS, and uncut. From its folder or by its name."""
    folder = tokenizer_json(tmp_path)
    for path in (folder, folder / "tokenizer.json"):
        assert open_tokenizer(path)("the of and to the of") == 6


def test_what_is_no_tokenizer_json_is_said(tmp_path: Path) -> None:
    """Missing, or something else: with the path."""
    pytest.importorskip("tokenizers", reason="needs the 'prompt-truth' extra")
    with pytest.raises(BadBenchPlan, match=r"tokenizer\.json does not exist"):
        open_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadBenchPlan, match=r"is no tokenizer\.json that can be read"):
        open_tokenizer(tmp_path)


# --- from a server ------------------------------------------------------------------------------------


class StandIn:
    """A server whose tokens are words: answers /tokenize in one engine's form, and chats with usage."""

    def __init__(
        self, field: str | None = "prompt", *, states_usage: bool = True, cuts_at: int = 10**6
    ) -> None:
        self.field, self.states_usage, self.cuts_at = field, states_usage, cuts_at
        self.keys: set[str | None] = set()

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.keys.add(request.headers.get("authorization"))
        body = json.loads(request.content)
        if request.url.path == "/tokenize":
            return self._tokens(body)
        assert request.url.path == "/v1/chat/completions"
        assert body["max_tokens"] == 1
        assert not body.get("stream")
        if not self.states_usage:
            return httpx.Response(200, json={"choices": []})
        words = sum(len(each["content"].split()) for each in body["messages"])
        roles = [each["role"] for each in body["messages"]]
        tokens = min(self.cuts_at, 7 + words) + 4 * roles.count("assistant") - 3 * roles.count("system")
        return httpx.Response(200, json={"choices": [], "usage": {"prompt_tokens": tokens}})

    def _tokens(self, body: dict[str, Any]) -> httpx.Response:
        if self.field is None:
            return httpx.Response(404)
        if self.field not in body:
            return httpx.Response(200, json={"tokens": []})  # as llama.cpp does
        ids = list(range(len(re.findall(r"\S+", body[self.field]))))
        return httpx.Response(200, json=ids if self.field == "inputs" else {"tokens": ids})


TARGET = Target(base_url="http://stand-in/v1", model="m")


def fitted(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Wording:
    def connected(target: Target, *, timeout_s: float) -> ServerCount:
        return ServerCount(target, timeout_s=timeout_s, transport=stand_in.transport())

    monkeypatch.setattr("inferry.bench.fitting.ServerCount", connected)
    return fit_wording(TARGET, **more)


@pytest.mark.parametrize("field", ["prompt", "content", "inputs"])
def test_words_by_tokenize_and_the_rest_by_usage(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of vLLM, llama.cpp and TGI; what a template adds is what usage says."""
    wording = fitted(StandIn(field), monkeypatch)
    assert (wording.exact, wording.source) == (True, "the server's /tokenize")
    assert (wording.overhead_tokens, wording.turn_tokens, wording.system_tokens) == (7, 4, -3)


def test_usage_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without /tokenize tells how long prompts are when it is asked for one token."""
    wording = fitted(StandIn(None), monkeypatch)
    assert (wording.exact, wording.source) == (True, "the server's usage of a few prompts")
    assert (wording.overhead_tokens, wording.turn_tokens, wording.system_tokens) == (7, 4, -3)


def test_a_tokenizer_s_file_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the server adds is still what its usage says."""
    path = str(tokenizer_json(tmp_path))
    wording = fitted(StandIn(None), monkeypatch, tokenizer_path=path)
    assert (wording.exact, wording.overhead_tokens, wording.tokenizer_path) == (True, 7, path)


def test_without_usage_it_says_that_lengths_are_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not exact then, since nobody knows what the template adds."""
    wording = fitted(StandIn(states_usage=False), monkeypatch)
    assert not wording.exact
    assert wording.overhead_tokens == 0
    assert wording.source == (
        "the server's /tokenize; of the text alone, since the server does not say how many tokens a prompt has"
    )


def test_a_server_that_counts_otherwise_than_it_tokenizes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cuts prompts, for instance."""
    wording = fitted(StandIn(cuts_at=57), monkeypatch)
    assert not wording.exact
    assert "the server's usage differs from it by -150 of 200 tokens" in wording.source


def test_nobody_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then frequent words are taken for one token each, and the source says so."""
    wording = fitted(StandIn(None, states_usage=False), monkeypatch)
    assert not wording.exact
    assert wording.source == "estimated: the server does not say how many tokens a prompt has"


def test_the_key_is_shown_to_the_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent, and stands in no error."""
    monkeypatch.setenv("SOME_KEY", "sesame")
    stand_in = StandIn()
    target = Target(base_url="http://stand-in/v1", model="m", key_variable="SOME_KEY")
    with ServerCount(target, timeout_s=1, transport=stand_in.transport()) as server:
        assert server.usage(Ask(number=0, due_s=None, text="the of")) == 9
    assert stand_in.keys == {"Bearer sesame"}
    monkeypatch.setenv("SOME_KEY", "sésame \N{SNOWMAN}")
    with pytest.raises(BadBenchPlan, match="SOME_KEY") as caught:
        ServerCount(target, timeout_s=1)
    assert "same" not in str(caught.value).replace("SOME_KEY", "")


def test_a_server_that_is_away_is_named() -> None:
    """With its address, and without a traceback's worth of words; nobody waits for it a second time."""
    asked = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise httpx.ConnectError("no")

    with ServerCount(TARGET, timeout_s=1, transport=httpx.MockTransport(refuse)) as server:
        assert not server.has_tokenize()
        assert asked == ["/tokenize"]
        with pytest.raises(
            CountFailed, match=r"http://stand-in/v1/chat/completions can't be asked: ConnectError"
        ):
            server.usage_of("the")
