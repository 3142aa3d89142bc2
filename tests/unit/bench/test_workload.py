"""Synthetic prompts, and what all workloads have in common."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from itertools import combinations, islice
from random import Random
from typing import Any

import msgspec
import pytest

from inferry.bench.plan import Closed, Constant, FromTrace, Gamma, Lengths, Sessions, Synthetic, TraceTimes
from inferry.bench.tokens import SAFE_IDS, Wording
from inferry.bench.workload import asks
from inferry.bench.workload.lengths import draw
from inferry.core.errors import BadBenchPlan
from tests.unit.bench.workload_plans import asked, common_beginning, plan_of, tokens, words

PLAIN = Synthetic(input_tokens=tokens(30), output_tokens=tokens(8))

# --- lengths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "deviation"), [("uniform", 200 / math.sqrt(3)), ("normal", 200), ("lognormal", 200)]
)
def test_lengths_have_the_mean_and_deviation_that_were_asked_for(spread: Any, deviation: float) -> None:
    """Of the distribution itself, not of its logarithm; uniform's 200 is half its width."""
    chance, lengths = Random(1), Lengths(mean=500, spread=spread, deviation=200)
    found = [draw(lengths, chance) for _ in range(20_000)]
    assert statistics.mean(found) == pytest.approx(500, rel=0.02)
    assert statistics.stdev(found) == pytest.approx(deviation, rel=0.03)


def test_lengths_stay_within_their_bounds() -> None:
    """What is drawn beyond them is put on them."""
    chance, lengths = Random(1), Lengths(mean=10, spread="normal", deviation=10, least=3, most=12)
    found = {draw(lengths, chance) for _ in range(1000)}
    assert (min(found), max(found)) == (3, 12)


def test_a_fixed_length_is_that_length() -> None:
    """Rounded to a whole token, and at least one."""
    assert {draw(tokens(mean), Random(1)) for mean in (99.5, 100, 100.4)} == {100}
    assert draw(tokens(0.1), Random(1)) == 1


# --- synthetic ----------------------------------------------------------------------------------------


def test_prompts_have_exactly_as_many_tokens_as_asked() -> None:
    """What the server puts around the text is taken off it; what is sent and what is expected agree."""
    workload = Synthetic(input_tokens=tokens(60, spread="uniform", deviation=40), output_tokens=tokens(8))
    found = asked(workload, wording=Wording(overhead_tokens=12))
    assert {each.input_tokens for each in found} >= {25, 60, 95}
    assert [words(each.text) + 12 for each in found] == [each.input_tokens for each in found]


def test_a_prompt_has_at_least_one_token_of_its_own() -> None:
    """Shorter than its template it can't be, and the expectation says so."""
    found = asked(
        Synthetic(input_tokens=tokens(5), output_tokens=tokens(8)), wording=Wording(overhead_tokens=12)
    )
    assert {(words(each.text), each.input_tokens) for each in found} == {(1, 13)}


def test_prompts_have_no_beginning_in_common() -> None:
    """Beyond a word or two by chance: no cache block of 16 tokens is ever hit."""
    texts = [each.text for each in asked(PLAIN)]
    assert len(texts) > 150
    assert max(common_beginning(one, other) for one, other in combinations(texts, 2)) < 6


def test_another_nonce_asks_other_prompts_of_the_same_lengths_at_the_same_times() -> None:
    """So a second run finds nothing in the cache, and is the same load; with the same nonce it is the same run."""
    workload = Synthetic(
        input_tokens=tokens(30, spread="normal", deviation=9), output_tokens=tokens(8), prefix_tokens=12
    )
    one, other = asked(workload, nonce="a"), asked(workload, nonce="b")
    assert one == asked(workload, nonce="a")
    assert [(a.due_s, a.input_tokens, a.output_tokens, a.shared_tokens) for a in one] == [
        (b.due_s, b.input_tokens, b.output_tokens, b.shared_tokens) for b in other
    ]
    assert max(common_beginning(a.text, b.text) for a, b in zip(one, other, strict=True)) < 6


def test_prompts_that_need_not_be_unique_are_the_same_in_each_run() -> None:
    """To find on purpose what an earlier run left in a cache."""
    workload = msgspec.structs.replace(PLAIN, unique=False)
    assert asked(workload, nonce="a") == asked(workload, nonce="b")


