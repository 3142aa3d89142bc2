"""Verdicts on stand-ins that err in each known way, however their bytes were cut up."""

from __future__ import annotations

import random

import msgspec
import pytest

from inferry.bench.judging import read
from inferry.bench.records import Ask, Raw, RequestRecord, Verdict
from inferry.bench.request_figures import figures

from .standin_servers import (
    ASK,
    ASKED,
    BLOCKS,
    DONE,
    FAILED,
    ROLE,
    STANDINS,
    WELL,
    WORDS,
    Standin,
    delta,
    say,
    total,
)

BY_NAME = {standin.name: standin for standin in STANDINS}
each = pytest.mark.parametrize("standin", STANDINS, ids=lambda standin: standin.name)


def judged(standin: Standin, raw: Raw | None = None) -> RequestRecord:
    return read(standin.target, ASK, standin.raw() if raw is None else raw, warmup=False)


@each
def test_each_way_of_erring_is_told(standin: Standin) -> None:
    """The verdict is the right one, failures have a reason in words, and the tokens that came are counted."""
    record = judged(standin)
    assert (record.verdict, record.output_tokens) == (standin.verdict, standin.tokens), record.reason
    assert bool(record.reason) == record.failed
    assert len(record.reason) < 400
    assert "\n" not in record.reason


def by_byte(standin: Standin) -> RequestRecord:
    """Read from a body that came byte by byte: the byte at place n at n seconds."""
    return judged(
        standin, standin.raw(tuple((float(at), bytes((byte,))) for at, byte in enumerate(standin.body)))
    )


@each
def test_no_split_of_the_bytes_changes_anything_but_times(standin: Standin) -> None:
    """Over every split in two: same verdict, reason and tokens; what was whole in the first piece has its time."""
    plain = judged(standin)
    ends = by_byte(standin).chunk_s
    for cut in range(1, len(standin.body)):
        record = judged(standin, standin.raw(((-2.0, standin.body[:cut]), (-1.0, standin.body[cut:]))))
        assert (record.verdict, record.reason) == (plain.verdict, plain.reason)
        assert (record.chunk_tokens, record.token_source) == (plain.chunk_tokens, plain.token_source)
        assert record.chunk_s == tuple(-2.0 if end < cut else -1.0 for end in ends)


@each
def test_tokens_add_up_and_times_go_forward(standin: Standin) -> None:
    """Byte by byte: the chunks' tokens sum up to the answer's, and no time is before the one that precedes it."""
    record = by_byte(standin)
    assert sum(record.chunk_tokens) == pytest.approx(record.output_tokens)
    assert list(record.chunk_s) == sorted(record.chunk_s)
    if record.chunk_s:
        assert (record.chunk_s[0], record.chunk_s[-1]) == (record.first_token_s, record.last_token_s)


def test_nothing_that_a_server_sends_can_break_the_reader() -> None:
    """Bodies with bytes changed, lost and repeated at random: each gets a verdict, and tokens that are none too few."""
    chance = random.Random(7)
    for standin in STANDINS * 12:
        body = bytearray(standin.body or b"x")
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(body) + 1)
            body[at : at + chance.choice((0, 1, 40))] = chance.choice(
                (b"", b"-", b"9" * 30, b"\n\n", b'"', b"null", b"{")
            )
        record = judged(standin, standin.raw(((1.0, bytes(body)),)))
        assert record.output_tokens >= 0
        assert all(tokens > 0 for tokens in record.chunk_tokens)
    deep = b"data: " + b"[" * 100_000 + b"\n\n"
    assert judged(BY_NAME["well"], BY_NAME["well"].raw(((1.0, deep),))).verdict is Verdict.MALFORMED


def raw_without_answer(trouble: Verdict | None, **fields: object) -> Raw:
    plain = Raw(number=0, due_s=0.5, sent_s=0.6, trouble=trouble, reason="as the client said")
    return msgspec.structs.replace(plain, **fields)


@pytest.mark.parametrize("trouble", [Verdict.CONNECT, Verdict.UNSENT, Verdict.TIMEOUT, Verdict.MALFORMED])
def test_what_the_client_knows_itself_stands(trouble: Verdict) -> None:
    """Without an answer to read, the client's own verdict and reason are the record's."""
    record = read(BY_NAME["well"].target, ASK, raw_without_answer(trouble), warmup=True)
    assert (record.verdict, record.reason, record.warmup) == (trouble, "as the client said", True)
    assert (record.input_tokens, record.output_tokens, record.chunk_s) == (4, 0, ())


