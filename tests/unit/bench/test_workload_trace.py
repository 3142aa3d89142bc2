"""Recorded traces, asked again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferry.bench.plan import Closed, Constant, FromTrace, TraceTimes
from inferry.bench.records import Ask
from inferry.bench.tokens import Wording
from inferry.core.errors import BadBenchPlan
from inferry.simulate.replay import hit_ratio_bound
from tests.unit.bench.workload_plans import asked, common_beginning, words

# When in ms, prompt, answer, blocks of ten tokens: the second and the fourth begin as the first does.
ENTRIES = [
    (0, 35, 4, [0, 1, 2, 3]),
    (500, 28, 5, [0, 1, 9]),
    (900, 12, 6, [7, 8]),
    (2000, 35, 7, [0, 1, 2, 3]),
]
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,m,20,3,23,a\n7,m,30,4,34,a\n"
)


def mooncake(folder: Path, entries: list[tuple[int, int, int, list[int]]]) -> FromTrace:
    path = folder / "trace.jsonl"
    names = ("timestamp", "input_length", "output_length", "hash_ids")
    path.write_text("".join(json.dumps(dict(zip(names, each, strict=True))) + "\n" for each in entries))
    return FromTrace(path=str(path), block_tokens=10)


def texts(found: list[Ask]) -> list[str | None]:
    return [each.text for each in found]


def test_a_trace_has_its_own_times_and_lengths(tmp_path: Path) -> None:
    """As fast as it was, or faster; no longer than the run."""
    trace = mooncake(tmp_path, ENTRIES)
    found = asked(trace, arrivals=TraceTimes())
    assert [each.due_s for each in found] == [0, 0.5, 0.9, 2.0]
    assert [(words(each.text), each.output_tokens) for each in found] == [(35, 4), (28, 5), (12, 6), (35, 7)]
    assert [each.due_s for each in asked(trace, arrivals=TraceTimes(speed=4))] == [0, 0.125, 0.225, 0.5]
    assert len(asked(trace, arrivals=TraceTimes(), duration_s=2)) == 3


def test_the_same_blocks_are_the_same_text(tmp_path: Path) -> None:
    """And others are others: prompts have in common what the trace says, no more."""
    one, two, three, four = texts(asked(mooncake(tmp_path, ENTRIES), arrivals=TraceTimes()))
    assert common_beginning(one, two) in range(20, 24)  # a word or two may be alike by chance
    assert common_beginning(one, three) < 4
    assert one == four


def test_what_a_cache_could_have_is_what_earlier_requests_had(tmp_path: Path) -> None:
    """Whole blocks known from the beginning on; never the last token of a prompt."""
    found = asked(mooncake(tmp_path, ENTRIES), arrivals=TraceTimes())
    assert [each.shared_tokens for each in found] == [0, 20, 0, 34]


def test_the_whole_is_what_simulations_say_of_the_same_trace(tmp_path: Path) -> None:
    """One bound for both, as they read the same file."""
    from inferry.core.load_traces import read_mooncake

    trace = mooncake(tmp_path, ENTRIES)
    found = asked(trace, arrivals=TraceTimes())
    share = sum(each.shared_tokens for each in found) / sum(each.input_tokens or 0 for each in found)
    assert share == pytest.approx(hit_ratio_bound(read_mooncake(Path(trace.path)), block_tokens=10))


def test_lengths_are_scaled_and_beginnings_with_them(tmp_path: Path) -> None:
    """A tenth of everything, at least one token."""
    trace = mooncake(tmp_path, [(each, tokens * 10, 4, ids) for each, tokens, _, ids in ENTRIES])
    scaled = FromTrace(path=trace.path, block_tokens=100, tokens_scale=0.1)
    found = asked(scaled, arrivals=TraceTimes())
    assert [(words(each.text), each.output_tokens) for each in found] == [(35, 1), (28, 1), (12, 1), (35, 1)]
    assert [each.shared_tokens for each in found] == [0, 20, 0, 34]
    assert common_beginning(found[0].text, found[1].text) in range(20, 24)


def test_what_the_server_adds_is_taken_off_the_end(tmp_path: Path) -> None:
    """Prompts have the trace's lengths as the server counts, and their beginnings stay alike."""
    found = asked(mooncake(tmp_path, ENTRIES), arrivals=TraceTimes(), wording=Wording(overhead_tokens=7))
    assert [(words(each.text), each.input_tokens) for each in found] == [
        (28, 35),
        (21, 28),
        (5, 12),
        (28, 35),
    ]
    assert [each.shared_tokens for each in found] == [0, 20, 0, 27]


