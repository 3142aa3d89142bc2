"""A value is found wherever an engine cuts its answer: every split gives the verdict and the text of no split."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferry.gateway.filters.argument_text import ESCAPE_CHARS_MAX

from .wire import (
    ARGUMENTS,
    DIALECTS,
    ROUTE_OF,
    bodies_of,
    compiled,
    compositions,
    ending_of,
    few_cuts,
    run,
    stream_of,
    text_of,
)

MAIL: dict[str, Any] = {"detect": ["email"], "action": "mask", "mask_with": "#"}
CARD: dict[str, Any] = {"detect": ["card"], "action": "mask", "mask_with": "#"}
TERMS: dict[str, Any] = {"terms": ["bomb", "bombe", "ombre", "ß!"], "action": "mask", "mask_with": "#"}
WORD: dict[str, Any] = {"terms": ["ab", "né"], "whole_words": True, "action": "mask", "mask_with": "#"}
PATTERN: dict[str, Any] = {"patterns": [r"\bx\d{1,3}\b", r"yy?z"], "action": "mask", "mask_with": "#"}
BLOCK: dict[str, Any] = {"terms": ["stop"], "action": "block"}
FLAG: dict[str, Any] = {"terms": ["stop"], "action": "flag"}
GREEDY: dict[str, Any] = {"patterns": ["ab|abcde|cd+"], "max_chars": 6, "action": "mask", "mask_with": "#"}
EDGES: dict[str, Any] = {"patterns": [r"^ab|z$|(?i:Q[rs]?)\b"], "action": "mask", "mask_with": "#"}

SHORT: list[tuple[list[dict[str, Any]], str, str]] = [
    ([MAIL], "a@b.com", "#"),
    ([MAIL], "x a@b.com y", "x # y"),
    ([MAIL], "a@b.com@c.de", "#@c.de"),
    ([TERMS], "BOMBE", "#"),
    ([TERMS], "bombre", "#"),
    ([TERMS], "bombbomb", "##"),
    ([TERMS], "a bom b", "a bom b"),
    ([TERMS], "xß!ß!", "x##"),
    ([WORD], "ab abc ab", "# abc #"),
    ([WORD], "né nés né", "# nés #"),
    ([PATTERN], "x12 x1234 yz", "# x1234 #"),
    ([PATTERN], "xx1 x1", "xx1 #"),
    ([PATTERN, TERMS], "yyzbombx", "##x"),
    ([GREEDY], "abcde", "##e"),
    ([GREEDY], "xcddddd", "x#"),
    ([GREEDY], "xcdddddd", "x#d"),
    ([EDGES], "abab qr qt z", "#ab # qt #"),
    ([BLOCK], "say stop it", "say "),
    ([BLOCK], "stop", ""),
    ([BLOCK], "st op sto", "st op sto"),
    ([FLAG], "say stop it", "say stop it"),
    ([TERMS, BLOCK], "bombstop x", "#"),
    ([BLOCK, MAIL], "stop@b.com", ""),
    ([MAIL, BLOCK], "stop@b.com", "#"),
    ([MAIL, BLOCK], "astop@b.com", "#"),
    ([TERMS], "😀bomb😀", "😀#😀"),
]


def split_text(dialect: str, text: str) -> str:
    """What stands in the stream: in arguments, the text is a member of an object."""
    return text if dialect not in ARGUMENTS else json.dumps({"k": text}, ensure_ascii=False)


@pytest.mark.parametrize(("rules", "text", "wanted"), SHORT)
def test_every_composition_of_a_short_text(rules: list[dict[str, Any]], text: str, wanted: str) -> None:
    """All 2^(n-1) ways to cut a text into events give the same text, verdict and flags, and hold back at most the
    stated bound."""
    filters = compiled(*rules)
    assert len(text) <= 12
    for pieces in compositions(text):
        stream = filters.stream(ROUTE_OF["chat"], "t", None)
        assert stream is not None
        out = b""
        for each in stream_of("chat", pieces):
            out += stream.feed(each)
            assert stream.blocked is not None or stream.held_chars <= filters.hold_back_chars_max
            if stream.blocked is not None:
                break
        out += stream.finish()
        assert text_of("chat", out) == wanted, pieces
        assert (stream.blocked is not None) == (ending_of("chat", out) == "content_filter"), pieces
        assert ("r0" in stream.flags) == (rules == [FLAG] and "stop" in text)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_short_texts_in_every_dialect(dialect: str, end: str) -> None:
    """In every dialect and with both line ends: all compositions give what the uncut answer gives, and it is what
    the same rules make of the whole text."""
    for rules, text, wanted in SHORT:
        if len(text) > 8 or rules == [EDGES] or not text.isascii():
            continue
        filters = compiled(*rules)
        seen: set[tuple[str, str]] = set()
        for pieces in compositions(text):
            if dialect in ARGUMENTS:
                pieces = ['{"k": "', *pieces, '"}']
            stream = filters.stream(ROUTE_OF[dialect], "t", None)
            assert stream is not None
            out = run(stream, stream_of(dialect, pieces, end))
            assert b"\n" not in out.replace(b"\r\n", b"") or end == "\n"
            seen.add((text_of(dialect, out), ending_of(dialect, out)))
        assert len(seen) == 1, (rules, text, seen)
        got, ending = seen.pop()
        if dialect in ARGUMENTS and ending not in ("content_filter", "refusal"):
            assert json.loads(got) == {"k": wanted}
        elif dialect not in ARGUMENTS:
            assert got == wanted


LONG = [
    ([MAIL], "Write to first.last+tag@mail.example.co.uk, or to b@c.org; not to @home."),
    ([CARD], "Card 4111 1111 1111 1111 12/27, or 5500-0000-0000-0004. Not 4111 1111 1111 1112."),
    (
        [{"detect": ["iban"], "action": "mask"}],
        "To DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432, ok",
    ),
    ([{"detect": ["phone"], "action": "mask"}], "Call +49 30 901820 or +1 650-253-0000 now, not +1 2 3"),
    (
        [{"detect": ["ip"], "action": "mask"}],
        "From 10.0.0.1 to 2001:db8::ff00:42:8329, not 1.2.3.400 or std::x",
    ),
    (
        [{"detect": ["secret"], "action": "mask"}],
        "key AKIAIOSFODNN7EXAMPLE, git ghp_" + "a1B2" * 9 + "; http://u:pw@h/",
    ),
    ([MAIL, CARD, {"terms": ["org"], "action": "mask"}], "a@b.org 4111111111111111@x.org org"),
    ([{"patterns": ["[a-z]{5}"], "action": "mask"}], "abcdeabcdefgh 12345 vwxyz"),
]


@pytest.mark.parametrize(("rules", "text"), LONG)
@pytest.mark.parametrize("dialect", ["chat", "messages", "response_tool"])
def test_two_cuts_of_a_long_text(rules: list[dict[str, Any]], text: str, dialect: str) -> None:
    """Each detector: whole, one character per event, and all splits in three give one text, and never hold more than
    the bound."""
    filters = compiled(*rules)
    bound = filters.hold_back_chars_max + (ESCAPE_CHARS_MAX if dialect in ARGUMENTS else 0)
    source = split_text(dialect, text)
    seen: set[str] = set()
    for number, pieces in enumerate(few_cuts(source)):
        if number > 1 and dialect != "chat" and number % 19:
            continue  # every split in chat; what differs in the other dialects does not depend on the place
        stream = filters.stream(ROUTE_OF[dialect], "t", None)
        assert stream is not None
        out = b""
        for each in stream_of(dialect, pieces):
            out += stream.feed(each)
            assert stream.held_chars <= bound
        seen.add(text_of(dialect, out + stream.finish()))
    assert len(seen) == 1, seen
    got = seen.pop()
    assert got != source
    if dialect in ARGUMENTS:
        json.loads(got)


ESCAPED = [
    ('{"m": "a\\u0040b.com"}', '{"m": "#"}'),
    ('{"m": "a@b\\u002ecom\\n"}', '{"m": "#\\n"}'),
    ('{"m": "\\ud83d\\ude00 a@b.com\\""}', '{"m": "\\ud83d\\ude00 #\\""}'),
    ('{"a@b.com": {"x": [1, "c@d.org"]}}', '{"#": {"x": [1, "#"]}}'),
    ('{"m": "\\ud83d a@b.com"}', '{"m": "\\ud83d #"}'),
    ("call me@b.com now", "call xxxx.xxx now"),
    ("{'m': 'a@b.com'}", "{'m': 'xxx.xxx'}"),
    ('{"c": 4111111111111111, "d": 1}', '{"c": 9999999999999999, "d": 1}'),
]


@pytest.mark.parametrize(("source", "wanted"), ESCAPED)
@pytest.mark.parametrize("dialect", sorted(ARGUMENTS))
def test_arguments_are_read_as_json(source: str, wanted: str, dialect: str) -> None:
    """Escapes in a tool call's arguments hide nothing, wherever they are cut, and the masked arguments are JSON."""
    filters = compiled(MAIL, CARD)
    for pieces in few_cuts(source):
        stream = filters.stream(ROUTE_OF[dialect], "t", None)
        assert stream is not None
        out = run(stream, stream_of(dialect, pieces))
        assert text_of(dialect, out) == wanted, pieces
        assert "b.com" not in out.decode()


