"""Reconciling: a difference between engine and ledger is explained by what can cause it, or said to be unexplained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inferry.core.outcome import Ending, UsageFrom
from inferry.ledger.database import Database
from inferry.ledger.engine_counters import known_lives, ledger_share, note_lives
from inferry.ledger.outcome_store import OutcomeStore
from inferry.ledger.reconcile import (
    ABORT_TOKENS_MAX,
    Comparison,
    Counters,
    EngineLife,
    LedgerShare,
    in_doubt,
    reconcile,
)
from inferry.ledger.retention import prune

from .outcomes import NEW_YEAR_WALL_S, an_outcome

T = NEW_YEAR_WALL_S
SOURCE = "0" * 32


def a_life(completion: int | None, prompt: int | None = None, **changes: Any) -> EngineLife:
    fields: dict[str, Any] = {
        "source": SOURCE,
        "replica_id": "chat-0",
        "deployment": "chat",
        "engine": "vllm",
        "started_wall_s": T,
        "first": Counters(T, 0, 0),
        "last": Counters(T + 1000.0, prompt, completion),
    }
    return EngineLife(**(fields | changes))


def completion(
    life: EngineLife, share: LedgerShare, running: int | None = 0, warm_ups: int = 0
) -> Comparison:
    return reconcile(life, share, running=running, warm_ups=warm_ups)[0]


def test_equal_is_exact() -> None:
    """The same tokens on both sides, whatever might have made them differ."""
    found = completion(a_life(100), LedgerShare(requests=3, completion_tokens=90, counted_tokens=10))
    assert (found.verdict, found.difference, found.unexplained_tokens) == ("exact", 0, 0)


@pytest.mark.parametrize(
    ("share", "running", "warm_ups", "most"),
    [
        (LedgerShare(), 0, 1, 1),
        (LedgerShare(cut=2), 0, 0, 2 * ABORT_TOKENS_MAX),
        (LedgerShare(crashed=("a",)), 0, 0, ABORT_TOKENS_MAX),
        (LedgerShare(crashed=("a",), crashed_calls=1), 0, 0, None),
        (LedgerShare(late=1, late_tokens=40), 0, 0, 40),
        (LedgerShare(cut_unseen=1), 0, 0, None),
        (LedgerShare(moved_away=1), 0, 0, None),
        (LedgerShare(without_usage=1), 0, 0, None),
        (LedgerShare(), 1, 0, None),
    ],
)
def test_each_cause_explains_so_much_and_no_more(
    share: LedgerShare, running: int, warm_ups: int, most: int | None
) -> None:
    """Up to its bound a cause explains that the engine has more; one token beyond it does not."""
    few = 1 if most is None else most
    assert completion(a_life(few), share, running, warm_ups).verdict == "explained"
    if most is None:
        assert completion(a_life(10**6), share, running, warm_ups).verdict == "explained"
        return
    beyond = completion(a_life(most + 1), share, running, warm_ups)
    assert (beyond.verdict, beyond.unexplained_tokens) == ("unexplained", 1)


def test_requests_past_the_gateway_are_left_over() -> None:
    """Without a cause, the tokens that the engine has more are unexplained, all of them."""
    found = completion(a_life(150), LedgerShare(requests=1, completion_tokens=100))
    assert (found.verdict, found.unexplained_tokens, found.causes) == ("unexplained", 50, ())


def test_a_ledger_that_has_more_is_never_explained_away() -> None:
    """Only resumed requests and those of a crash let the ledger have more than its engine: it would be billed twice."""
    share = LedgerShare(completion_tokens=100, cut=5, late=3, late_tokens=50, without_usage=1)
    found = completion(a_life(90), share, running=2, warm_ups=1)
    assert (found.verdict, found.unexplained_tokens) == ("unexplained", -10)
    resumed = replace(share, resumed=1, resumed_tokens=10)
    assert completion(a_life(90), resumed, running=2, warm_ups=1).verdict == "explained"
    crashed = replace(share, crashed=("a",), crashed_tokens=10)
    assert completion(a_life(90), crashed, running=2, warm_ups=1).verdict == "explained"
    assert completion(a_life(89), crashed, running=2, warm_ups=1).verdict == "unexplained"


def test_an_engine_without_counters_is_unknown() -> None:
    """Where an engine tells nothing, nothing is claimed."""
    completion_, prompt = reconcile(a_life(None), LedgerShare(completion_tokens=5), running=0)
    assert (completion_.verdict, completion_.difference, prompt.verdict) == ("unknown", None, "unknown")


def test_an_engine_that_ran_before_is_compared_from_its_first_look() -> None:
    """Of an engine that others started, only the growth counts, and no warm-up of ours is in it."""
    life = a_life(1100, first=Counters(T + 10.0, None, 1000))
    assert completion(life, LedgerShare(completion_tokens=100), warm_ups=1).verdict == "exact"
    assert completion(life, LedgerShare(completion_tokens=99), warm_ups=1).verdict == "unexplained"


def test_the_ids_in_doubt_fit_into_a_line() -> None:
    """Twenty ids, and how many more there are."""
    assert in_doubt(LedgerShare(crashed=("a", "b"))) == "a, b"
    many = in_doubt(LedgerShare(crashed=tuple(f"{number}" for number in range(30))))
    assert many.endswith(" and 10 more")


def test_the_store_knows_the_share_of_each_life(database: Database) -> None:
    """Requests belong to the life in which they ended; what ended after the last look is late; others don't count."""
    first = a_life(50, 60, last=Counters(T + 100.0, 60, 50))
    second = a_life(
        7, 7, started_wall_s=T + 200.0, first=Counters(T + 200.0, 0, 0), last=Counters(T + 300.0, 7, 7)
    )
    note_lives(database, [first, second])

    def at(id: str, received_s: float, duration_s: float, **changes: Any) -> Any:
        return an_outcome(id, received_wall_s=T + received_s, duration_s=duration_s, **changes)

    counted = {
        "usage_from": UsageFrom.COUNTED,
        "ending": Ending.CANCELLED,
        "completion_tokens": 3,
        "stream": True,
    }
    unseen = {"usage_from": UsageFrom.NONE, "completion_tokens": None, "prompt_tokens": None}
    OutcomeStore(database, SOURCE).store(
        "f" * 32,
        0,
        1,
        [
            at("exact", 10.0, 5.0),
            at("cut", 20.0, 5.0, **counted),
            at("crashed", 30.0, 0.0, **counted | {"error_code": "gateway_crashed", "ending": Ending.FAILED}),
            at("gone", 30.0, 1.0, **unseen | {"ending": Ending.CANCELLED, "status": 499}),
            at("crashed call", 30.0, 0.0, **unseen | {"error_code": "gateway_crashed", "status": 500}),
            at("late", 99.0, 5.0),
            at("later", 102.0, 5.0),
            at("rejected", 40.0, 0.0, **unseen | {"ending": Ending.REJECTED, "status": 429}),
            at("silent", 40.0, 1.0, **unseen),
            at("resumed", 50.0, 1.0, resumes=1, completion_tokens=9),
            at("elsewhere", 50.0, 1.0, replica_id="chat-1", attempts=2),
            at("next life", 210.0, 1.0),
        ],
    )
    OutcomeStore(database, "1" * 32).store("e" * 32, 0, 1, [at("other host", 10.0, 5.0)])
    lives = known_lives(database)
    assert lives == [first, second]
    assert ledger_share(database, lives[0]) == LedgerShare(
        requests=2, prompt_tokens=20, completion_tokens=16, counted_tokens=6, counted_prompt_tokens=20, cut=1,
        cut_unseen=1, crashed=("crashed", "crashed call"), crashed_calls=1, crashed_tokens=3, without_usage=1, resumed=1, resumed_tokens=9, moved_away=1,
        late=1, late_prompt_tokens=10, late_tokens=7,
    )  # fmt: skip
    assert ledger_share(database, lives[1]) == LedgerShare(requests=1, prompt_tokens=10, completion_tokens=7)


def test_a_life_keeps_its_first_look(database: Database) -> None:
    """Looking again moves the last look on, and nothing else; lives are let go with the outcomes of their time."""
    note_lives(database, [a_life(5)])
    note_lives(database, [a_life(9, first=Counters(T + 50.0, 5, 5), last=Counters(T + 2000.0, None, 9))])
    assert known_lives(database) == [a_life(9, last=Counters(T + 2000.0, None, 9))]
    assert known_lives(database, since_wall_s=T + 2001.0) == []
    prune(database, T + 2001.0)
    assert known_lives(database) == []
