"""Conversations that grow."""

from __future__ import annotations

import statistics
from itertools import pairwise

import msgspec
import pytest

from inferry.bench.plan import Closed, Constant, Sessions
from inferry.bench.records import Ask
from inferry.bench.tokens import Wording
from tests.unit.bench.workload_plans import asked, tokens, words

CHATS = Sessions(
    turns=tokens(3),
    first_tokens=tokens(20),
    turn_tokens=tokens(5),
    output_tokens=tokens(8),
    think_s=2.0,
    prefix_tokens=10,
)


def by_session(found: list[Ask]) -> list[list[Ask]]:
    sessions: dict[int | None, list[Ask]] = {}
    for each in found:
        sessions.setdefault(each.session, []).append(each)
    return list(sessions.values())


def test_sessions_arrive_and_turns_follow_each_other() -> None:
    """First turns have the schedule's times; each later one comes after the one before, some time to think later."""
    sessions = by_session(asked(CHATS, arrivals=Constant(2)))
    assert [session[0].due_s for session in sessions] == [number / 2 for number in range(20)]
    for session in sessions:
        assert [each.after for each in session] == [None, session[0].number, session[1].number]
        assert [each.due_s is None for each in session] == [False, True, True]
        assert session[0].think_s == 0


def test_times_to_think_are_exponential() -> None:
    """Of the mean that the plan says."""
    think_s = [each.think_s for each in asked(CHATS, arrivals=Constant(100)) if each.after is not None]
    assert len(think_s) == 2000
    assert statistics.mean(think_s) == pytest.approx(2, rel=0.07)
    assert statistics.stdev(think_s) == pytest.approx(2, rel=0.1)


def test_each_turn_has_all_that_was_said_before() -> None:
    """The same words, and one question more; roles alternate after the system prompt."""
    for session in by_session(asked(CHATS))[:10]:
        for before, after in pairwise(session):
            assert before.messages is not None
            assert after.messages is not None
            assert after.messages[: len(before.messages)] == before.messages
            assert [role for role, _ in after.messages[len(before.messages) :]] == ["assistant", "user"]
        last = session[-1].messages
        assert last is not None
        assert [words(content) for _, content in last] == [10, 20, 8, 5, 8, 5]
        assert [role for role, _ in last] == ["system", "user", "assistant", "user", "assistant", "user"]


def test_lengths_add_up() -> None:
    """Contents, and what a template adds to a question, to each turn more, and for a system prompt."""
    wording = Wording(overhead_tokens=7, turn_tokens=4, system_tokens=-2)
    first, second, third, *_ = asked(CHATS, wording=wording)
    assert [each.input_tokens for each in (first, second, third)] == [30 + 5, 43 + 9, 56 + 13]
    assert {each.output_tokens for each in (first, second, third)} == {8}


def test_what_a_cache_could_have_is_what_was_asked_before() -> None:
    """Nothing at the very first request; the system prompt for other sessions' first; then all of the last turn."""
    first, second, *_ = by_session(asked(CHATS))
    assert [each.shared_tokens for each in first] == [0, 30, 43]
    assert [each.shared_tokens for each in second] == [10, 30, 43]


def test_sessions_have_their_own_words_and_one_system_prompt() -> None:
    """Questions of two sessions have nothing in common."""
    contents = [session[-1].messages for session in by_session(asked(CHATS))]
    systems = {messages[0] for messages in contents if messages is not None}
    questions = [messages[1] for messages in contents if messages is not None]
    assert len(systems) == 1
    assert len(set(questions)) == len(questions) > 50


def test_users_of_a_closed_loop_begin_sessions_when_they_are_free() -> None:
    """No request has a time of its own."""
    found = asked(CHATS, arrivals=Closed(2), requests_max=30)
    assert {each.due_s for each in found} == {None}
    assert [each.after is None for each in found] == [True, False, False] * 10


def test_how_many_turns_one_session_has_changes_no_other() -> None:
    """Each has a chance of its own."""
    varied = Sessions(
        turns=tokens(4, spread="uniform", deviation=3),
        first_tokens=tokens(20, spread="normal", deviation=5),
        turn_tokens=tokens(5),
        output_tokens=tokens(8),
    )
    all_of_them = by_session(asked(varied, duration_s=3))
    assert {len(session) for session in all_of_them} == {1, 2, 3, 4, 5, 6, 7}
    longer = asked(
        msgspec.structs.replace(varied, turns=tokens(9, spread="uniform", deviation=3)), duration_s=3
    )
    assert [session[0].messages for session in by_session(longer)] == [
        session[0].messages for session in all_of_them
    ]