def test_what_is_right_at_the_longest_is_found() -> None:
    """A match of exactly the pattern's longest length is masked as one, and one character more begins anew."""
    filters = compiled({"patterns": ["k[0-9]+"], "max_chars": 10, "action": "mask", "mask_with": "#"})
    assert filters.hold_back_chars_max == 10
    for digits, wanted in ((9, "#"), (10, "#0")):
        for pieces in compositions("k" + "0" * digits):
            stream = filters.stream(ROUTE_OF["chat"], "t", None)
            assert stream is not None
            assert text_of("chat", run(stream, stream_of("chat", pieces))) == wanted


def test_several_events_in_one_call() -> None:
    """Any number of events per call, and an event cut over calls: the bytes that come out are the same."""
    filters = compiled(MAIL)
    events = stream_of("chat", ["write a", "@b", ".com", " now"])
    whole = b"".join(events)
    stream = filters.stream(ROUTE_OF["chat"], "t", None)
    assert stream is not None
    wanted = run(stream, events)
    for size in (1, 7, 50, len(whole)):
        stream = filters.stream(ROUTE_OF["chat"], "t", None)
        assert stream is not None
        assert run(stream, [whole[at : at + size] for at in range(0, len(whole), size)]) == wanted


def test_every_choice_has_its_own_text() -> None:
    """A value that is spread over two choices is none; within each choice it is found."""
    filters = compiled(MAIL)
    stream = filters.stream(ROUTE_OF["chat"], "t", None)
    assert stream is not None
    parts = [(0, "a@"), (1, "c@"), (0, "b.com"), (1, "no")]
    events = [
        b'data: {"choices":[{"index":%d,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
        % (index, text.encode())
        for index, text in parts
    ]
    ends = [
        b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}\n\n' % index for index in (0, 1)
    ]
    texts = {0: "", 1: ""}
    for body in bodies_of(run(stream, [*events, *ends])):
        for choice in body["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == {0: "#", 1: "c@no"}