def test_silence_is_a_lost_connection() -> None:
    """No status and no word from the client about it: CONNECT, not a success."""
    record = read(BY_NAME["well"].target, ASK, raw_without_answer(None, reason=""), warmup=False)
    assert record.verdict is Verdict.CONNECT
    assert record.reason


def with_trouble(trouble: Verdict, body: bytes, status: int = 200) -> RequestRecord:
    raw = raw_without_answer(trouble, status=status, pieces=((1.0, body),))
    return read(BY_NAME["well"].target, ASK, raw, warmup=False)


def test_a_client_that_left_hides_no_failure() -> None:
    """Abandoned is what was sound until then; an error that had come before stays a failure."""
    assert with_trouble(Verdict.ABANDONED, ROLE + WORDS).verdict is Verdict.ABANDONED
    assert with_trouble(Verdict.ABANDONED, b"").verdict is Verdict.ABANDONED
    assert with_trouble(Verdict.ABANDONED, ROLE + FAILED).verdict is Verdict.STREAM_ERROR
    assert with_trouble(Verdict.ABANDONED, b"data: {oops\n\n").verdict is Verdict.MALFORMED
    assert with_trouble(Verdict.ABANDONED, b"{", status=503).verdict is Verdict.HTTP_ERROR


def test_an_abandoned_answer_counts_what_had_come() -> None:
    """Its tokens and times are there, for what the engine did in vain."""
    record = with_trouble(Verdict.ABANDONED, ROLE + WORDS)
    assert (record.output_tokens, record.token_source, record.first_token_s) == (3, "chunks", 1.0)


def test_a_timeout_in_mid_answer_is_a_timeout() -> None:
    """What had come by then stays in the record."""
    record = with_trouble(Verdict.TIMEOUT, ROLE + WORDS)
    assert (record.verdict, record.output_tokens) == (Verdict.TIMEOUT, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("not-200", "status 503: try later"),
        ("not-200-cut", 'status 502: {"detail": "try la'),
        ("error-then-done", "after 1 chunk the server said: out of memory"),
        ("messages-error", "full"),
        ("responses-failed", "gone"),
        ("tgi-error", "gone"),
        ("error-as-body", "no such model"),
        ("engine-gave-up", "the engine gave up after 3 tokens: finish reason 'abort'"),
        ("one-choice-of-two", "without a finish reason for 1 of 2 choices"),
        ("too-few", "2 tokens where 3 were asked for, finish reason length"),
        ("page-instead", "a stream was asked for, and this came (text/html): <html>"),
        ("event-not-json", "not the API's form"),
        ("cut-between-events", "the connection ended after 3 chunks, before the answer was at its end"),
    ],
)
def test_reasons_are_the_servers_own_words(name: str, words: str) -> None:
    """A failure's reason has what the server said, or what was missing and when."""
    assert words in judged(BY_NAME[name]).reason


def test_unknown_lengths_are_no_failure() -> None:
    """Where nobody counts tokens, or none were asked for, no length can be wrong."""
    well = BY_NAME["well"]
    uncounted = ROLE + WORDS + delta("length", content=" four") + DONE
    assert judged(well, well.raw(((1.0, uncounted),))).verdict is Verdict.OK
    unasked = Ask(number=0, due_s=0.0, text="hello")
    many = ROLE + WORDS + delta("length") + total(99)
    assert read(well.target, unasked, well.raw(((1.0, many),)), warmup=False).verdict is Verdict.OK


def test_lengths_of_several_choices_are_not_judged() -> None:
    """llama.cpp's usage counts one choice of two, vLLM's both: neither is a wrong length."""
    standin = BY_NAME["two-choices"]
    one_counted = standin.body.replace(total(6), total(3))
    assert judged(standin, standin.raw(((1.0, one_counted),))).verdict is Verdict.OK