def test_ids_in_place_of_text(tmp_path: Path) -> None:
    """With the same beginnings."""
    trace = mooncake(tmp_path, ENTRIES)
    by_ids = FromTrace(path=trace.path, block_tokens=10, by_ids=True)
    ids = [
        each.token_ids or ()
        for each in asked(
            by_ids, arrivals=TraceTimes(), api="completions", wording=Wording(overhead_tokens=7)
        )
    ]
    assert [len(each) for each in ids] == [35, 28, 12, 35]
    assert ids[0][:20] == ids[1][:20]
    assert ids[0] == ids[3]


def test_other_arrivals_ask_a_trace_s_prompts_once(tmp_path: Path) -> None:
    """In its order: at the plan's rate, or when a user of a closed loop is free."""
    trace = mooncake(tmp_path, ENTRIES)
    prompts = texts(asked(trace, arrivals=TraceTimes()))
    constant = asked(trace, arrivals=Constant(10))
    assert [each.due_s for each in constant] == [0, 0.1, 0.2, 0.3]
    closed = asked(trace, arrivals=Closed(2))
    assert texts(constant) == texts(closed) == prompts


def test_another_nonce_asks_other_prompts_with_the_same_in_common(tmp_path: Path) -> None:
    """A second run finds nothing of the first in the cache, and all that it should of its own."""
    trace = mooncake(tmp_path, ENTRIES)
    one, two = (asked(trace, arrivals=TraceTimes(), nonce=nonce) for nonce in ("a", "b"))
    assert all(common_beginning(a.text, b.text) < 4 for a, b in zip(one, two, strict=True))
    assert [each.shared_tokens for each in one] == [each.shared_tokens for each in two]


def test_traces_without_blocks_have_nothing_in_common(tmp_path: Path) -> None:
    """BurstGPT's and Azure's say lengths and times only."""
    path = tmp_path / "burst.csv"
    path.write_text(BURSTGPT)
    found = asked(FromTrace(path=str(path)), arrivals=TraceTimes())
    assert [(each.due_s, words(each.text), each.output_tokens) for each in found] == [(0, 20, 3), (2, 30, 4)]
    assert common_beginning(found[0].text, found[1].text) < 4
    assert {each.shared_tokens for each in found} == {0}


@pytest.mark.parametrize(
    ("text", "named", "words"),
    [
        ("when,what\n", None, "line 1: neither a Mooncake trace"),
        (BURSTGPT, "azure", "line 1: an Azure trace has a column 'TIMESTAMP'"),
        (BURSTGPT + "8,m,many,4,5,a\n", None, "line 4: no request of a BurstGPT trace"),
        (BURSTGPT.splitlines()[0] + "\n", None, "has no requests"),
    ],
)
def test_a_bad_trace_is_said(tmp_path: Path, text: str, named: str | None, words: str) -> None:
    """File, line and cause, before anything is sent."""
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(BadBenchPlan) as caught:
        asked(FromTrace(path=str(path), format=named), arrivals=TraceTimes())  # type: ignore[arg-type]
    assert words in caught.value.message
    assert str(path) in caught.value.message


def test_a_trace_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With its path and the system's reason."""
    with pytest.raises(BadBenchPlan, match=r"gone can't be read: No such file or directory"):
        asked(FromTrace(path=str(tmp_path / "gone")), arrivals=TraceTimes())