def test_groups_share_their_beginning_and_nothing_else() -> None:
    """Exactly so many tokens; and the expected hit is 0 for the first of each group, and all of it after."""
    workload = Synthetic(input_tokens=tokens(40), output_tokens=tokens(8), prefix_tokens=25, prefix_groups=4)
    found = asked(workload)
    beginnings: dict[str, list[int]] = {}
    for each in found:
        assert each.text is not None
        assert words(each.text) == 40
        beginnings.setdefault(" ".join(each.text.split(" ")[:25]), []).append(each.shared_tokens)
    assert len(beginnings) == 4
    for shared in beginnings.values():
        assert shared == [0] + [25] * (len(shared) - 1)
    assert max(common_beginning(a.text, b.text) for a, b in combinations(found[:60], 2)) < 25 + 6


def test_a_prefix_leaves_room_for_something_of_one_s_own() -> None:
    """A prompt shorter than its group's prefix gets one token more than it."""
    workload = Synthetic(input_tokens=tokens(10), output_tokens=tokens(8), prefix_tokens=25)
    found = asked(workload, wording=Wording(overhead_tokens=3))
    assert {(words(each.text), each.input_tokens) for each in found} == {(26, 29)}


def test_ids_in_place_of_text() -> None:
    """As many as tokens were asked for, template or not: engines put nothing around ids. Groups share them too."""
    workload = Synthetic(input_tokens=tokens(40), output_tokens=tokens(8), prefix_tokens=25, by_ids=True)
    found = asked(workload, api="completions", wording=Wording(overhead_tokens=12))
    ids = [each.token_ids or () for each in found]
    assert {len(each) for each in ids} == {40} == {each.input_tokens for each in found}
    assert {each.text for each in found} == {None}
    assert set().union(*ids) <= set(SAFE_IDS)
    assert len({each[:25] for each in ids}) == 1
    assert len({each[25:] for each in ids}) == len(ids)


def test_longer_answers_change_no_prompt() -> None:
    """Each thing has a chance of its own: two runs differ in what their plans differ in."""
    one = Synthetic(input_tokens=tokens(30, spread="uniform", deviation=9), output_tokens=tokens(8))
    other = msgspec.structs.replace(one, output_tokens=tokens(80, spread="normal", deviation=9))
    assert [each.text for each in asked(one)] == [each.text for each in asked(other, abandon_share=0.5)]


def test_embeddings_have_no_answer_s_length() -> None:
    """There is nothing to be generated."""
    assert {each.output_tokens for each in asked(PLAIN, api="embeddings")} == {None}


# --- the sequence -------------------------------------------------------------------------------------


def test_numbers_count_up_and_times_are_the_arrivals() -> None:
    """From 0, in order, until the duration is over."""
    found = asked(PLAIN, arrivals=Constant(4))
    assert [each.number for each in found] == list(range(40))
    assert [each.due_s for each in found] == [number / 4 for number in range(40)]


def test_no_more_requests_than_the_plan_allows() -> None:
    """`requests_max` ends it before the duration does."""
    assert len(asked(PLAIN, requests_max=7)) == 7


def test_a_closed_loop_has_as_many_as_anybody_wants() -> None:
    """Nobody knows beforehand how many will be asked, nor when."""
    endless = asks(plan_of(PLAIN, arrivals=Closed(3)), Wording())
    found = list(islice(endless, 1000))
    assert {each.due_s for each in found} == {None}
    assert len({each.text for each in found}) == 1000


@pytest.mark.parametrize(
    "workload",
    [
        PLAIN,
        Synthetic(input_tokens=tokens(40), output_tokens=tokens(8), prefix_tokens=9, prefix_groups=3),
        Sessions(
            turns=tokens(3, spread="uniform", deviation=2),
            first_tokens=tokens(9),
            turn_tokens=tokens(5),
            output_tokens=tokens(7),
        ),
    ],
    ids=["plain", "prefixes", "sessions"],
)
def test_processes_share_the_work_and_nothing_gets_lost(workload: Synthetic | Sessions) -> None:
    """Together they ask exactly what one would have; a session is one process's."""
    plan = plan_of(workload, abandon_share=0.3)
    alone = list(asks(plan, Wording(), nonce="n"))
    parts = [list(asks(plan, Wording(), nonce="n", process=each, processes=3)) for each in range(3)]
    assert sorted((each for part in parts for each in part), key=lambda each: each.number) == alone
    homes = [{each.session for each in part if each.session is not None} for part in parts]
    assert not homes[0] & homes[1]
    assert not homes[1] & homes[2]
    assert all(parts)


