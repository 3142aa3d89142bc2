"""The simulated engine's inside: limits, batch, prefix cache. Events in, decisions out; no loop, no sleep."""

from __future__ import annotations

from array import array

from inferry.testing.simulated_model import Answer, Batch, Limits, Piece, PrefixCache, Sequence
from inferry.testing.simulated_words import Speech, TokenTable


def answer(limits: Limits, prompt: str = "Tell me about lamps") -> Answer:
    table = TokenTable()
    return Answer(Speech(0, table.encode(prompt), table), limits)


def run(limits: Limits) -> list[Piece]:
    under_way = answer(limits)
    pieces = [under_way.step()]
    while pieces[-1].finish is None:
        pieces.append(under_way.step())
    return pieces


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


FREE = run(Limits(1000))
WORDS = text(FREE)


def test_an_answer_ends_by_itself_or_at_the_limit() -> None:
    """Free, it stops with an end token; limited, it has exactly so many tokens, and says `length`."""
    assert FREE[-1].finish == "stop"
    assert FREE[-1].text == ""
    assert [piece.finish for piece in run(Limits(3))] == [None, None, "length"]
    assert text(run(Limits(3))) == text(FREE[:3])


def test_ignore_eos_and_min_tokens_suppress_the_end() -> None:
    """Both make it longer than it would be; words before the suppressed end stay the same."""
    assert len(run(Limits(len(FREE) + 50, ignore_eos=True))) == len(FREE) + 50
    longer = run(Limits(1000, min_tokens=len(FREE) + 5))
    assert len(longer) > len(FREE) + 5
    assert text(longer).startswith(WORDS)


def test_a_stop_string_ends_the_text_before_it() -> None:
    """A stop string that spans tokens is found, cut off, and none of it was shown before."""
    at = len(text(FREE[:5])) - 2
    stop = WORDS[at : at + 6]
    pieces = run(Limits(1000, stop=("never said", stop)))
    assert text(pieces) == WORDS[: WORDS.find(stop)]
    assert (pieces[-1].finish, pieces[-1].stop_reason) == ("stop", stop)
    kept = run(Limits(1000, stop=(stop,), include_stop=True))
    assert text(kept) == WORDS[: WORDS.find(stop)] + stop


def test_a_stop_string_that_never_comes_takes_nothing_away() -> None:
    """Text that is held back in case comes out in the end, whichever way the answer ends."""
    assert text(run(Limits(1000, stop=("never said at all",)))) == WORDS
    assert text(run(Limits(4, stop=("never said at all",)))) == text(FREE[:4])


def sequence(now_s: float = 0.0, slowness: float = 1.0) -> Sequence:
    return Sequence(answer(Limits(10)), prompt_tokens=4, submitted_s=now_s, slowness=slowness)


def test_tokens_are_due_at_ttft_and_then_every_itl() -> None:
    """Exact seconds: the first after 2 s, then one each 0.5 s; ten times as long where slowed down."""
    batch = Batch(parallel=2, ttft_s=2.0, itl_s=0.5)
    fast, slow = sequence(), sequence(slowness=10.0)
    batch.submit(fast, 0.0)
    batch.submit(slow, 0.0)
    assert batch.next_due_s() == 2.0
    assert batch.take_due(1.9) == []
    assert batch.take_due(2.0) == [fast]
    batch.resume(fast, 2.0)
    assert batch.next_due_s() == 2.5
    assert batch.take_due(2.6) == [fast]
    batch.resume(fast, 2.6)
    assert batch.next_due_s() == 3.0  # counted from when it was due: a late loop is caught up with
    batch.leave(fast, 2.7)
    assert batch.next_due_s() == 20.0
    assert batch.take_due(20.0) == [slow]
    batch.hold(slow, 7.0, 20.0)
    assert batch.next_due_s() == 27.0


def test_without_delays_each_sequence_still_gets_one_token_a_turn() -> None:
    """At 0 ms per token, all running sequences take turns; none hogs the loop."""
    batch = Batch(parallel=3, ttft_s=0.0, itl_s=0.0)
    sequences = [sequence() for _ in range(3)]
    for one in sequences:
        batch.submit(one, 0.0)
    for _ in range(4):
        due = batch.take_due(0.0)
        assert due == sequences
        for one in due:
            batch.resume(one, 0.0)


def test_the_batch_is_bounded_and_fair() -> None:
    """At most `parallel` run; the others wait in order, and their first token counts from admission."""
    batch = Batch(parallel=2, ttft_s=1.0, itl_s=1.0)
    a, b, c, d = (sequence() for _ in range(4))
    for one in (a, b, c, d):
        batch.submit(one, 0.0)
    assert (batch.running_count, batch.waiting_count) == (2, 2)
    batch.leave(c, 5.0)  # a client that gives up while it waits
    batch.leave(a, 5.0)
    batch.leave(a, 5.0)
    assert (batch.running_count, batch.waiting_count) == (2, 0)
    assert d.admitted_s == 5.0
    assert batch.take_due(5.0) == [b]
    assert batch.next_due_s() == 6.0
    assert batch.take_due(6.0) == [d]
    for one in (b, d):
        batch.leave(one, 6.0)
    assert (batch.running, batch.next_due_s()) == ((), None)


def ids(start: int, count: int) -> array[int]:
    return array("I", range(start, start + count))


def test_the_prefix_cache_finds_whole_blocks_of_the_same_beginning() -> None:
    """Blocks of 16 count from the start only, and the last token of a prompt is always computed."""
    cache = PrefixCache(100)
    cache.remember(ids(0, 50))
    assert cache.lookup(ids(0, 200)) == 48
    assert cache.lookup(ids(0, 48)) == 32
    assert cache.lookup(ids(0, 20) + ids(900, 20)) == 16
    assert cache.lookup(ids(16, 34)) == 0
    assert cache.lookup(ids(0, 0)) == 0


def test_the_prefix_cache_is_bounded() -> None:
    """It keeps the latest blocks; an old beginning is forgotten."""
    cache = PrefixCache(4)
    cache.remember(ids(0, 48))
    cache.remember(ids(500, 64))
    assert cache.lookup(ids(500, 100)) == 64
    assert cache.lookup(ids(0, 100)) == 0


def test_the_prefix_cache_forgets_a_prompts_end_before_its_beginning() -> None:
    """A prompt that does not fit any more is still known by its beginning."""
    cache = PrefixCache(4)
    cache.remember(ids(0, 48))
    cache.remember(ids(500, 32))
    assert cache.lookup(ids(500, 100)) == 32
    assert cache.lookup(ids(0, 100)) == 32


def test_uncached_prompt_tokens_take_time_one_prompt_after_the_other() -> None:
    """At 100 tokens/s: 200 tokens take 2 s, the next 100 begin then, and a cached prompt waits behind both."""
    batch = Batch(parallel=8, ttft_s=0.5, itl_s=0.1, prefill_tokens_per_s=100.0)
    due_s = []
    for uncached in (200, 100, 0):
        one = sequence()
        one.uncached_tokens = uncached
        batch.submit(one, 10.0)
        due_s.append(one.due_s)
    assert due_s == [12.5, 13.5, 13.5]
    late = sequence()
    late.uncached_tokens = 50
    batch.submit(late, 20.0)
    assert late.due_s == 21.0