def test_the_record_has_what_the_server_counted() -> None:
    """Tokens of prompt, cache and reasoning are the server's; what was asked for stays beside them."""
    well = BY_NAME["well"]
    details = {
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    body = WELL.replace(total(ASKED), total(ASKED, **details))
    ask = msgspec.structs.replace(ASK, input_tokens=9, shared_tokens=5, session=8)
    record = read(well.target, ask, well.raw(((1.0, body),)), warmup=False)
    assert (record.input_tokens, record.input_asked, record.cached_tokens, record.shared_tokens) == (
        4,
        9,
        2,
        5,
    )
    assert (record.reasoning_tokens, record.finish_reason, record.session) == (1, "length", 8)


def test_the_time_to_the_answer_leaves_reasoning_out() -> None:
    """Reasoning is the first token; the first answer comes after it, and its tokens are counted apart."""
    standin = BY_NAME["reasoning"]
    start = standin.body.index(b'"yes"')
    record = judged(standin, standin.raw(((1.0, standin.body[:start]), (2.0, standin.body[start:]))))
    assert (record.first_token_s, record.first_answer_s) == (1.0, 2.0)
    assert (record.reasoning_tokens, record.output_tokens) == (2, 3)


def test_an_answer_in_one_body_comes_all_at_once() -> None:
    """Without a stream there is one chunk, with all tokens, at the time of the last byte."""
    standin = BY_NAME["chat-in-one-body"]
    record = judged(standin, standin.raw(((1.0, standin.body[:9]), (2.0, standin.body[9:]))))
    assert (record.chunk_s, record.chunk_tokens, record.token_source) == ((2.0,), (3.0,), "usage")


def test_embeddings_have_no_tokens_of_their_own() -> None:
    """There is nothing to wait for but the end; the prompt's tokens are known."""
    record = judged(BY_NAME["embeddings"])
    assert (record.token_source, record.first_token_s, record.input_tokens) == ("none", None, 4)


def test_the_cache_is_counted_into_the_prompt_for_all_apis() -> None:
    """Anthropic's API counts it apart: 3 and 1 are a prompt of 4."""
    record = judged(BY_NAME["messages"])
    assert (record.input_tokens, record.cached_tokens) == (4, 1)


@pytest.mark.parametrize("per_chunk", [False, True])
def test_hidden_reasoning_makes_no_server_quicker(per_chunk: bool) -> None:
    """97 tokens that nobody saw, then three words 20 ms apart: 20 ms per token, and 100 tokens of output."""
    well = BY_NAME["well"]
    words = [
        delta("length" if at == 2 else None, 98 + at if per_chunk else None, content="word")
        for at in range(3)
    ]
    end = total(100, completion_tokens_details={"reasoning_tokens": 97})
    pieces = [(1 + at / 50, word) for at, word in enumerate(words)]
    raw = well.raw((*pieces, (1.04, end)))
    record = read(well.target, Ask(number=0, due_s=0.4, text="Why?", output_tokens=100), raw, warmup=False)
    measured = figures(record)
    assert (record.verdict, record.output_tokens, record.reasoning_tokens) == (Verdict.OK, 100, 97)
    assert measured.itl_ms == pytest.approx(20)
    assert measured.tpot_ms == pytest.approx(20)


def five_at_once(finish: str) -> RequestRecord:
    """Ten chunks, 100 ms apart, of an answer for which 50 tokens were asked, and which nobody counts."""
    well = BY_NAME["well"]
    chunks = [(at / 10, delta(finish if at == 9 else None, content=" a b c d e")) for at in range(10)]
    ask = Ask(number=0, due_s=0.0, text="Go on.", output_tokens=50)
    return read(well.target, ask, well.raw(tuple(chunks)), warmup=False)


def test_an_answer_that_its_length_ended_has_that_length() -> None:
    """Without a word on tokens, 50 that were asked for are spread over ten chunks: 20 ms per token, not 100."""
    record = five_at_once("length")
    assert (record.verdict, record.token_source, record.output_tokens) == (Verdict.OK, "asked", 50)
    assert figures(record).itl_ms == pytest.approx(20)


def test_an_answer_that_ended_by_itself_has_no_known_length() -> None:
    """Then each chunk is one token, and the record says so."""
    record = five_at_once("stop")
    assert (record.verdict, record.token_source, record.output_tokens) == (Verdict.OK, "chunks", 10)


@pytest.mark.parametrize(
    ("started", "ended", "prompt"),
    [
        ({"input_tokens": 0, "cache_read_input_tokens": 900}, {}, 900),
        ({"input_tokens": 0, "cache_creation_input_tokens": 70}, {"input_tokens": 0}, 70),
        ({"cache_read_input_tokens": 60}, {}, 60),
        ({"input_tokens": 3, "cache_read_input_tokens": 60}, {"cache_read_input_tokens": 60}, 63),
        ({"input_tokens": 0}, {"input_tokens": 12}, 12),
        ({"input_tokens": 0}, {}, ASK.input_tokens),
    ],
)
def test_a_prompt_that_a_cache_had_whole_is_counted(
    started: dict[str, int], ended: dict[str, int], prompt: int
) -> None:
    """Anthropic's input_tokens of 0 is one part of a sum; only where all are 0 or left out, what was asked for stands."""
    standin = BY_NAME["messages"]
    start = say("message_start", message={"usage": {**started, "output_tokens": 1}})
    stop = say("message_delta", delta={"stop_reason": "max_tokens"}, usage={**ended, "output_tokens": ASKED})
    body = start + BLOCKS + stop + say("message_stop")
    assert judged(standin, standin.raw(((1.0, body),))).input_tokens == prompt