def test_every_process_makes_the_same_prompts() -> None:
    """Another Python, with other hashes, writes the same text."""
    here = asked(PLAIN, nonce="n", requests_max=3)
    code = (
        "from tests.unit.bench.workload_plans import asked; from tests.unit.bench.test_workload import PLAIN;"
        "print([each.text for each in asked(PLAIN, nonce='n', requests_max=3)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str([each.text for each in here])


def test_some_clients_leave() -> None:
    """As many as planned, after a time that is exponential; who does depends on the seed alone."""
    plan: dict[str, Any] = {"arrivals": Constant(200), "abandon_share": 0.25, "abandon_after_s": 3.0}
    found = asked(PLAIN, **plan)
    after_s = [each.abandon_after_s for each in found if each.abandon_after_s is not None]
    assert len(after_s) / len(found) == pytest.approx(0.25, abs=0.03)
    assert statistics.mean(after_s) == pytest.approx(3, rel=0.15)
    assert statistics.stdev(after_s) == pytest.approx(3, rel=0.2)
    leavers = [each.number for each in found if each.abandon_after_s is not None]
    again = asked(PLAIN, nonce="other", **plan)
    assert [each.number for each in again if each.abandon_after_s is not None] == leavers
    assert not [each for each in asked(PLAIN) if each.abandon_after_s is not None]


# --- what makes no sense ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"duration_s": 0}, "duration_s is 0: it must be above 0"),
        ({"duration_s": float("nan")}, "duration_s is nan"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"warmup_s": 10}, "warmup_s is 10: it must be less than duration_s, 10"),
        ({"warmup_s": -1}, "warmup_s is -1"),
        ({"abandon_share": 1.1}, "abandon_share is 1.1: it must be from 0 to 1"),
        ({"abandon_after_s": 0}, "abandon_after_s is 0"),
        ({"requests_max": 0}, "requests_max is 0: it must be 1 or more"),
        ({"arrivals": Gamma(5, -1)}, "burstiness is -1"),
        ({"arrivals": TraceTimes()}, "the arrivals are a trace's, and the workload is none"),
    ],
)
def test_a_plan_that_can_t_be_is_refused_before_anything_is_sent(changes: dict[str, Any], words: str) -> None:
    """At the call, with the field, its value, and what it may be."""
    with pytest.raises(BadBenchPlan) as caught:
        asks(plan_of(PLAIN, **changes), Wording())
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_tokens": tokens(0)}, "the mean of input_tokens is 0: it must be above 0"),
        ({"output_tokens": tokens(float("inf"))}, "the mean of output_tokens is inf"),
        ({"input_tokens": tokens(5, deviation=-1)}, "the deviation of input_tokens is -1"),
        ({"input_tokens": tokens(5, least=0)}, "the least of input_tokens is 0"),
        ({"input_tokens": tokens(5, least=5, most=4)}, "the most of input_tokens is 4"),
        ({"prefix_tokens": -1}, "prefix_tokens is -1"),
        ({"prefix_groups": 0}, "prefix_groups is 0"),
        ({"by_ids": True}, "by_ids is set, and the API is chat"),
    ],
)
def test_a_workload_that_can_t_be_is_refused(changes: dict[str, Any], words: str) -> None:
    """The same for what is asked."""
    with pytest.raises(BadBenchPlan) as caught:
        asks(plan_of(msgspec.structs.replace(PLAIN, **changes)), Wording())
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (FromTrace(path="x", block_tokens=0), "block_tokens is 0"),
        (FromTrace(path="x", tokens_scale=0), "tokens_scale is 0"),
        (
            Sessions(
                turns=tokens(1),
                first_tokens=tokens(1),
                turn_tokens=tokens(1),
                output_tokens=tokens(1),
                think_s=-1,
            ),
            "think_s is -1",
        ),
    ],
)
def test_traces_and_sessions_that_can_t_be_are_refused(workload: FromTrace | Sessions, words: str) -> None:
    """The same for the other kinds."""
    with pytest.raises(BadBenchPlan) as caught:
        asks(plan_of(workload), Wording())
    assert words in caught.value.message
